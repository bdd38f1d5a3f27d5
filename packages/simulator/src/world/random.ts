import { mix32 } from '@bridgekeeper/device';

/** Chance from one seed: the same seed draws the same, on every machine. */
export class Random {
  #state: number;

  constructor(seed: number, stream = '') {
    let state = mix32(seed | 0) ^ mix32(Math.floor(seed / 2 ** 32));
    for (let at = 0; at < stream.length; at++) state = mix32(state ^ stream.charCodeAt(at));
    this.#state = state | 0;
  }

  word(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    return mix32(this.#state);
  }

  /** From 0 to below 1. */
  unit(): number {
    return this.word() / 2 ** 32;
  }

  /** From 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.unit() * limit);
  }

  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.unit() < probability;
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  fill(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += 4) {
      const word = this.word();
      bytes[at] = word;
      if (at + 1 < bytes.length) bytes[at + 1] = word >>> 8;
      if (at + 2 < bytes.length) bytes[at + 2] = word >>> 16;
      if (at + 3 < bytes.length) bytes[at + 3] = word >>> 24;
    }
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.alloc(count);
    this.fill(bytes);
    return bytes;
  }
}
