import { JinjaError } from './errors.ts';

/**
 * A step is about one node of the template, or 64 characters that are looked at. All of them took
 * 0.2 to 1.4 s of one core, by what they are spent on; a chat of 100 messages takes 5000 to 8000.
 */
const MAX_STEPS = 3_000_000;
/** Of the prompt, and of any string on the way to it, in UTF-16 units. */
const MAX_CHARACTERS = 16 * 2 ** 20;
/**
 * Of expressions, blocks and calls within each other, and of values that are written or compared:
 * half of what the stack of a thread holds.
 */
const MAX_DEPTH = 400;
/** Above what a template needs and below what arithmetic takes long for. */
const MAX_INTEGER_BITS = 16_384;

const CHARACTERS_PER_STEP = 64;

/** What one rendering may take. A template that loops for ever ends here. */
export class Budget {
  #steps = MAX_STEPS;
  #depth = 0;

  /** Throws JinjaError `limit`, as all that follow do. */
  spend(steps = 1): void {
    this.#steps -= steps;
    if (this.#steps < 0) throw new JinjaError('limit', 'it takes too many steps');
  }

  /** For work on a string of that length, or on that many characters. */
  spendText(characters: number): void {
    this.spend(1 + Math.floor(characters / CHARACTERS_PER_STEP));
  }

  /** Before a string of that length is made. */
  checkText(characters: number): void {
    if (characters > MAX_CHARACTERS) throw new JinjaError('limit', 'it makes too much text');
  }

  /** Before an integer of that many bits is made. */
  checkInteger(bits: number): void {
    if (bits > MAX_INTEGER_BITS) throw new JinjaError('limit', 'an integer is too large');
  }

  /** One level of nesting more, until `leave`. What throws in between ends the rendering. */
  enter(): void {
    this.spend();
    this.#depth += 1;
    checkDepth(this.#depth);
  }

  leave(): void {
    this.#depth -= 1;
  }
}

/** Throws JinjaError `limit`. For what nests without a budget: the parser. */
export function checkDepth(depth: number): void {
  if (depth > MAX_DEPTH) throw new JinjaError('limit', 'it is nested too deeply');
}
