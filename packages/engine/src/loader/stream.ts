import { type CrossingRecord, invariant, SHARED_TENANT } from '@bridgekeeper/bridge';
import {
  bytesPerElement,
  type Device,
  type DeviceBuffer,
  type HostBuffer,
  type Lane,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import type { PlannedTensor } from '../models/weights.ts';
import type { Checkpoint } from './checkpoint.ts';
import { convertElements, storedBytes } from './convert.ts';
import type { Layout } from './layout.ts';
import type { LoadProgress } from './load.ts';
import { type FilePart, type Window, windowsOf } from './windows.ts';

/** Bytes read at a time where elements are converted on their way to the staging buffer. */
const SCRATCH_BYTES = 4 * 1024 * 1024;

export interface StreamOptions {
  readonly device: Device;
  readonly lanes: readonly Lane[];
  readonly checkpoint: Checkpoint;
  /** Of FP8 matrices. */
  readonly scales: ReadonlyMap<PlannedTensor, Uint8Array>;
  readonly layout: Layout;
  readonly buffers: readonly DeviceBuffer[];
  readonly stagingBytes: number;
  readonly onCrossing: (record: CrossingRecord) => void;
  readonly report: (change: Partial<LoadProgress>) => void;
}

/** Fills windows from files, and accounts for the time it takes. */
class WindowReader {
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readNs = 0;
  convertNs = 0;

  constructor(device: Device, checkpoint: Checkpoint) {
    this.#device = device;
    this.#checkpoint = checkpoint;
  }

  /** Puts the window's pieces into `target`, converted to what the device holds. */
  async fill(window: Window, target: Uint8Array): Promise<void> {
    for (const { source, windowOffsetBytes, bytes } of window.pieces) {
      const place = target.subarray(windowOffsetBytes, windowOffsetBytes + bytes);
      if (source instanceof Uint8Array) place.set(source);
      else await this.#fillFrom(source, place);
    }
  }

  async #fillFrom({ file, filePosition, convertFrom }: FilePart, target: Uint8Array) {
    if (convertFrom === null) {
      await this.#read(file, filePosition, target);
      return;
    }
    const element = this.#device.info.element;
    const elementBytes = bytesPerElement(element);
    const sourceBytes = storedBytes(convertFrom);
    const elements = target.length / elementBytes;
    const batch = SCRATCH_BYTES / sourceBytes;
    for (let done = 0; done < elements; done += batch) {
      const count = Math.min(batch, elements - done);
      const raw = this.#scratch.subarray(0, count * sourceBytes);
      await this.#read(file, filePosition + done * sourceBytes, raw);
      const startedNs = this.#device.clock.nowNs();
      const place = target.subarray(done * elementBytes, (done + count) * elementBytes);
      convertElements(raw, convertFrom, place, element, count);
      this.convertNs += this.#device.clock.nowNs() - startedNs;
    }
  }

  async #read(file: number, position: number, into: Uint8Array): Promise<void> {
    const startedNs = this.#device.clock.nowNs();
    await this.#checkpoint.read(file, position, into);
    this.readNs += this.#device.clock.nowNs() - startedNs;
  }
}

/** A staging buffer, and the crossing that still reads it. */
interface Slot {
  readonly host: HostBuffer;
  crossing: Promise<void>;
}

/**
 * Streams the windows of `layout` through staging buffers, one more than there are lanes: every
 * lane crosses while one window is being filled. Resolves when all has arrived; the staging buffers
 * are freed either way.
 */
export async function streamCheckpoint(options: StreamOptions): Promise<void> {
  const { device, lanes, checkpoint, layout, stagingBytes } = options;
  invariant(lanes.length > 0 && stagingBytes % 256 === 0, 'weights need a lane and whole windows');
  const streams = lanes.map((lane) => device.createStream(`weights over ${lane.id}`));
  const slots: Slot[] = [];
  const reader = new WindowReader(device, checkpoint);
  let bytesDone = 0;
  let crossNs = 0;
  const cross = async (window: Window, host: HostBuffer, lane: Lane, stream: Stream) => {
    const record = await lane.copy({
      direction: 'h2d',
      device: slice(options.buffers[window.arena]!, window.offsetBytes, window.bytes),
      host,
      hostOffsetBytes: 0,
      stream,
      purpose: 'weights',
      tenant: SHARED_TENANT,
    });
    options.onCrossing(record);
    bytesDone += window.bytes;
    crossNs += record.completedNs - record.startedNs;
    options.report({
      bytesDone,
      readSeconds: reader.readNs / 1e9,
      convertSeconds: reader.convertNs / 1e9,
      crossSeconds: crossNs / 1e9,
    });
  };
  try {
    const largest = Math.min(stagingBytes, Math.max(...layout.arenaBytes));
    while (slots.length <= lanes.length) {
      const host = device.allocateHost(largest, 'pinned', `weights staging ${slots.length}`);
      slots.push({ host, crossing: Promise.resolve() });
    }
    let turn = 0;
    const sources = { checkpoint, scales: options.scales, element: device.info.element };
    for (const window of windowsOf(layout, sources, stagingBytes)) {
      const slot = slots[turn % slots.length]!;
      const lane = turn % lanes.length;
      await slot.crossing;
      await reader.fill(window, slot.host.bytes);
      slot.crossing = cross(window, slot.host, lanes[lane]!, streams[lane]!);
      // Awaited when the slot's turn comes; until then a failure must not count as unhandled.
      slot.crossing.catch(() => undefined);
      turn += 1;
    }
    await Promise.all(slots.map((slot) => slot.crossing));
  } finally {
    await Promise.allSettled(slots.map((slot) => slot.crossing));
    for (const slot of slots) device.freeHost(slot.host);
  }
}
