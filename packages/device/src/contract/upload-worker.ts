/** Copies up from a thread of its own, with as many copies under way as there may be. */

import { parentPort, workerData } from 'node:worker_threads';
import type { UploadedCopy } from '../device.ts';
import { openUploader } from '../open-uploader.ts';
import { UPLOADS_MAX } from '../uploader.ts';
import type { UploadTask } from './uploads.ts';

const { start, host, targets, pieceBytes, pieces } = workerData as UploadTask;
const uploader = await openUploader(start);
const made: UploadedCopy[] = [];
for (let piece = 0; piece < pieces; piece++) {
  made.push(...uploader.wait(UPLOADS_MAX - 1));
  const target = targets[piece % targets.length]!;
  const targetOffsetBytes = Math.floor(piece / targets.length) * pieceBytes;
  const from = { host, hostOffsetBytes: piece * pieceBytes };
  uploader.begin({ ...from, target, targetOffsetBytes, bytes: pieceBytes });
}
made.push(...uploader.wait(0));
uploader.close();
parentPort?.postMessage(made);
