import { Estimate, milliseconds } from './estimate.ts';
import type { Committed } from './pipeline.ts';

export interface ChunkLimits {
  /** For which a stream may wait for its next token because prompts are computed. */
  readonly interTokenLimitNs: number;
  /** Tokens that any launch may compute. */
  readonly maxBatchTokens: number;
}

/** A first guess, which one launch corrects: an 8B model on an H200 takes 12 ms for it. */
const FIRST_TOKENS = 512;
/** Products are fastest in multiples of their tiles. */
const LARGE_STEP = 128;
const SMALL_STEP = 32;

/**
 * How many tokens a launch with prompts may compute while rows decode: as many as take no longer
 * than the inter-token limit, by what launches of about that size took for each of their tokens.
 */
export class ChunkControl {
  readonly #limits: ChunkLimits;
  readonly #token = new Estimate(0);
  #tokens: number;

  constructor(limits: ChunkLimits) {
    this.#limits = limits;
    this.#tokens = Math.min(FIRST_TOKENS, limits.maxBatchTokens);
  }

  get tokens(): number {
    return this.#tokens;
  }

  /** Learns from a committed launch with prompts. */
  observe({ plan, deviceNs }: Pick<Committed, 'plan' | 'deviceNs'>): void {
    if (plan.prefill.length === 0) return;
    const { interTokenLimitNs: limitNs, maxBatchTokens } = this.#limits;
    const prompts = plan.prefill.reduce((sum, { length }) => sum + length, 0);
    const tokens = prompts + plan.decode.length;
    // A small launch takes as long as reading the weights does, and says nothing of a large one.
    if (2 * tokens < this.#tokens && 2 * deviceNs < limitNs) return;
    this.#token.observe(deviceNs / tokens);
    const wanted = Math.min(maxBatchTokens, Math.floor(limitNs / this.#token.highNs));
    const step = wanted < FIRST_TOKENS ? SMALL_STEP : LARGE_STEP;
    const whole = wanted === maxBatchTokens ? wanted : wanted - (wanted % step);
    this.#tokens = Math.max(Math.min(SMALL_STEP, maxBatchTokens), whole);
  }

  /** Why that many, for people. */
  get reason(): string {
    const { interTokenLimitNs, maxBatchTokens } = this.#limits;
    if (!this.#token.isObserved) return 'no prompt was measured yet: a first guess';
    const tokens = this.#tokens;
    const limit = `of ${milliseconds(interTokenLimitNs)} that tokens may take to come`;
    const found = `${tokens} tokens take ${milliseconds(tokens * this.#token.highNs)}, ${limit}`;
    if (tokens === maxBatchTokens) return `${found}; no launch holds more`;
    return `${found}; up to ${maxBatchTokens} where no row decodes`;
  }
}
