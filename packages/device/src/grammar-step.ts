import {
  ENTRY_VALUE,
  GOTO_ENTRY,
  GRAMMAR,
  GRAMMAR_HEADER_WORDS,
  GRAMMAR_ROW,
  GRAMMAR_ROW_WORDS,
  GROUP_OF_BYTE,
  MAX_GRAMMAR_DEPTH,
  MAX_TOKEN_BYTES,
  MAX_TOKEN_FRAMES,
  MOVE,
  MOVE_ENTRY,
  NO_GROUP,
  NO_STATE,
  STATE_COMPLETE,
  STATE_FINAL,
  STATE_MINIMUM,
  STATE_THINKING,
  TOKEN_SPAN_SHIFT,
  WIDE_CHARACTER_FIELDS,
  WIDE_CHARACTERS,
  WIDE_GROUP,
} from './grammar-layout.ts';
import type { Vocabulary } from './vocabulary.ts';

/**
 * How a compiled grammar is stepped: the one home of it in TypeScript, which the cpu device, the
 * engine's replay and the tests of compilers use. kernels/grammar.cuh is the same for GPUs.
 *
 * A walk begins at a row's place and tries tokens from there. It never changes the row's stack:
 * `#kept` of its frames are as the row has them, and those above, which the token pushed or counted
 * in, are the walk's own. So trying a token costs what the token does, however deep the row is.
 */
export class GrammarWalk {
  readonly #pool: Uint32Array;
  readonly #vocabulary: Vocabulary;
  readonly #own = new Int32Array(2 * MAX_TOKEN_FRAMES);
  #row: Int32Array = new Int32Array(GRAMMAR_ROW_WORDS);
  #grammar = 0;
  #states = 0;
  #classes = 0;
  #table = 0;
  #info = 0;
  #moves = 0;
  #state = 0;
  #kept = 0;
  #owned = 0;

  constructor(pool: Uint32Array, vocabulary: Vocabulary) {
    this.#pool = pool;
    this.#vocabulary = vocabulary;
  }

  /** Begins at a row's place; false where it is in no grammar of the pool. */
  begin(row: Int32Array): boolean {
    const pool = this.#pool;
    const grammar = row[GRAMMAR_ROW.GRAMMAR]!;
    if (grammar < 0 || grammar + GRAMMAR_HEADER_WORDS > pool.length) return false;
    if (grammar + pool[grammar + GRAMMAR.WORDS]! > pool.length) return false;
    this.#row = row;
    this.#grammar = grammar;
    this.#states = pool[grammar + GRAMMAR.STATES]!;
    this.#classes = pool[grammar + GRAMMAR.CLASSES]!;
    this.#table = grammar + pool[grammar + GRAMMAR.TABLE]!;
    this.#info = grammar + pool[grammar + GRAMMAR.INFO]!;
    this.#moves = grammar + pool[grammar + GRAMMAR.MOVES]!;
    const depth = row[GRAMMAR_ROW.DEPTH]!;
    if (depth < 0 || depth > MAX_GRAMMAR_DEPTH) return false;
    this.#restart();
    return this.#state < this.#states;
  }

