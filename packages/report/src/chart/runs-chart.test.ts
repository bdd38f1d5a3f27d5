import { expect, test } from 'vitest';
import type { MeasuredRun } from '../result.ts';
import { plotRuns } from './runs-chart.ts';

const run = (law: string, concurrency: number, rate: number): MeasuredRun => ({
  parameters: { law, concurrency, policy: 'p' },
  metrics: { rate },
  repeats: 1,
  spread: {},
});
const spec = { title: 'T & U', x: 'concurrency', y: 'rate', colour: 'policy', dash: 'law' };

test('draws a line for each law, in percent of the best at each x', () => {
  const runs = [run('off', 8, 40), run('off', 1, 10), run('a<b', 1, 9), run('a<b', 8, 32)];
  const svg = plotRuns(runs, spec);
  const paths = [...svg.matchAll(/<path d="M([\d. L]+)" fill="none"/g)].map((match) =>
    match[1]!.split('L').map((point) => point.split(' ').map(Number)),
  );
  expect(paths).toHaveLength(2);
  const [off, other] = paths as [number[][], number[][]];
  expect(off[0]![0]).toBeLessThan(off[1]![0]!);
  // The best is at the top; 80 % lies twice as far below it as 90 %.
  expect(off.map((point) => point[1])).toEqual([48, 48]);
  expect(other[1]![1]! - 48).toBeCloseTo(2 * (other[0]![1]! - 48), 0);
  expect(svg).toContain('a&lt;b');
  expect(svg).toContain('T &amp; U');
  expect(svg).not.toContain('NaN');
});

test('draws nothing wrong where everything is zero', () => {
  expect(plotRuns([run('off', 1, 0)], spec)).not.toMatch(/NaN|Infinity/);
});
