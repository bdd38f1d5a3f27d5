import { hash32 } from '@bridgekeeper/device';
import type { Workload, WorkloadRequest } from '../workload/workload.ts';

/**
 * Makes up tokens: equal chunks have equal ones, and what shares nothing has its own. Where nobody
 * reads them, all are alike: to make them up takes longer than what is done with them.
 */
export class Prompts {
  readonly #workload: Workload;
  readonly #vocabulary: number;
  readonly #areRead: boolean;

  constructor(workload: Workload, vocabulary: number, areRead = true) {
    this.#workload = workload;
    this.#vocabulary = vocabulary;
    this.#areRead = areRead;
  }

  requestOf(index: number): WorkloadRequest {
    return this.#workload.requests[index]!;
  }

  tokensOf(index: number): Uint32Array {
    const { chunkTokens, requests } = this.#workload;
    const { promptTokens, chunks } = requests[index]!;
    if (!this.#areRead) return noTokens(promptTokens);
    const tokens = new Uint32Array(promptTokens);
    if (chunks === null) {
      for (let i = 0; i < promptTokens; i++) tokens[i] = this.#draw(index, 1, i);
      return tokens;
    }
    for (let i = 0; i < promptTokens; i++) {
      tokens[i] = this.#draw(chunks[Math.floor(i / chunkTokens)]!, 2, i % chunkTokens);
    }
    return tokens;
  }

  #draw(stream: number, kind: number, counter: number): number {
    const high = Math.floor(stream / 0x1_0000_0000);
    return (hash32(stream | 0, (high * 4 + kind) | 0, counter) >>> 0) % this.#vocabulary;
  }
}

let zeros = new Uint32Array(0);

/** As many tokens, of which nobody asks what they are. */
export function noTokens(count: number): Uint32Array {
  if (zeros.length < count) zeros = new Uint32Array(2 * count);
  return zeros.subarray(0, count);
}
