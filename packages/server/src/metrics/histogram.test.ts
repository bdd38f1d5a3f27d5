import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { tokenCounts } from './buckets.ts';
import { Histogram } from './histogram.ts';

test('counts as prom-client does, under both of its names', async () => {
  const histogram = new Histogram('a:b', 'Help.', { m: 'x' }, [1, 2, 5]);
  for (const value of [0.5, 1, 1.5, 5, 6]) histogram.observe(value);
  const registry = new Registry();
  registry.registerMetric(histogram as never);
  registry.registerMetric(histogram.alias('old', 'Old.') as never);
  const text = await registry.metrics();
  for (const name of ['a:b', 'old']) {
    expect(text).toContain(`${name}_bucket{le="1",m="x"} 2`);
    expect(text).toContain(`${name}_bucket{le="2",m="x"} 3`);
    expect(text).toContain(`${name}_bucket{le="5",m="x"} 4`);
    expect(text).toContain(`${name}_bucket{le="+Inf",m="x"} 5`);
    expect(text).toContain(`${name}_sum{m="x"} 14`);
    expect(text).toContain(`${name}_count{m="x"} 5`);
  }
});

test('token buckets go 1, 2, 5 up to the context', () => {
  expect(tokenCounts(512)).toEqual([1, 2, 5, 10, 20, 50, 100, 200, 500]);
});
