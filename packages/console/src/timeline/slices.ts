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

const FIELDS = 9;
const START = 0;
const END = 1;
const ACCOUNT = 2;
const TOLL = 3;
const PROMPT_TOKENS = 8;
const FIRST_ROOM = 64;

/**
 * Slices in the order in which they came, as numbers side by side: a live page keeps half a million
 * of them, and as objects they would be most of what its collector of garbage has to do.
 */
export class Slices {
  /** How many ever came: those since a look are found by it, whatever was forgotten meanwhile. */
  pushed = 0;
  #values = new Float64Array(FIRST_ROOM * FIELDS);
  /** Where the first that is kept begins, and the last ends. */
  #from = 0;
  #to = 0;

  get length(): number {
    return (this.#to - this.#from) / FIELDS;
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
    if (this.#to === this.#values.length) this.#makeRoom();
    const values = this.#values;
    const at = this.#to;
    values[at] = startUs;
    values[at + END] = endUs;
    values[at + ACCOUNT] = account;
    values[at + TOLL] = tollUs;
    values[at + 4] = blockedUs;
    values[at + 5] = bytes;
    values[at + 6] = count;
    values[at + 7] = rows;
    values[at + PROMPT_TOKENS] = promptTokens;
    this.#to += FIELDS;
    this.pushed += 1;
  }

  startUs(index: number): number {
    return this.#values[this.#from + index * FIELDS + START]!;
  }

  endUs(index: number): number {
    return this.#values[this.#from + index * FIELDS + END]!;
  }

  account(index: number): number {
    return this.#values[this.#from + index * FIELDS + ACCOUNT]!;
  }

  tollUs(index: number): number {
    return this.#values[this.#from + index * FIELDS + TOLL]!;
  }

  promptTokens(index: number): number {
    return this.#values[this.#from + index * FIELDS + PROMPT_TOKENS]!;
  }

  at(index: number): Slice {
    const at = this.#from + index * FIELDS;
    const [startUs, endUs, account, tollUs, blockedUs, bytes, count, rows, promptTokens] =
      this.#values.subarray(at, at + FIELDS) as unknown as FixedSlice;
    return { startUs, endUs, account, tollUs, blockedUs, bytes, count, rows, promptTokens };
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
    this.#from = Math.min(this.#to, this.#from + count * FIELDS);
  }

  /** Moves what is kept to the front where that frees half; else makes room for twice as many. */
  #makeRoom(): void {
    const kept = this.#values.subarray(this.#from, this.#to);
    if (kept.length > this.#values.length / 2) {
      this.#values = new Float64Array(this.#values.length * 2);
    }
    this.#values.set(kept);
    this.#from = 0;
    this.#to = kept.length;
  }
}

type FixedSlice = [number, number, number, number, number, number, number, number, number];
