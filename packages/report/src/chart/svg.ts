import { escapeXml } from '../escape-xml.ts';

/** Okabe and Ito's palette, told apart by colour-blind readers too, and two more. */
const COLOURS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#8067b7',
  '#808080',
] as const;

/** The colour of the series with this index; colours repeat after the eighth. */
export const colourOf = (index: number): string => COLOURS[index % COLOURS.length]!;

/** A point in pixels from the upper left corner. */
export type Point = readonly [x: number, y: number];

export interface Sheet {
  readonly width: number;
  readonly height: number;
  readonly title: string;
  /** Where the title stands. */
  readonly titleAt: Point;
  readonly fontSize: number;
}

/** Where a reader prefers dark pages: what is light becomes dark, series keep their colours. */
const DARK =
  '@media (prefers-color-scheme: dark) { .chart .sheet { fill: #16181b } ' +
  '.chart text { fill: #e4e6e9 } .chart .faint { fill: #a8adb5 } ' +
  '.chart .grid { stroke: #30343a } .chart .axis { stroke: #7a7f87 } ' +
  '.chart .whole { fill: #3b4047 } .chart text.on { fill: #1b1b1b } }';

/**
 * A picture as one SVG document, without scripts, fit for a page and for a file of its own. `parts`
 * are elements, drawn in their order.
 */
export function svgDocument(sheet: Sheet, parts: readonly string[]): string {
  const { width, height, title, titleAt, fontSize } = sheet;
  return [
    `<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
      'role="img" ' +
      `font-family="system-ui, sans-serif" font-size="${fontSize}">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${DARK}</style>`,
    `<rect class="sheet" width="${width}" height="${height}" fill="white"/>`,
    label(titleAt, title, `font-size="${fontSize + 2}" font-weight="600"`),
    ...parts,
    '</svg>',
  ].join('\n');
}

/** Text on its base line; `attributes` as in SVG. */
export function label([x, y]: Point, text: string, attributes = ''): string {
  const more = attributes === '' ? '' : ` ${attributes}`;
  return `<text x="${px(x)}" y="${px(y)}"${more}>${escapeXml(text)}</text>`;
}

/** A line through points; `dash` is SVG's dash array, empty for a solid line. */
export function line(points: readonly Point[], colour: string, width: number, dash = ''): string {
  const path = points.map(([x, y]) => `${px(x)} ${px(y)}`).join('L');
  const dashes = dash === '' ? '' : ` stroke-dasharray="${dash}"`;
  return `<path d="M${path}" fill="none" stroke="${colour}" stroke-width="${width}"${dashes}/>`;
}

/** A filled rectangle; `attributes` as in SVG. */
export function rectangle(
  [x, y]: Point,
  width: number,
  height: number,
  colour: string,
  attributes = '',
): string {
  const more = attributes === '' ? '' : ` ${attributes}`;
  const size = `width="${px(width)}" height="${px(height)}"`;
  return `<rect x="${px(x)}" y="${px(y)}" ${size} fill="${colour}"${more}/>`;
}

/** A length in pixels, to a tenth. */
export const px = (value: number): string => String(Number(value.toFixed(1)));
