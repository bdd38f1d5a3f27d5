import { Estimate, milliseconds } from './estimate.ts';
import type { Committed } from './pipeline.ts';

export interface ChunkLimits {
  /** For which a chunk of prompts may keep streams from their next step. */
  readonly interTokenLimitNs: number;
  /** Tokens that any launch may compute. */
  readonly maxBatchTokens: number;
}

/** A first guess, which one launch corrects: an 8B model on an H200 takes 12 ms for it. */
const FIRST_TOKENS = 512;
/** From here on products fill a GPU evenly in multiples of it, and below in powers of two. */
const TILE_TOKENS = 1024;
const LEAST_TOKENS = 32;
/** A launch whose end was noticed late seems slower than it was: more than this is not believed. */
const LATE_FACTOR = 1.5;
/** A size that is too long by so much is taken rather than one of half of it. */
const TOLERANCE = 1.1;

/**
 * How many tokens a launch with prompts may compute while rows decode: as many as take about as
 * long as the inter-token limit, beside the step of the rows, by what launches of that size took.
 * Sizes are few, and those that products are fast at: every other one would have to be planned
 * anew.
 */
export class ChunkControl {
  readonly #limits: ChunkLimits;
  readonly #step = new Estimate(0);
  readonly #token = new Estimate(0);
  #tokens: number;

  constructor(limits: ChunkLimits) {
    this.#limits = limits;
    this.#tokens = Math.min(FIRST_TOKENS, limits.maxBatchTokens);
  }

  get tokens(): number {
    return this.#tokens;
  }

  /** Learns from a committed launch. */
  observe({ plan, deviceNs }: Pick<Committed, 'plan' | 'deviceNs'>): void {
    const { prefill, decode, steps } = plan;
    if (prefill.length === 0) {
      this.#step.observe(deviceNs / steps);
      return;
    }
    const { interTokenLimitNs: limitNs, maxBatchTokens } = this.#limits;
    const tokens = prefill.reduce((sum, { length }) => sum + length, decode.length);
    // A small launch takes as long as reading the weights does, and says nothing of a large one,
    // unless it is too long itself.
    const isSmall = 2 * tokens < this.#tokens && deviceNs < limitNs + this.#step.meanNs;
    // Two launches whose end is noticed at once: the second seems to have taken no time.
    if (isSmall || tokens < LEAST_TOKENS || deviceNs <= 0) return;
    const besideNs = decode.length > 0 ? this.#step.meanNs : 0;
    const tokenNs = Math.max(deviceNs - besideNs, deviceNs / 2) / tokens;
    const mostNs = this.#token.isObserved ? LATE_FACTOR * this.#token.meanNs : tokenNs;
    this.#token.observe(Math.min(tokenNs, mostNs));
    const most = (TOLERANCE * limitNs) / this.#token.meanNs;
    this.#tokens = most >= maxBatchTokens ? maxBatchTokens : fastSize(most);
  }

  /** Why that many, for people. */
  get reason(): string {
    const { interTokenLimitNs, maxBatchTokens } = this.#limits;
    if (!this.#token.isObserved)
      return 'no prompt was measured yet that keeps the device busy: a first guess';
    const tokens = this.#tokens;
    const limit = `of about ${milliseconds(interTokenLimitNs)} between steps of rows`;
    const found = `${tokens} tokens take ${milliseconds(tokens * this.#token.meanNs)}, ${limit}`;
    if (tokens === maxBatchTokens) return `${found}; no launch holds more`;
    return `${found}; up to ${maxBatchTokens} where no row decodes`;
  }
}

/** The largest size up to `most` that products are fast at. */
function fastSize(most: number): number {
  if (most >= TILE_TOKENS) return most - (most % TILE_TOKENS);
  return Math.max(LEAST_TOKENS, 2 ** Math.floor(Math.log2(most)));
}
