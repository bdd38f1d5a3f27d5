import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type Device, type DeviceBuffer, slice } from '@bridgekeeper/device';
import type { Traffic } from '@bridgekeeper/engine';
import type { Checkpoint, StoredPart } from '@bridgekeeper/engine/loader';

/** A range of a file, and what the device should hold of it. */
export interface CheckOrder {
  readonly path: string;
  readonly filePosition: number;
  readonly bytes: number;
  readonly from: StoredPart['shape']['from'];
  readonly to: StoredPart['shape']['to'];
}

export interface CheckedContents {
  readonly parts: number;
  readonly bytes: number;
  /** Names of tensors whose contents differ. */
  readonly differing: readonly string[];
  /** Parts that hold only some columns of a tensor, which are not compared. */
  readonly leftOut: number;
}

/**
 * Compares what lies on the device with the files, by the device's checksum and the host's: files
 * are read again by threads of their own. Encrypted files cannot be compared so.
 */
export async function checkContents({
  device,
  traffic,
  checkpoint,
  parts,
  buffers,
}: {
  readonly device: Device;
  readonly traffic: Traffic;
  readonly checkpoint: Checkpoint;
  readonly parts: readonly StoredPart[];
  readonly buffers: readonly DeviceBuffer[];
}): Promise<CheckedContents> {
  const whole = parts.filter(
    ({ shape }) => shape.columnsFrom === 0 && shape.columnsTo === shape.columns,
  );
  const paths = checkpoint.chunkFiles.map(({ path }) => path);
  const orders = whole.map(
    ({ file, filePosition, bytes, shape: { from, to } }): CheckOrder => ({
      path: paths[file]!,
      filePosition,
      bytes,
      from,
      to,
    }),
  );
  const [expected, found] = await Promise.all([
    fileSums(orders),
    deviceSums(device, traffic, whole, buffers),
  ]);
  const differing = whole.filter(
    (_, i) => expected[2 * i] !== found[2 * i] || expected[2 * i + 1] !== found[2 * i + 1],
  );
  return {
    parts: whole.length,
    bytes: whole.reduce((total, { outBytes }) => total + outBytes, 0),
    differing: differing.map(({ name }) => name),
    leftOut: parts.length - whole.length,
  };
}

async function fileSums(orders: readonly CheckOrder[]): Promise<Uint32Array> {
  const sums = new Uint32Array(orders.length * 2);
  const threads = Math.max(1, Math.min(availableParallelism() - 1, orders.length));
  const next = { index: 0 };
  await Promise.all(
    Array.from({ length: threads }, () => {
      const worker = new Worker(new URL('./check-worker.js', import.meta.url));
      return new Promise<void>((resolve, reject) => {
        let index = 0;
        const deal = () => {
          index = next.index++;
          const order = orders[index];
          if (order !== undefined) worker.postMessage(order);
          else void worker.terminate().then(() => resolve());
        };
        worker.on('message', (pair: [number, number]) => {
          sums.set(pair, 2 * index);
          deal();
        });
        worker.on('error', reject);
        deal();
      });
    }),
  );
  return sums;
}

async function deviceSums(
  device: Device,
  traffic: Traffic,
  parts: readonly StoredPart[],
  buffers: readonly DeviceBuffer[],
): Promise<Uint32Array> {
  const stream = device.createStream('checksums');
  const bytes = Math.max(1, parts.length) * 16;
  const table = device.allocate(bytes, 'checksums');
  try {
    for (const [i, { arena, offsetBytes, outBytes }] of parts.entries()) {
      stream.launch('checksum', {
        input: slice(buffers[arena]!, offsetBytes, outBytes),
        bytes: outBytes,
        out: slice(table, 16 * i, 8),
      });
    }
    const words = new Uint32Array((await traffic.download(slice(table), stream, 'probe')).buffer);
    return Uint32Array.from({ length: parts.length * 2 }, (_, i) => {
      return words[4 * (i >> 1) + (i & 1)]!;
    });
  } finally {
    device.free(table);
  }
}
