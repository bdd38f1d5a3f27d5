import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { bytesPerElement, checksumOf } from '@bridgekeeper/device/threads';
import { convertElements, storedBytes } from '@bridgekeeper/engine/loader';
import type { CheckOrder } from './check-contents.ts';

// Sums up what a range of a file should be on the device, block by block.

/** A multiple of every element and of the checksum's words. */
const BLOCK_BYTES = 4 * 1024 * 1024;
const raw = new Uint8Array(BLOCK_BYTES);

function sumOf({ path, filePosition, bytes, from, to }: CheckOrder): [number, number] {
  const descriptor = openSync(path, 'r');
  let [first, second, words] = [0, 0, 0];
  try {
    for (let done = 0; done < bytes; done += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, bytes - done);
      for (let got = 0; got < length; ) {
        const count = readSync(descriptor, raw, got, length - got, filePosition + done + got);
        if (count === 0) throw new Error(`${path} ends at ${filePosition + done + got}`);
        got += count;
      }
      const placed = placedBytes(raw.subarray(0, length), from, to);
      const [a, b] = checksumOf(placed, words);
      first = (first + a) >>> 0;
      second = (second + b) >>> 0;
      words = (words + placed.length / 4) >>> 0;
    }
  } finally {
    closeSync(descriptor);
  }
  return [first, second];
}

function placedBytes(
  stored: Uint8Array,
  from: CheckOrder['from'],
  to: CheckOrder['to'],
): Uint8Array {
  if (from === 'bytes' || to === 'bytes') return stored;
  const elements = stored.length / storedBytes(from);
  const target = new Uint8Array(elements * bytesPerElement(to));
  convertElements(stored, from, target, to, elements);
  return target;
}

parentPort!.on('message', (order: CheckOrder) => parentPort!.postMessage(sumOf(order)));
