/** Something a row of the timeline shows. Microseconds of the device's clock. */
export interface Slice {
  readonly startUs: number;
  readonly endUs: number;
  /** Index in `Recording.accounts`; -1: launches. */
  readonly account: number;
  readonly tollUs: number;
  readonly blockedUs: number;
  readonly bytes: number;
  /** Crossings that are drawn as one; of a launch, its decode steps. */
  readonly count: number;
  /** Of a launch: rows that decode, and tokens of prompts. */
  readonly rows: number;
  readonly promptTokens: number;
}

/** Slices in a block, as a power of two. */
const BLOCK_BITS = 12;
const BLOCK = 2 ** BLOCK_BITS;
const WITHIN = BLOCK - 1;
/** Where a block has its numbers, field by field: one that is nowhere but zero is not written. */
const START = 0;
const END = BLOCK;
const ACCOUNT = 2 * BLOCK;
const TOLL = 3 * BLOCK;
const BLOCKED = 4 * BLOCK;
const BYTES = 5 * BLOCK;
const COUNT = 6 * BLOCK;
const ROWS = 7 * BLOCK;
const PROMPT_TOKENS = 8 * BLOCK;
const FIELDS = 9;

/**
 * Slices in the order in which they came, as numbers side by side: a live page keeps half a million
 * of them, and as objects they would be most of what its collector of garbage has to do. They lie
 * in blocks, so that nothing is moved when more come.
 */
export class Slices {
  /** How many ever came: those since a look are found by it, whatever was forgotten meanwhile. */
  pushed = 0;
  #blocks: Float64Array[] = [];
  /** Where the first that is kept is, and the last ends, counted from where the blocks begin. */
  #from = 0;
  #to = 0;

  get length(): number {
    return this.#to - this.#from;
  }

  /** Takes a slice in, as `Slice` has its numbers: there are too many to make objects of them. */
  add(
    startUs: number,
    endUs: number,
    account: number,
    tollUs: number,
    blockedUs: number,
    bytes: number,
    count: number,
    rows: number,
    promptTokens: number,
  ): void {
    const at = this.#to & WITHIN;
    if (at === 0) this.#blocks.push(new Float64Array(BLOCK * FIELDS));
    const block = this.#blocks[this.#to >> BLOCK_BITS]!;
    block[at] = startUs;
    block[at + END] = endUs;
    block[at + ACCOUNT] = account;
    block[at + COUNT] = count;
    // A block is zeros at first, and memory that is never written to is never there.
    if (tollUs !== 0) block[at + TOLL] = tollUs;
    if (blockedUs !== 0) block[at + BLOCKED] = blockedUs;
    if (bytes !== 0) block[at + BYTES] = bytes;
    if (rows !== 0) block[at + ROWS] = rows;
    if (promptTokens !== 0) block[at + PROMPT_TOKENS] = promptTokens;
    this.#to += 1;
    this.pushed += 1;
  }

  #value(index: number, field: number): number {
    const at = this.#from + index;
    return this.#blocks[at >> BLOCK_BITS]![field + (at & WITHIN)]!;
  }

  startUs(index: number): number {
    return this.#value(index, START);
  }

  endUs(index: number): number {
    return this.#value(index, END);
  }

  account(index: number): number {
    return this.#value(index, ACCOUNT);
  }

  tollUs(index: number): number {
    return this.#value(index, TOLL);
  }

  promptTokens(index: number): number {
    return this.#value(index, PROMPT_TOKENS);
  }

  at(index: number): Slice {
    return {
      startUs: this.startUs(index),
      endUs: this.endUs(index),
      account: this.account(index),
      tollUs: this.tollUs(index),
      blockedUs: this.#value(index, BLOCKED),
      bytes: this.#value(index, BYTES),
      count: this.#value(index, COUNT),
      rows: this.#value(index, ROWS),
      promptTokens: this.promptTokens(index),
    };
  }

  *[Symbol.iterator](): Generator<Slice> {
    for (let index = 0; index < this.length; index++) yield this.at(index);
  }

  /** The index of the first that ends after `us`: they are in order and never overlap. */
  firstEndingAfter(us: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.endUs(middle) > us) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Forgets the oldest. */
  drop(count: number): void {
    this.#from = Math.min(this.#to, this.#from + count);
    const gone = this.#from >> BLOCK_BITS;
    this.#blocks.splice(0, gone);
    this.#from -= gone * BLOCK;
    this.#to -= gone * BLOCK;
  }
}
