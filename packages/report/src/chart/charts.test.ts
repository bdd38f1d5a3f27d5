import { expect, test } from 'vitest';
import { drawStacks } from './stack-chart.ts';
import { drawTimeline } from './timeline-chart.ts';

const ms = (value: number) => `${value} ms`;

/** Left edge and width of what is filled in one colour, in pixels. */
function rectangles(svg: string, colour: string): [number, number][] {
  const found = svg.matchAll(
    /<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="2\d" fill="(#\w+)"/g,
  );
  return [...found]
    .filter((one) => one[3] === colour)
    .map((one) => [Number(one[1]), Number(one[2])]);
}

const legendColour = (svg: string, name: string): string =>
  new RegExp(`height="10" fill="(#\\w+)"/><text[^>]*>${name}<`).exec(svg)![1]!;

test('bars lie part by part on one scale', () => {
  const bars = [
    { name: 'a <b>', values: [10, 30] },
    { name: 'c', values: [20, 0] },
  ];
  const svg = drawStacks({ title: 'T', parts: ['one', 'two'], bars, text: ms });
  const ones = rectangles(svg, legendColour(svg, 'one'));
  const twos = rectangles(svg, legendColour(svg, 'two'));
  expect(ones).toHaveLength(2);
  expect(twos).toHaveLength(1);
  expect(ones[1]![1]).toBeCloseTo(2 * ones[0]![1], 0);
  expect(twos[0]![0]).toBeCloseTo(ones[0]![0] + ones[0]![1], 0);
  expect(twos[0]![1]).toBeCloseTo(3 * ones[0]![1], 0);
  expect(svg).toContain('40 ms');
  expect(svg).toContain('a &lt;b>');
});

test('bars of nothing make no NaN', () => {
  const bars = [{ name: 'none', values: [0, 0] }];
  expect(drawStacks({ title: '', parts: ['a', 'b'], bars, text: ms })).not.toMatch(/NaN|Infinity/);
});

test('a timeline shows what lies in its window, cut at its edges', () => {
  const spans = [
    { startNs: 0, endNs: 50, kind: 'kernel' },
    { startNs: 150, endNs: 160, kind: 'copy', detail: 'tokens, 8 B' },
    { startNs: 500, endNs: 600, kind: 'kernel' },
  ];
  const tracks = [{ name: 'stream', spans }];
  const spec = { title: 'T', kinds: ['kernel', 'copy'], tracks, fromNs: 25, toNs: 225, text: ms };
  const svg = drawTimeline(spec);
  const kernels = rectangles(svg, legendColour(svg, 'kernel'));
  const copies = rectangles(svg, legendColour(svg, 'copy'));
  expect(kernels).toHaveLength(1);
  expect(copies).toHaveLength(1);
  // 25 of the 200 that are visible, and 10.
  expect(kernels[0]![1]).toBeCloseTo(2.5 * copies[0]![1], 0);
  expect(svg).toContain('copy, tokens, 8 B: 10 ms');
});

test('a timeline of more than can be drawn says so', () => {
  const spans = Array.from({ length: 5000 }, (_, at) => {
    return { startNs: at, endNs: at + 1, kind: 'k' };
  });
  const spec = { title: '', kinds: ['k'], tracks: [{ name: '', spans }], fromNs: 0, toNs: 5000 };
  expect(drawTimeline({ ...spec, text: ms })).toContain('1000 more spans are not drawn');
});
