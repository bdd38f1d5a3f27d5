import { colourOf, label, rectangle, svgDocument } from './svg.ts';

/** A length out of a whole, both with their numbers. */
export interface Bar {
  readonly name: string;
  readonly part: number;
  readonly whole: number;
}

const WIDTH = 1040;
const FIRST_TOP = 44;
const BAR_HEIGHT = 30;
/** On the left for names, and on the right for numbers. */
const TEXT_WIDTH = 190;
const PART = colourOf(1);
const WHOLE = '#dcdcdc';

/** Horizontal bars on one scale; `text` gives the numbers beside them. */
export function drawBars(
  title: string,
  names: readonly [part: string, whole: string],
  bars: readonly Bar[],
  text: (value: number) => string,
): string {
  const most = Math.max(...bars.map(({ whole, part }) => Math.max(whole, part)), 1e-9);
  const lengthOf = (value: number) => Math.max(1, (value / most) * (WIDTH - 2 * TEXT_WIDTH));
  const rows = bars.map(({ name, part, whole }, index) => {
    const top = FIRST_TOP + BAR_HEIGHT * index;
    const numbers = `${text(part)} of ${text(Math.max(part, whole))}`;
    return [
      label([TEXT_WIDTH - 10, top + 15], name, 'text-anchor="end"'),
      rectangle([TEXT_WIDTH, top], lengthOf(whole), 20, WHOLE, 'class="whole"'),
      rectangle([TEXT_WIDTH, top + 4], lengthOf(part), 12, PART),
      label([TEXT_WIDTH + lengthOf(whole) + 8, top + 15], numbers, 'class="faint" fill="#444"'),
    ].join('');
  });
  const height = FIRST_TOP + 12 + BAR_HEIGHT * bars.length;
  return svgDocument({ width: WIDTH, height, title, titleAt: [0, 18], fontSize: 12 }, [
    legend(TEXT_WIDTH, names[0], PART),
    legend(TEXT_WIDTH + 260, names[1], WHOLE, 'class="whole"'),
    ...rows,
  ]);
}

function legend(left: number, name: string, colour: string, attributes = ''): string {
  return rectangle([left, 26], 12, 10, colour, attributes) + label([left + 18, 35], name);
}
