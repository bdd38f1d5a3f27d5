import { type CrossingRecord, invariant, SHARED_TENANT } from '@bridgekeeper/bridge';
import { type Device, type DeviceBuffer, type Lane, type Slice, slice } from '@bridgekeeper/device';
import { chunkDigest, chunkMismatch, expectedDigest, sealedFile } from '../seal/chunks.ts';
import type { Seal } from '../seal/manifest.ts';

const ROOT_BYTES = 32;

interface Entry {
  /** Of the seal. */
  readonly fileIndex: number;
  readonly chunkIndex: number;
}

/**
 * The hash trees of a sealed model's chunks, as the device computes them from what crossed. They
 * come back in one crossing at the end, and are compared before the weights are handed out.
 */
export class DigestTable {
  readonly chunkBytes: number;
  readonly leafBytes: number;
  readonly #device: Device;
  readonly #seal: Seal;
  /** Of each file of the checkpoint, its index in the seal. */
  readonly #files: readonly number[];
  readonly #buffer: DeviceBuffer;
  readonly #places = new Map<string, number>();
  readonly #entries: Entry[] = [];

  constructor(device: Device, seal: Seal, fileNames: readonly string[]) {
    this.#device = device;
    this.#seal = seal;
    this.chunkBytes = seal.chunkBytes;
    this.leafBytes = seal.leafBytes;
    this.#files = fileNames.map((name) => sealedFile(seal, name).index);
    const chunks = this.#files.map((index) => seal.files[index]!.chunks.length);
    const count = chunks.reduce((total, each) => total + each, 0);
    this.#buffer = device.allocate(Math.max(1, count) * ROOT_BYTES, 'digests of weights');
  }

  /** Where the hash tree of the seal's chunk goes that lies at `position` of a file. */
  placeOf(file: number, position: number): Slice {
    invariant(position % this.chunkBytes === 0, 'whole chunks of the seal are loaded');
    const entry = { fileIndex: this.#files[file]!, chunkIndex: position / this.chunkBytes };
    const key = `${entry.fileIndex}/${entry.chunkIndex}`;
    const index = this.#places.get(key) ?? this.#entries.push(entry) - 1;
    this.#places.set(key, index);
    return slice(this.#buffer, index * ROOT_BYTES, ROOT_BYTES);
  }

  /** Throws ModelError `seal-mismatch` for the first chunk that is not what was sealed. */
  async check(lane: Lane, onCrossing: (record: CrossingRecord) => void): Promise<void> {
    const bytes = this.#entries.length * ROOT_BYTES;
    if (bytes === 0) return;
    const host = this.#device.allocateHost(bytes, 'pinned', 'digests of weights');
    try {
      const record = await lane.copy({
        direction: 'd2h',
        device: slice(this.#buffer, 0, bytes),
        host,
        hostOffsetBytes: 0,
        stream: this.#device.createStream('digests of weights'),
        purpose: 'weights',
        tenant: SHARED_TENANT,
      });
      onCrossing(record);
      for (const [index, { fileIndex, chunkIndex }] of this.#entries.entries()) {
        const root = host.bytes.slice(index * ROOT_BYTES, (index + 1) * ROOT_BYTES);
        const found = chunkDigest(this.#seal, fileIndex, chunkIndex, root);
        if (found === expectedDigest(this.#seal, fileIndex, chunkIndex)) continue;
        throw chunkMismatch(this.chunkBytes, this.#seal.files[fileIndex]!, chunkIndex);
      }
    } finally {
      this.#device.freeHost(host);
    }
  }

  free(): void {
    this.#device.free(this.#buffer);
  }
}