  #restart(): void {
    this.#state = this.#row[GRAMMAR_ROW.STATE]! >>> 0;
    this.#kept = this.#row[GRAMMAR_ROW.DEPTH]!;
    this.#owned = 0;
  }

  /** Whether a token can come next at the row's place; where it can, the walk is behind it. */
  admits(token: number): boolean {
    const { spans, bytes } = this.#vocabulary;
    const span = spans[token] ?? 0;
    const length = span & MAX_TOKEN_BYTES;
    const from = span >>> TOKEN_SPAN_SHIFT;
    if (length === 0 || from + Math.ceil(length / 4) > bytes.length) return false;
    this.#restart();
    for (let i = 0; i < length; i++) {
      if (!this.#step((bytes[from + (i >> 2)]! >>> (8 * (i & 3))) & 0xff)) return false;
    }
    return true;
  }

  /** Whether a text that begins with this byte can come next at the row's place. */
  admitsByte(byte: number): boolean {
    this.#restart();
    return this.#step(byte);
  }

  /**
   * A bit for each group of characters (TOKEN_GROUPS_SHIFT) of which some may not leave the row
   * where it is. A token without any of them is admitted.
   */
  leavingGroups(): number {
    this.#restart();
    const state = this.#state;
    let leaving = 1 << NO_GROUP;
    for (let byte = 0; byte < 128; byte++) {
      if (this.#allTo(state, byte, byte) !== state) leaving |= 1 << GROUP_OF_BYTE[byte]!;
    }
    for (let line = 0; line < WIDE_CHARACTERS.length; line += WIDE_CHARACTER_FIELDS) {
      let at = this.#allTo(state, WIDE_CHARACTERS[line]!, WIDE_CHARACTERS[line + 1]!);
      at = this.#allTo(at, WIDE_CHARACTERS[line + 2]!, WIDE_CHARACTERS[line + 3]!);
      for (let more = WIDE_CHARACTERS[line + 4]!; more > 0; more--)
        at = this.#allTo(at, 0x80, 0xbf);
      if (at !== state) leaving |= 1 << WIDE_GROUP;
    }
    return leaving;
  }

  /** Where all of these bytes go from a state, leaving the stack alone; NO_STATE: no one place. */
  #allTo(state: number, first: number, last: number): number {
    if (state === NO_STATE) return NO_STATE;
    const target = this.#entry(state, first);
    for (let byte = first + 1; byte <= last; byte++) {
      if (this.#entry(state, byte) !== target) return NO_STATE;
    }
    const isPlain = (target & GOTO_ENTRY) !== 0 && (target & MOVE_ENTRY) === 0;
    return isPlain ? target & ENTRY_VALUE : NO_STATE;
  }

  #entry(state: number, byte: number): number {
    const classes = this.#pool[this.#grammar + GRAMMAR.CLASS_OF_BYTE + (byte >> 2)]!;
    const column = (classes >>> (8 * (byte & 3))) & 0xff;
    return this.#pool[this.#table + state * this.#classes + column]!;
  }

  #step(byte: number): boolean {
    for (;;) {
      const entry = this.#entry(this.#state, byte);
      if ((entry & MOVE_ENTRY) !== 0) return this.#move(this.#moves + (entry & ENTRY_VALUE));
      if ((entry & GOTO_ENTRY) !== 0) {
        this.#state = entry & ENTRY_VALUE;
        return true;
      }
      if (!this.#pop()) return false;
    }
  }

  /** Leaves the top frame for its return state, if the text may go on there. */
  #pop(): boolean {
    const depth = this.#kept + this.#owned;
    if (depth === 0 || !this.#mayLeave(this.#state, depth, STATE_FINAL)) return false;
    this.#state = this.#returnOf(depth - 1);
    if (this.#owned > 0) this.#owned -= 1;
    else this.#kept -= 1;
    return this.#state < this.#states;
  }

  #move(move: number): boolean {
    const pool = this.#pool;
    const maximum = pool[move + MOVE.MAXIMUM]!;
    if (maximum !== 0 && !this.#count(maximum)) return false;
    const frames = pool[move + MOVE.FRAMES]!;
    if (this.#owned + frames > MAX_TOKEN_FRAMES) return false;
    if (this.#kept + this.#owned + frames > MAX_GRAMMAR_DEPTH) return false;
    for (let word = 0; word < 2 * frames; word++) {
      this.#own[2 * this.#owned + word] = pool[move + MOVE.FRAME + word]!;
    }
    this.#owned += frames;
    this.#state = pool[move + MOVE.TARGET]!;
    return true;
  }

  /** Raises the top frame's count, which must be below `maximum`. */
  #count(maximum: number): boolean {
    if (this.#owned === 0) {
      if (this.#kept === 0) return false;
      const frame = GRAMMAR_ROW.STACK + 2 * (this.#kept - 1);
      this.#own.set(this.#row.subarray(frame, frame + 2));
      this.#kept -= 1;
      this.#owned = 1;
    }
    const count = 2 * this.#owned - 1;
    if (this.#own[count]! >>> 0 >= maximum) return false;
    this.#own[count]! += 1;
    return true;
  }

  /** Whether the text may end behind the last byte. */
  get isAccepting(): boolean {
    return this.#endsAll(STATE_FINAL);
  }

  /** Whether nothing can follow the last byte, and the text may end. */
  get isComplete(): boolean {
    return this.#endsAll(STATE_COMPLETE);
  }

  /** Whether the state and all that the stack returns to have `flag`, with counts high enough. */
  #endsAll(flag: number): boolean {
    let state = this.#state;
    for (let depth = this.#kept + this.#owned; depth > 0; depth--) {
      if (!this.#mayLeave(state, depth, flag)) return false;
      state = this.#returnOf(depth - 1);
      if (state >= this.#states) return false;
    }
    return (this.#pool[this.#info + state]! & flag) !== 0;
  }

  #mayLeave(state: number, depth: number, flag: number): boolean {
    const info = this.#pool[this.#info + state]!;
    return (info & flag) !== 0 && this.#countOf(depth - 1) >= (info & STATE_MINIMUM);
  }

  #returnOf(frame: number): number {
    return this.#wordOf(frame, 0);
  }

  #countOf(frame: number): number {
    return this.#wordOf(frame, 1);
  }

  #wordOf(frame: number, word: 0 | 1): number {
    const own = frame - this.#kept;
    const value =
      own < 0 ? this.#row[GRAMMAR_ROW.STACK + 2 * frame + word]! : this.#own[2 * own + word]!;
    return value >>> 0;
  }

  /**
   * Moves the row on by `token`. `complete`: nothing can follow it. Where the token is refused, the
   * row is left as it is.
   */
  advance(token: number): 'refused' | 'moved' | 'complete' {
    if (!this.admits(token)) return 'refused';
    const row = this.#row;
    row.set(this.#own.subarray(0, 2 * this.#owned), GRAMMAR_ROW.STACK + 2 * this.#kept);
    row[GRAMMAR_ROW.DEPTH] = this.#kept + this.#owned;
    row[GRAMMAR_ROW.STATE] = this.#state;
    const isComplete = this.isComplete;
    this.#spend();
    return isComplete ? 'complete' : 'moved';
  }

  /** Counts a token of thinking against the budget; the last one ends the thinking. */
  #spend(): void {
    const row = this.#row;
    const budget = row[GRAMMAR_ROW.BUDGET]!;
    const isThinking = (this.#pool[this.#info + this.#state]! & STATE_THINKING) !== 0;
    if (!isThinking || budget < 0) return;
    row[GRAMMAR_ROW.BUDGET] = Math.max(budget - 1, 0);
    const forced = this.#pool[this.#grammar + GRAMMAR.FORCED]!;
    if (budget > 1 || forced === NO_STATE) return;
    row[GRAMMAR_ROW.STATE] = forced;
    row[GRAMMAR_ROW.DEPTH] = 0;
  }
}

/**
 * The place of a row that has sampled `tokens` under `grammar`, as if that were all of the pool.
 * `budget` is what it may spend on thinking, negative: as many tokens as it likes. Tokens that are
 * not admitted are passed over: those of a modelled device are made up.
 */
export function grammarPlace(
  grammar: Uint32Array,
  vocabulary: Vocabulary,
  budget: number,
  tokens: Iterable<number>,
): Int32Array {
  const row = new Int32Array(GRAMMAR_ROW_WORDS);
  const start = grammar[GRAMMAR.START]!;
  const forced = grammar[GRAMMAR.FORCED]!;
  const isThinking = (grammar[grammar[GRAMMAR.INFO]! + start]! & STATE_THINKING) !== 0;
  row[GRAMMAR_ROW.STATE] = budget === 0 && isThinking && forced !== NO_STATE ? forced : start;
  row[GRAMMAR_ROW.BUDGET] = budget;
  const walk = new GrammarWalk(grammar, vocabulary);
  for (const token of tokens) {
    walk.begin(row);
    walk.advance(token);
  }
  return row;
}

/** The words of a row's place that mean something. */
export function grammarRowLength(row: Int32Array): number {
  return GRAMMAR_ROW.STACK + 2 * row[GRAMMAR_ROW.DEPTH]!;
}

/**
 * What is wrong with a compiled grammar, for people; null: stepping through it stays within it,
 * whatever comes. Devices do not check entries.
 */
export function grammarFault(words: Uint32Array): string | null {
  if (words.length < GRAMMAR_HEADER_WORDS) return 'it is shorter than its header';
  const states = words[GRAMMAR.STATES]!;
  const classes = words[GRAMMAR.CLASSES]!;
  const moves = words[GRAMMAR.MOVES]!;
  const table = words[GRAMMAR.TABLE]!;
  const info = words[GRAMMAR.INFO]!;
  const forced = words[GRAMMAR.FORCED]!;
  const isState = (state: number) => state < states;
  if (words[GRAMMAR.WORDS] !== words.length) return 'its header says another size';
  if (!isState(words[GRAMMAR.START]!)) return 'it starts in no state';
  if (forced !== NO_STATE && !isState(forced)) return 'it is forced to no state';
  if (classes < 1 || classes > 256) return 'it has no classes of bytes';
  const ofBytes = new Uint8Array(words.buffer, words.byteOffset + 4 * GRAMMAR.CLASS_OF_BYTE, 256);
  if (ofBytes.some((column) => column >= classes)) return 'a byte is of no class';
  if (Math.max(table + states * classes, info + states, moves) > words.length) {
    return 'its tables end behind it';
  }
  for (let at = table; at < table + states * classes; at++) {
    const entry = words[at]!;
    const value = entry & ENTRY_VALUE;
    if ((entry & MOVE_ENTRY) === 0) {
      const isGood = (entry & GOTO_ENTRY) === 0 ? entry === 0 : isState(value);
      if (!isGood) return 'an entry goes to no state';
      continue;
    }
    const move = moves + value;
    const frames = words[move + MOVE.FRAMES] ?? Number.POSITIVE_INFINITY;
    if (frames > MAX_TOKEN_FRAMES || move + MOVE.FRAME + 2 * frames > words.length) {
      return 'a move ends behind it or pushes too much';
    }
    if (!isState(words[move + MOVE.TARGET]!)) return 'a move goes to no state';
    for (let frame = 0; frame < frames; frame++) {
      if (!isState(words[move + MOVE.FRAME + 2 * frame]!)) return 'a frame returns to no state';
    }
  }
  return null;
}
