const WIDTH = 96;
const LABEL_WIDTH = 6;

/** Lines of words, each with the margin; a word longer than a line gets one to itself. */
export function wrap(text: string, margin: string): string[] {
  const lines: string[] = [];
  let line = margin;
  for (const word of printable(text).split(/\s+/)) {
    const next = line === margin ? margin + word : `${line} ${word}`;
    if (next.length > WIDTH && line !== margin) {
      lines.push(line);
      line = margin + word;
    } else {
      line = next;
    }
  }
  return [...lines, line];
}

/** A label before the first line, the others below its text. */
export function labelled(label: string, text: string, margin: string): string[] {
  const rest = ' '.repeat(margin.length + LABEL_WIDTH);
  const [first, ...others] = wrap(text, rest);
  return [`${margin}${label.padEnd(LABEL_WIDTH)}${first!.trimStart()}`, ...others];
}

/** Evidence is a stranger's: its control characters could repaint the terminal that shows it. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
}
