import { expect, test, vi } from 'vitest';
import { startTestServer } from '../testing/test-server.ts';

test('what moves by itself is shown part by part, in /v1/bridge and in metrics', async () => {
  const server = await startTestServer();
  const plain = server.stub.stats();
  const window = {
    part: 'window',
    bytes: 96,
    places: [10, 20, 30],
    moved: {
      resident: [7, 8],
      spilled: 1,
      demoted: 2,
      restored: 3,
      avoided: 4,
      refused: 5,
      lost: 6,
    },
  } as const;
  const parts = [{ ...plain.kv.parts[0]!, places: [1, 2, 3] as const }, window];
  const stats = vi
    .spyOn(server.stub, 'stats')
    .mockReturnValue({ ...plain, kv: { ...plain.kv, parts: parts as typeof plain.kv.parts } });
  const answer = await fetch(`${server.url}/v1/bridge`);
  const { kv } = (await answer.json()) as { kv: { parts: unknown } };
  const { resident, ...events } = window.moved;
  expect(kv.parts).toEqual([
    { part: 'context', bytes: 512, places: { device: 1, host: 2, disk: 3 }, moved: null },
    {
      part: 'window',
      bytes: 96,
      places: { device: 10, host: 20, disk: 30 },
      moved: { resident: { host: 7, disk: 8 }, ...events },
    },
  ]);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const valuesOf = (name: string, ...labels: string[]) => {
    const lines = metrics.split('\n').filter((line) => line.startsWith(`bridgekeeper:${name}{`));
    const found = lines.filter((line) => labels.every((label) => line.includes(label)));
    return found.map((line) => Number(line.split(' ').at(-1)));
  };
  expect(valuesOf('kv_part_places', 'part="context"')).toEqual([1, 2, 3]);
  expect(valuesOf('kv_part_places', 'part="window"')).toEqual([10, 20, 30]);
  expect(valuesOf('kv_stored_parts', 'part="window"')).toEqual([7, 8]);
  expect(valuesOf('kv_stored_parts', 'part="context"')).toEqual([]);
  for (const [event, count] of Object.entries(events)) {
    expect(valuesOf('kv_moved_parts_total', 'part="window"', `event="${event}"`)).toEqual([count]);
  }
  stats.mockRestore();
  await server.stop(0);
});
