import { invariant } from '@bridgekeeper/bridge';
import { type Device, type DeviceBuffer, type Slice, slice } from '@bridgekeeper/device';
import { chunkDigest, chunkMismatch, expectedDigest, sealedFile } from '../../seal/chunks.ts';
import type { Seal } from '../../seal/manifest.ts';
import type { Traffic } from '../../traffic/traffic.ts';

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
  async check(traffic: Traffic): Promise<void> {
    const from = slice(this.#buffer, 0, this.#entries.length * ROOT_BYTES);
    const stream = this.#device.createStream('digests of weights');
    const roots = await traffic.download(from, stream, 'weights');
    for (const [index, { fileIndex, chunkIndex }] of this.#entries.entries()) {
      const root = roots.subarray(index * ROOT_BYTES, (index + 1) * ROOT_BYTES);
      const found = chunkDigest(this.#seal, fileIndex, chunkIndex, root);
      if (found === expectedDigest(this.#seal, fileIndex, chunkIndex)) continue;
      throw chunkMismatch(this.chunkBytes, this.#seal.files[fileIndex]!, chunkIndex);
    }
  }

  free(): void {
    this.#device.free(this.#buffer);
  }
}
