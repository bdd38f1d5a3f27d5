import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { slice } from '../device.ts';
import { openCpuDevice } from './cpu-device.ts';
import { collectGarbage } from './threads.ts';

const MEGABYTES = 96;

/** Opens a device, writes to its memory, closes it. Returns what the process took meanwhile. */
async function use(megabytes: number): Promise<number> {
  const device = await openCpuDevice({ threads: 2 });
  const stream = device.createStream('all of it');
  const buffer = device.allocate(megabytes * 2 ** 20, 'large');
  const fill = { elements: megabytes * 2 ** 18, type: 'f32', mean: 0, spread: 1, seed: 1 } as const;
  stream.launch('fill-uniform', { out: slice(buffer), ...fill });
  await stream.synchronize();
  const { rss } = process.memoryUsage();
  await device.close();
  return rss;
}

it('threads that wait for the next device hold nothing of the one before', async () => {
  await use(1);
  const full = await use(MEGABYTES);
  collectGarbage();
  const least = full - 0.7 * MEGABYTES * 2 ** 20;
  await expect.poll(() => process.memoryUsage().rss, { timeout: 60_000 }).toBeLessThan(least);
});

// Linux has a folder of each thread.
it.runIf(process.platform === 'linux')(
  'a device that is opened anew has the same threads',
  async () => {
    await use(1);
    const before = readdirSync('/proc/self/task');
    await use(1);
    const after = readdirSync('/proc/self/task');
    expect(after.filter((thread) => !before.includes(thread))).toEqual([]);
  },
);
