import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { openCpuDevice, slice } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import type { ReadMessage, ReadReply } from './read-protocol.ts';

test('a thread that is to end while it gets ready says so once it holds nothing', async () => {
  const device = await openCpuDevice({ threads: 1 });
  const worker = new Worker(new URL('./read-worker.js', import.meta.url));
  const post = (message: ReadMessage) => worker.postMessage(message);
  const replies: string[] = [];
  worker.on('message', ({ kind }: ReadReply) => replies.push(kind));
  try {
    const buffers = [device.hostHandle(device.allocateHost(4096, 'pinned', 'pieces'))];
    const uploads = { start: device.uploaderStart()!, buffers };
    post({ kind: 'files', files: [], uploads });
    post({ kind: 'end' });
    const to = slice(device.allocate(4096, 'target'));
    const target = await device.uploadTarget(to, device.createStream('uploads'));
    const piece = { file: 0, position: 0, bytes: 4096, direct: false } as const;
    const order = { kind: 'upload', target, stages: 'cross', ...piece } as const;
    // What it was to copy up with is gone.
    post({ ...order, number: 1 });
    while (replies.length < 2) await once(worker, 'message');
    expect(replies).toEqual(['ended', 'failed']);
    // And it takes the next load's.
    post({ kind: 'files', files: [], uploads });
    post({ ...order, number: 2 });
    await once(worker, 'message');
    expect(replies.at(-1)).toBe('done');
  } finally {
    await worker.terminate();
    await device.close();
  }
});
