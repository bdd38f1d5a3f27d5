import {
  GOTO_ENTRY,
  GRAMMAR,
  MOVE,
  MOVE_ENTRY,
  STATE_FINAL,
  STATE_MINIMUM,
} from '@bridgekeeper/device';

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

  /** The text may end here. */
  get canEnd(): boolean {
    let [state, top] = [this.#state, this.#top];
    while (this.#canLeave(state, top)) {
      if (top === undefined) return true;
      state = top.returnTo;
      top = top.below;
    }
    return false;
  }

  #canLeave(state: number, top: Frame | undefined): boolean {
    const info = this.#words[(this.#words[GRAMMAR.INFO] ?? 0) + state] ?? 0;
    if ((info & STATE_FINAL) === 0) return false;
    return top === undefined || top.count >= (info & STATE_MINIMUM);
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
