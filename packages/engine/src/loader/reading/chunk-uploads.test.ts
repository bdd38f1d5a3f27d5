import { type Device, openCpuDevice, type Slice, slice } from '@bridgekeeper/device';
import { openUploader } from '@bridgekeeper/device/threads';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ModelError } from '../../models/errors.ts';
import { ChunkUploads } from './chunk-uploads.ts';
import type { UploadOrder, UploadStages } from './read-protocol.ts';

const PIECE = 1000;
let device: Device;
let target: Slice;
beforeAll(async () => {
  device = await openCpuDevice({ threads: 1 });
  target = slice(device.allocate(8 * PIECE, 'chunk uploads'));
});
afterAll(() => device.close());

/** Bytes are their position modulo 251; those from `brokenFrom` on cannot be read. */
async function openUploads(brokenFrom = Number.POSITIVE_INFINITY) {
  const done: { number: number; copies: number; readNs: number }[] = [];
  const hosts = [0, 1].map((i) => device.allocateHost(PIECE, 'pinned', `buffer ${i}`));
  const uploads = new ChunkUploads({
    uploader: await openUploader(device.uploaderStart()!),
    buffers: hosts.map((host) => device.hostHandle(host)),
    fill: (_order, position, bytes) => {
      if (position >= brokenFrom) throw new ModelError('unreadable', `at ${position}`);
      bytes.forEach((_, i) => {
        bytes[i] = (position + i) % 251;
      });
      return { readNs: 1, decryptNs: 0 };
    },
    onDone: ({ number, copies, times }) =>
      done.push({ number, copies: copies.length, readNs: times.readNs }),
  });
  const order = async (number: number, position: number, bytes: number, at: number) =>
    uploads.upload(await orderOf(number, position, bytes, at, 'both'));
  return { uploads, order, done };
}

async function orderOf(
  number: number,
  position: number,
  bytes: number,
  at: number,
  stages: UploadStages,
): Promise<UploadOrder> {
  const part = slice(target.buffer, at, bytes);
  const source = { file: 0, position, bytes, direct: false };
  const there = await device.uploadTarget(part, device.createStream('chunk uploads'));
  return { kind: 'upload', number, ...source, target: there, stages };
}

async function arrived(at: number, bytes: number): Promise<number[]> {
  const host = device.allocateHost(bytes, 'pinned', 'arrived');
  await device.inlineLane.copy({
    direction: 'd2h',
    device: slice(target.buffer, at, bytes),
    host,
    hostOffsetBytes: 0,
    stream: device.createStream('arrived'),
    purpose: 'probe',
    tenant: 'test',
  });
  return [...host.bytes];
}

const read = (position: number, bytes: number) =>
  Array.from({ length: bytes }, (_, i) => (position + i) % 251);

test('chunks arrive whole, whatever is left of a piece, and are reported in order', async () => {
  const { uploads, order, done } = await openUploads();
  await order(7, 5, 2500, 0);
  await order(8, 90_000, 1, 2500);
  await order(9, 40, 4000, 3000);
  uploads.finish();
  expect(done).toEqual([
    { number: 7, copies: 3, readNs: 3 },
    { number: 8, copies: 1, readNs: 1 },
    { number: 9, copies: 4, readNs: 4 },
  ]);
  expect(await arrived(0, 2501)).toEqual([...read(5, 2500), ...read(90_000, 1)]);
  expect(await arrived(3000, 4000)).toEqual(read(40, 4000));
});

test('each stage alone', async () => {
  const { uploads, order, done } = await openUploads();
  await order(1, 100, 2000, 0);
  uploads.finish();
  const before = device.counters().copies;
  uploads.upload(await orderOf(2, 300, 2000, 4000, 'read'));
  expect(done.at(-1)).toEqual({ number: 2, copies: 0, readNs: 2 });
  expect(device.counters().copies).toBe(before);
  uploads.upload(await orderOf(3, 0, 2000, 4000, 'cross'));
  uploads.finish();
  expect(done.at(-1)).toEqual({ number: 3, copies: 2, readNs: 0 });
  expect(await arrived(4000, 2000)).toEqual(read(300, 2000));
});

test('a chunk that cannot be read fails alone: others before and after it arrive', async () => {
  const { uploads, order, done } = await openUploads(5000);
  await order(1, 0, 3000, 0);
  await expect(order(2, 4000, 3000, 3000)).rejects.toThrow('at 5000');
  await order(3, 1000, 1500, 6000);
  uploads.finish();
  expect(done.map(({ number }) => number)).toEqual([1, 3]);
  expect(await arrived(0, 3000)).toEqual(read(0, 3000));
  expect(await arrived(6000, 1500)).toEqual(read(1000, 1500));
  expect(uploads.abandon()).toEqual([]);
});
