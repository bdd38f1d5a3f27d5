import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { HostHandle, UploadedCopy, UploaderStart, UploadTarget } from '../device.ts';

/** What the thread copies: the host's bytes, piece by piece, in turn to the targets. */
export interface UploadTask {
  readonly start: UploaderStart;
  readonly host: HostHandle;
  /** All of one size, on streams of their own. */
  readonly targets: readonly UploadTarget[];
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
