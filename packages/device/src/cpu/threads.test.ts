import { readdirSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { slice } from '../device.ts';
import { openCpuDevice } from './cpu-device.ts';
import { collectGarbage, Threads } from './threads.ts';

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
    const begunBy = async () => {
      await use(1);
      const before = readdirSync('/proc/self/task');
      await use(1);
      const after = readdirSync('/proc/self/task');
      return after.filter((thread) => !before.includes(thread));
    };
    // What earlier tests left behind in this process may begin a thread once, and no more.
    await expect.poll(begunBy, { timeout: 60_000 }).toEqual([]);
  },
);

/** Answers its task with how many it was given, and fails a moment after the first. */
const FAILS_IDLE = `
import { parentPort } from 'node:worker_threads';
let tasks = 0;
parentPort.on('message', ({ port }) => {
  tasks += 1;
  port.postMessage(tasks);
  port.close();
  parentPort.postMessage('idle');
  setTimeout(() => { throw new Error('of itself'); }, 5);
});
`;

it('a thread that fails while it waits harms nobody, and is not given the next task', async () => {
  const threads = new Threads(new URL(`data:text/javascript,${encodeURIComponent(FAILS_IDLE)}`));
  const failed: string[] = [];
  const answers: unknown[] = [];
  const run = async () => {
    const { port1, port2 } = new MessageChannel();
    const answer = new Promise((resolve) => port1.once('message', resolve));
    const { ended } = threads.start({ port: port2 }, (message) => failed.push(message));
    answers.push(await answer);
    await ended;
  };
  await run();
  await expect.poll(() => threads.idle, { timeout: 60_000 }).toBe(0);
  await run();
  expect(answers).toEqual([1, 1]);
  expect(failed).toEqual([]);
});
