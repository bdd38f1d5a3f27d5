import {
  GOTO_ENTRY,
  GRAMMAR,
  MOVE,
  MOVE_ENTRY,
  STATE_COMPLETE,
  STATE_FINAL,
  STATE_MINIMUM,
  STATE_THINKING,
} from '@bridgekeeper/device/threads';

/** Frames in no array: a walk shares those below its own with the walks before it. */
interface Frame {
  readonly returnTo: number;
  readonly count: number;
  readonly below: Frame | undefined;
}

/** A place in compiled tables, stepped byte by byte with a stack without end. */
export class TableWalk {
  readonly #words: Uint32Array;
  readonly #state: number;
  readonly #top: Frame | undefined;

  private constructor(words: Uint32Array, state: number, top: Frame | undefined) {
    this.#words = words;
    this.#state = state;
    this.#top = top;
  }

  static start(words: Uint32Array): TableWalk {
    return new TableWalk(words, words[GRAMMAR.START] ?? 0, undefined);
  }

  /** Where a row goes that may think no more. */
  static forced(words: Uint32Array): TableWalk {
    return new TableWalk(words, words[GRAMMAR.FORCED] ?? 0, undefined);
  }

  /** The text may end here. */
  get canEnd(): boolean {
    return this.#endsBy(STATE_FINAL);
  }

  /** The text ends here: nothing can follow it. */
  get isComplete(): boolean {
    return this.#endsBy(STATE_COMPLETE);
  }

  get isThinking(): boolean {
    return (this.#infoOf(this.#state) & STATE_THINKING) !== 0;
  }

  #endsBy(flag: number): boolean {
    let [state, top] = [this.#state, this.#top];
    while (this.#canLeave(state, top, flag)) {
      if (top === undefined) return true;
      state = top.returnTo;
      top = top.below;
    }
    return false;
  }

  #canLeave(state: number, top: Frame | undefined, flag = STATE_FINAL): boolean {
    const info = this.#infoOf(state);
    if ((info & flag) === 0) return false;
    return top === undefined || top.count >= (info & STATE_MINIMUM);
  }

  #infoOf(state: number): number {
    return this.#words[(this.#words[GRAMMAR.INFO] ?? 0) + state] ?? 0;
  }

  /** The place after a byte; undefined where it is refused. */
  after(byte: number): TableWalk | undefined {
    return this.afterAll(Uint8Array.of(byte));
  }

  /** The place after all of `bytes`; undefined where one of them is refused. */
  afterAll(bytes: Uint8Array): TableWalk | undefined {
    const words = this.#words;
    const at = (index: number) => words[index] ?? 0;
    const [table, moves, classes] = [GRAMMAR.TABLE, GRAMMAR.MOVES, GRAMMAR.CLASSES].map(at);
    let state = this.#state;
    let top = this.#top;
    for (const byte of bytes) {
      const byteClass = (at(GRAMMAR.CLASS_OF_BYTE + (byte >> 2)) >>> (8 * (byte & 3))) & 0xff;
      let entry = at((table ?? 0) + state * (classes ?? 0) + byteClass);
      while (entry === 0) {
        if (top === undefined || !this.#canLeave(state, top)) return undefined;
        state = top.returnTo;
        top = top.below;
        entry = at((table ?? 0) + state * (classes ?? 0) + byteClass);
      }
      if ((entry & GOTO_ENTRY) !== 0 && (entry & MOVE_ENTRY) === 0) {
        state = entry & ~(GOTO_ENTRY | MOVE_ENTRY);
        continue;
      }
      const move = (moves ?? 0) + (entry & ~(GOTO_ENTRY | MOVE_ENTRY));
      const maximum = at(move + MOVE.MAXIMUM);
      if (maximum !== 0) {
        if (top === undefined || top.count >= maximum) return undefined;
        top = { ...top, count: top.count + 1 };
      }
      for (let frame = 0; frame < at(move + MOVE.FRAMES); frame++) {
        const from = move + MOVE.FRAME + 2 * frame;
        top = { returnTo: at(from), count: at(from + 1), below: top };
      }
      state = at(move + MOVE.TARGET);
    }
    return new TableWalk(words, state, top);
  }
}
