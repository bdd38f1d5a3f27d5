import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { DeviceHandle, HostHandle, UploadedCopy, UploaderStart } from '../device.ts';

/** What the thread copies: the host's bytes, piece by piece, to the start of the device's. */
export interface UploadTask {
  readonly start: UploaderStart;
  readonly host: HostHandle;
  readonly device: DeviceHandle;
  readonly pieceBytes: number;
  readonly pieces: number;
}

/** Has another thread copy up by itself. Resolves to the copies it made. */
export async function runUploads(task: UploadTask): Promise<readonly UploadedCopy[]> {
  const worker = new Worker(new URL('./upload-worker.js', import.meta.url), { workerData: task });
  const ended = once(worker, 'exit');
  const [made] = await once(worker, 'message');
  await ended;
  return made as readonly UploadedCopy[];
}
