import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { HostHandle } from '../device.ts';

const WORKER = new URL('./reader-worker.js', import.meta.url);

/** What a thread of its own reads into host memory: itself. */
export const READ_BYTES: Uint8Array = readFileSync(WORKER);

/** Has another thread read a file into host memory. Resolves to the bytes that it read. */
export async function readInThread(handle: HostHandle): Promise<number> {
  const worker = new Worker(WORKER, { workerData: { handle, path: fileURLToPath(WORKER) } });
  const ended = once(worker, 'exit');
  const [bytes] = await once(worker, 'message');
  await ended;
  return bytes as number;
}
