/** How fast the chance follows the tokens that come. */
const FOLLOW = 0.2;
/** Places that are remembered: those of a longer text push each other out. */
const MOST_PLACES = 1 << 16;
const LEAST_PLACES = 1 << 8;

/**
 * How often the next token of a text is what followed the last few tokens when they occurred
 * before: what drafts by n-gram would have been worth, learnt from the text alone. It looks at each
 * token once, so that it costs a host next to nothing, and the device nothing at all.
 */
export class Repetition {
  readonly #lookup: number;
  /** By the hash of so many tokens: where they ended last, plus one. */
  readonly #places: Int32Array;
  #seen = 0;
  /** Where the token is that is expected next; -1: none is. */
  #expected = -1;
  #chance = 0;

  /** `lookup`: tokens by which a place is found; `tokens`: of the text, as long as it may get. */
  constructor(lookup: number, tokens: number) {
    this.#lookup = lookup;
    let places = LEAST_PLACES;
    while (places < 2 * tokens && places < MOST_PLACES) places *= 2;
    this.#places = new Int32Array(places);
  }

  /** Of the next token to be the expected one, 0 to 1. */
  get chance(): number {
    return this.#chance;
  }

  /** Goes on to the end of the text. Its first `prompt` tokens say nothing of what will come. */
  follow(text: Uint32Array, prompt: number): void {
    for (; this.#seen < text.length; this.#seen++) {
      const at = this.#seen;
      const isExpected = this.#expected >= 0 && text[this.#expected] === text[at];
      if (at >= prompt) this.#chance += FOLLOW * ((isExpected ? 1 : 0) - this.#chance);
      const found = this.#find(text, at);
      this.#expected = isExpected ? this.#expected + 1 : found;
    }
  }

  /** Tokens of `drafts` drafted ones that are expected to be right. */
  acceptedOf(drafts: number): number {
    return acceptedOf(this.#chance, drafts);
  }

  /** What came after the last tokens up to `at` when they ended elsewhere; remembers `at`. */
  #find(text: Uint32Array, at: number): number {
    if (at + 1 < this.#lookup) return -1;
    let hash = 0;
    for (let i = 0; i < this.#lookup; i++) hash = Math.imul(hash ^ text[at - i]!, 0x9e3779b1);
    const place = (hash ^ (hash >>> 15)) & (this.#places.length - 1);
    const end = this.#places[place]! - 1;
    this.#places[place] = at + 1;
    if (end < this.#lookup - 1) return -1;
    for (let i = 0; i < this.#lookup; i++) if (text[end - i] !== text[at - i]) return -1;
    return end + 1;
  }
}

/** Drafts that count, of `drafts`, each right by `chance`: the first wrong one ends it. */
export function acceptedOf(chance: number, drafts: number): number {
  let accepted = 0;
  for (let i = 0, all = 1; i < drafts; i++) {
    all *= chance;
    accepted += all;
  }
  return accepted;
}
