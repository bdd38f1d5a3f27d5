import { openSync, readSync } from 'node:fs';
import { SHARED_TENANT } from '@bridgekeeper/bridge';
import { type Device, type DeviceBuffer, slice } from '@bridgekeeper/device';
import { Traffic } from '@bridgekeeper/engine';
import { type Checkpoint, openCheckpoint } from '@bridgekeeper/engine/loader';
import type { MeasuredRun } from '@bridgekeeper/report';

/** What a load the plain way took. */
interface PlainLoad {
  readonly bytes: number;
  readonly totalSeconds: number;
  readonly readSeconds: number;
  readonly crossSeconds: number;
  readonly allocateSeconds: number;
  readonly tensors: number;
}

/**
 * Loads as engines do by default: one thread, one context, tensor by tensor, each into memory of
 * its own, from pageable memory that the page cache was copied into (by read calls, which stand for
 * a mapping's page faults). The measure of what a loader is worth; nothing else uses it.
 */
async function loadThePlainWay(checkpoint: Checkpoint, device: Device): Promise<PlainLoad> {
  const { clock } = device;
  // Uncut: nothing is known of the bridge.
  const { launching } = new Traffic({ device, profile: null });
  const startedNs = clock.nowNs();
  const descriptors = checkpoint.chunkFiles.map(({ path }) => openSync(path, 'r'));
  const tensors = [...checkpoint.tensors.values()].filter(({ bytes }) => bytes > 0);
  const largest = Math.max(...tensors.map(({ bytes }) => bytes));
  const host = device.allocateHost(largest, 'pageable', 'one tensor');
  const stream = device.createStream('one tensor');
  const buffers: DeviceBuffer[] = [];
  const spentNs = { read: 0, cross: 0, allocate: clock.nowNs() - startedNs };
  const timed = <T>(stage: keyof typeof spentNs, act: () => T): T => {
    const fromNs = clock.nowNs();
    const result = act();
    spentNs[stage] += clock.nowNs() - fromNs;
    return result;
  };
  let bytes = 0;
  try {
    for (const tensor of tensors) {
      timed('read', () => {
        const target = host.bytes.subarray(0, tensor.bytes);
        const descriptor = descriptors[tensor.file]!;
        for (let done = 0; done < tensor.bytes; ) {
          const left = tensor.bytes - done;
          done += readSync(descriptor, target, done, left, tensor.offsetBytes + done);
        }
      });
      const buffer = timed('allocate', () => device.allocate(tensor.bytes, tensor.name));
      buffers.push(buffer);
      const fromNs = clock.nowNs();
      await launching.cross({
        direction: 'h2d',
        device: slice(buffer),
        host,
        hostOffsetBytes: 0,
        stream,
        purpose: 'weights',
        tenant: SHARED_TENANT,
      });
      spentNs.cross += clock.nowNs() - fromNs;
      bytes += tensor.bytes;
    }
    return {
      bytes,
      totalSeconds: (clock.nowNs() - startedNs) / 1e9,
      readSeconds: spentNs.read / 1e9,
      crossSeconds: spentNs.cross / 1e9,
      allocateSeconds: spentNs.allocate / 1e9,
      tensors: tensors.length,
    };
  } finally {
    for (const buffer of buffers) device.free(buffer);
    device.freeHost(host);
  }
}

/** The same as a run of the suite `load`. */
export async function plainRun(
  model: string,
  device: Device,
  parameters: MeasuredRun['parameters'],
): Promise<MeasuredRun> {
  const checkpoint = await openCheckpoint(model);
  try {
    const load = await loadThePlainWay(checkpoint, device);
    const { bytes, totalSeconds } = load;
    const metrics = { ...load, totalGBps: bytes / totalSeconds / 1e9 };
    return { parameters: { path: 'plain', ...parameters }, metrics, repeats: 1, spread: {} };
  } finally {
    await checkpoint.close();
  }
}
