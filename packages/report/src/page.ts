import { escapeXml } from './escape-xml.ts';

/** A part of a page with a heading. `parts` are HTML, in their order. */
export function section(title: string, parts: readonly string[]): string {
  return `<section><h2>${escapeXml(title)}</h2>${parts.join('\n')}</section>`;
}

/** Rows of plain text under `heads`; all empty: without heads. */
export function htmlTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: 'th' | 'td', row: readonly string[]) =>
    row.map((text) => `<${tag}${spaceOf(text)}>${escapeXml(text)}</${tag}>`).join('');
  const head = heads.every((text) => text === '')
    ? ''
    : `<thead><tr>${cells('th', heads)}</tr></thead>`;
  const body = rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('');
  return `<div class="scroll"><table>${head}<tbody>${body}</tbody></table></div>`;
}

const SHORT_CHARACTERS = 24;

/** Numbers stay together with their units, and names in one line. */
const spaceOf = (text: string) => (text.length <= SHORT_CHARACTERS ? ' class="short"' : '');

/** Questions with their answers, and under each why. All plain text. */
export function answers(
  rows: readonly { readonly question: string; readonly answer: string; readonly because: string }[],
): string {
  const lines = rows.map(
    ({ question, answer, because }) =>
      `<tr><th>${escapeXml(question)}</th><td><strong>${escapeXml(answer)}</strong>` +
      `<div class="because">${escapeXml(because)}</div></td></tr>`,
  );
  return `<table class="answers">${lines.join('')}</table>`;
}

export const paragraph = (text: string): string => `<p>${escapeXml(text)}</p>`;

/** What a reader must know before believing the rest. */
export const caveat = (text: string): string => `<p class="caveat">${escapeXml(text)}</p>`;

/** A command line, to be copied. */
export const commandText = (text: string): string => `<pre><code>${escapeXml(text)}</code></pre>`;

/** Parts that are shown when `title` is opened. */
export function folded(title: string, parts: readonly string[]): string {
  return `<details><summary>${escapeXml(title)}</summary>${parts.join('\n')}</details>`;
}

/** Pictures side by side, where there is room. */
export const figures = (svgs: readonly string[]): string =>
  `<div class="figures">${svgs.map((svg) => `<figure>${svg}</figure>`).join('')}</div>`;

export const wideFigure = (svg: string): string => `<figure class="wide">${svg}</figure>`;

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1b1b; --faint: #555; --sheet: #fff; --line: #e3e3e3;
  --note: #fff3d6; --code: #f4f5f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --faint: #a8adb5; --sheet: #16181b;
  --line: #30343a; --note: #3a3018; --code: #202328; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--sheet);
  margin: 0 auto; max-width: 1120px; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 32px 0 10px; }
h3 { font-size: 16px; margin: 20px 0 6px; }
table { border-collapse: collapse; margin: 8px 0 16px; } .scroll { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--faint); font-weight: 600; } td { font-variant-numeric: tabular-nums; }
td.short { white-space: nowrap; }
.answers { width: 100%; } .answers th { width: 250px; font-weight: 600; }
.because { color: var(--faint); font-size: 14px; }
.caveat { background: var(--note); border-left: 4px solid #e69f00; padding: 8px 12px;
  margin: 8px 0; }
pre { background: var(--code); padding: 10px 12px; overflow-x: auto; font-size: 13px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px; }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
.figures figure { max-width: 560px; }
.wide { max-width: 1040px; margin: 8px 0 16px; }
summary { cursor: pointer; margin: 8px 0; }
footer { color: var(--faint); font-size: 13px; margin-top: 32px; }
`;

/** A whole page around its sections: one file, no scripts, nothing loaded from elsewhere. */
export function page(title: string, madeBy: string, sections: readonly string[]): string {
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeXml(title)}</title><style>${STYLE}</style></head><body>`,
    `<h1>${escapeXml(title)}</h1>`,
    ...sections,
    `<footer>Made by ${escapeXml(madeBy)}.</footer></body></html>`,
    '',
  ].join('\n');
}
