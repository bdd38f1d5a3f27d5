import type { ShellCommand, Word } from './words.ts';

export type QuoteStyle = 'none' | 'single' | 'double';

/** How a word of the source is quoted, by its first quote. */
export function quoteStyleOf({ source }: ShellCommand, { start, end }: Word): QuoteStyle {
  const quote = /['"]/.exec(source.slice(start, end))?.[0];
  if (quote === undefined) return 'none';
  return quote === "'" ? 'single' : 'double';
}

/** The style a new word takes: double only where the command uses no single quotes. */
export function usualStyle(command: ShellCommand): QuoteStyle {
  const styles = command.words.map((word) => quoteStyleOf(command, word));
  return styles.includes('double') && !styles.includes('single') ? 'double' : 'single';
}

/** Text as one shell word; without quotes where none are needed, whatever the style. */
export function quoteWord(text: string, style: QuoteStyle): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  if (style === 'double') return `"${text.replace(/[$`"\\]/g, '\\$&')}"`;
  return `'${text.replaceAll("'", "'\\''")}'`;
}
