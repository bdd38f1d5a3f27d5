import { expect, test } from 'vitest';
import { plotRuns } from './plot.ts';
import type { BenchRun } from './result.ts';

const run = (law: string, concurrency: number, rate: number): BenchRun => ({
  parameters: { law, concurrency },
  metrics: { rate },
  repeats: 1,
  spread: {},
});

test('draws a line for each series, through its points in order', () => {
  const runs = [run('off', 8, 40), run('off', 1, 10), run('a<b', 1, 5), run('a<b', 8, 20)];
  const spec = { title: 'T & U', x: 'concurrency', y: 'rate', series: ['law'] };
  const svg = plotRuns(runs, spec);
  const paths = [...svg.matchAll(/<path d="M([\d. L]+)" fill="none"/g)].map((match) =>
    match[1]!.split('L').map((point) => point.split(' ').map(Number)),
  );
  expect(paths).toHaveLength(2);
  const [off, other] = paths as [number[][], number[][]];
  expect(off[0]![0]).toBeLessThan(off[1]![0]!);
  // Twice the rate is twice as high above the axis, whose zero both lines share.
  const zero = 400 - 56;
  expect(zero - off[1]![1]!).toBeCloseTo(2 * (zero - other[1]![1]!), 0);
  expect(svg).toContain('a&lt;b');
  expect(svg).toContain('T &amp; U');
  expect(svg).not.toContain('NaN');
});

test('draws nothing wrong where everything is zero', () => {
  const svg = plotRuns([run('off', 1, 0)], {
    title: '',
    x: 'concurrency',
    y: 'rate',
    series: ['law'],
  });
  expect(svg).not.toMatch(/NaN|Infinity/);
});
