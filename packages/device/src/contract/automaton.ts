import {
  CONTROL_TOKEN_BYTE,
  GOTO_ENTRY,
  GRAMMAR,
  GRAMMAR_HEADER_WORDS,
  GRAMMAR_ROW,
  GRAMMAR_ROW_WORDS,
  MAX_GRAMMAR_DEPTH,
  MAX_TOKEN_BYTES,
  MAX_TOKEN_FRAMES,
  MOVE,
  MOVE_ENTRY,
  NO_STATE,
  STATE_COMPLETE,
  STATE_FINAL,
  STATE_THINKING,
} from '../grammar-layout.ts';
import type { Dice } from './workbench.ts';

/**
 * A grammar as a graph of objects, which is what its tables mean: cases make random ones, encode
 * them for devices, and step them by another method.
 */
export interface Automaton {
  readonly states: readonly AutomatonState[];
  readonly start: number;
  /** Where a row goes whose thinking budget is used up. */
  readonly forced: number | null;
}

export interface AutomatonState {
  readonly edges: ReadonlyMap<number, Edge>;
  readonly isFinal: boolean;
  /** The least count with which it may pop. */
  readonly minimum: number;
  readonly isThinking: boolean;
}

export interface Edge {
  readonly target: number;
  /** 0: counts nothing. */
  readonly maximum: number;
  readonly frames: readonly Frame[];
}

export interface Frame {
  readonly state: number;
  readonly count: number;
}

/** A state with these edges, by the characters that they are for. */
export function stateOf(
  edges: Readonly<Record<string, number | Edge>>,
  flags: Partial<Omit<AutomatonState, 'edges'>> = {},
): AutomatonState {
  const entries = Object.entries(edges).flatMap(([characters, edge]) => {
    const to = typeof edge === 'number' ? { target: edge, maximum: 0, frames: [] } : edge;
    return [...Buffer.from(characters, 'latin1')].map((byte) => [byte, to] as const);
  });
  const edgeMap = new Map(entries);
  return { edges: edgeMap, isFinal: false, minimum: 0, isThinking: false, ...flags };
}

/** The tables of grammar-layout.ts. In shared memory. */
export function encodeAutomaton({ states, start, forced }: Automaton): Uint32Array {
  const moves: number[] = [];
  const entryOf = (edge: Edge | undefined): number => {
    if (edge === undefined) return 0;
    if (edge.maximum === 0 && edge.frames.length === 0) return GOTO_ENTRY + edge.target;
    const at = moves.length;
    const frames = edge.frames.flatMap(({ state, count }) => [state, count]);
    const move: number[] = [];
    move[MOVE.MAXIMUM] = edge.maximum;
    move[MOVE.TARGET] = edge.target;
    move[MOVE.FRAMES] = edge.frames.length;
    moves.push(...move, ...frames);
    return MOVE_ENTRY + at;
  };
  const columns = new Map<string, number>();
  const classOf = new Uint8Array(256);
  const rows: number[][] = states.map(() => []);
  for (let byte = 0; byte < 256; byte++) {
    const key = JSON.stringify(states.map(({ edges }) => edges.get(byte) ?? null));
    let column = columns.get(key);
    if (column === undefined) {
      column = columns.size;
      columns.set(key, column);
      states.forEach(({ edges }, state) => {
        rows[state]!.push(entryOf(edges.get(byte)));
      });
    }
    classOf[byte] = column;
  }
  const info = states.map(({ isFinal, isThinking, edges, minimum }) => {
    const flags = (isFinal ? STATE_FINAL : 0) + (isThinking ? STATE_THINKING : 0);
    return flags + (isFinal && edges.size === 0 ? STATE_COMPLETE : 0) + minimum;
  });
  const table = GRAMMAR_HEADER_WORDS;
  const infoAt = table + states.length * columns.size;
  const movesAt = infoAt + states.length;
  const total = movesAt + moves.length;
  const words = new Uint32Array(new SharedArrayBuffer(total * 4));
  words[GRAMMAR.WORDS] = total;
  words[GRAMMAR.STATES] = states.length;
  words[GRAMMAR.CLASSES] = columns.size;
  words[GRAMMAR.START] = start;
  words[GRAMMAR.FORCED] = forced ?? NO_STATE;
  words[GRAMMAR.TABLE] = table;
  words[GRAMMAR.INFO] = infoAt;
  words[GRAMMAR.MOVES] = movesAt;
  new Uint8Array(words.buffer).set(classOf, GRAMMAR.CLASS_OF_BYTE * 4);
  words.set(rows.flat(), table);
  words.set(info, infoAt);
  words.set(moves, movesAt);
  return words;
}

/** Where a row is in an automaton. The top of the stack comes last. */
export interface Place {
  readonly state: number;
  readonly frames: readonly Frame[];
  /** Tokens left for thinking; negative: as many as it likes. */
  readonly budget: number;
}

interface Step extends Place {
  /** How many of the frames, from the top, this token has pushed or counted in. */
  readonly touched: number;
}

/** Where a token's bytes lead; null where it is not admitted. */
export function placeAfter(
  automaton: Automaton,
  place: Place,
  bytes: Uint8Array | null,
): Place | null {
  if (bytes === null || bytes.length === 0 || bytes.length > MAX_TOKEN_BYTES) return null;
  let step: Step | null = { ...place, touched: 0 };
  for (const byte of bytes) step = step && stepByte(automaton, step, byte);
  return step && { state: step.state, frames: step.frames, budget: step.budget };
}

function stepByte(automaton: Automaton, step: Step, byte: number): Step | null {
  const { edges, isFinal, minimum } = automaton.states[step.state]!;
  const { frames, budget } = step;
  const top = frames.at(-1);
  const rest = frames.slice(0, -1);
  const edge = edges.get(byte);
  if (edge === undefined) {
    if (!isFinal || top === undefined || top.count < minimum) return null;
    const touched = Math.max(0, step.touched - 1);
    return stepByte(automaton, { state: top.state, frames: rest, budget, touched }, byte);
  }
  let next = frames;
  let touched = step.touched;
  if (edge.maximum > 0) {
    if (top === undefined || top.count >= edge.maximum) return null;
    next = [...rest, { state: top.state, count: top.count + 1 }];
    touched = Math.max(1, touched);
  }
  next = [...next, ...edge.frames];
  touched += edge.frames.length;
  if (touched > MAX_TOKEN_FRAMES || next.length > MAX_GRAMMAR_DEPTH) return null;
  return { state: edge.target, frames: next, budget, touched };
}

/** Whether a text that has come to here may end. */
export function mayEnd(automaton: Automaton, { state, frames }: Place): boolean {
  const { isFinal, minimum } = automaton.states[state]!;
  const top = frames.at(-1);
  if (!isFinal || top === undefined) return isFinal;
  if (top.count < minimum) return false;
  return mayEnd(automaton, { state: top.state, frames: frames.slice(0, -1), budget: 0 });
}

/** Whether nothing can follow, and the text may end. */
export function isOver(automaton: Automaton, place: Place): boolean {
  const ending = [place.state, ...place.frames.map(({ state }) => state)];
  return mayEnd(automaton, place) && ending.every((at) => automaton.states[at]!.edges.size === 0);
}

/** Where the row is once a token's thinking is counted. */
export function afterThinking(automaton: Automaton, place: Place): Place {
  const { forced, states } = automaton;
  if (!states[place.state]!.isThinking || place.budget < 0) return place;
  const budget = Math.max(0, place.budget - 1);
  if (budget > 0 || forced === null) return { ...place, budget };
  return { state: forced, frames: [], budget };
}

/** The words of a row at a place in the grammar at word `offset` of a pool. */
export function placeWords(offset: number, { state, frames, budget }: Place): Int32Array {
  const words = new Int32Array(GRAMMAR_ROW_WORDS).fill(-1);
  words[GRAMMAR_ROW.GRAMMAR] = offset;
  words[GRAMMAR_ROW.STATE] = state;
  words[GRAMMAR_ROW.DEPTH] = frames.length;
  words[GRAMMAR_ROW.BUDGET] = budget;
  words.set(
    frames.flatMap(({ state, count }) => [state, count]),
    GRAMMAR_ROW.STACK,
  );
  return words;
}

/** Few bytes, so that random texts get far; those of control tokens are among them. */
const ALPHABET = [0x61, 0x62, 0x22, 0x80, 0, 1, CONTROL_TOKEN_BYTE] as const;

export function randomAutomaton(dice: Dice): Automaton {
  const count = dice.integer(1, 7);
  const chance = (of: number) => dice.integer(1, of) === 1;
  const state = () => dice.integer(0, count - 1);
  const density = dice.integer(1, 3);
  const frame = (): Frame => ({ state: state(), count: dice.integer(0, 2) });
  const frames = () => (chance(9) ? dice.integer(3, MAX_TOKEN_FRAMES) : dice.integer(0, 2));
  const edge = (): Edge => ({
    target: state(),
    maximum: chance(4) ? dice.integer(1, 4) : 0,
    frames: chance(2) ? [] : Array.from({ length: frames() }, frame),
  });
  const states = Array.from({ length: count }, (): AutomatonState => {
    const isLast = chance(5);
    const bytes = ALPHABET.filter(() => !isLast && dice.integer(1, 4) > density);
    return {
      edges: new Map(bytes.map((byte) => [byte, edge()])),
      isFinal: chance(2),
      minimum: chance(3) ? dice.integer(0, 3) : 0,
      isThinking: chance(3),
    };
  });
  return { states, start: state(), forced: chance(2) ? state() : null };
}

/** What UTF-8 has behind each leading byte: bytes from, to, and how many more of any kind. */
const WIDE = [
  ...[...range(0xc2, 0xdf)].map((lead) => [lead, 0x80, 0xbf, 0] as const),
  [0xe0, 0xa0, 0xbf, 1] as const,
  ...[...range(0xe1, 0xef)].map((lead) => [lead, 0x80, lead === 0xed ? 0x9f : 0xbf, 1] as const),
  [0xf0, 0x90, 0xbf, 2] as const,
  ...[...range(0xf1, 0xf3)].map((lead) => [lead, 0x80, 0xbf, 2] as const),
  [0xf4, 0x80, 0x8f, 2] as const,
];

function* range(first: number, last: number): Generator<number> {
  for (let at = first; at <= last; at++) yield at;
}

/**
 * Any characters in any number, as in a string, but for some: a few bytes lead elsewhere or
 * nowhere, now and then in the middle of a character.
 */
export function randomString(dice: Dice): Automaton {
  const plain = (target: number): Edge => ({ target, maximum: 0, frames: [] });
  const states = Array.from({ length: 8 }, () => new Map<number, Edge>());
  const [body, other, one, two] = [0, 1, 2, 3];
  for (const byte of range(0, 0x7f)) {
    const odd = dice.integer(0, 60);
    if (odd > 1) states[body]!.set(byte, plain(body));
    else if (odd === 1) states[body]!.set(byte, plain(other));
  }
  for (const byte of range(0x80, 0xbf)) {
    states[one]!.set(byte, plain(body));
    states[two]!.set(byte, plain(one));
  }
  let next = 4;
  const seconds = new Map<string, number>();
  for (const [lead, first, last, more] of WIDE) {
    const key = `${first} ${last} ${more}`;
    let second = seconds.get(key);
    if (second === undefined) {
      second = more === 0 ? one : next++;
      seconds.set(key, second);
      states[second] ??= new Map();
      for (const byte of range(first, last))
        states[second]!.set(byte, plain([body, one, two][more]!));
    }
    states[body]!.set(lead, plain(second));
  }
  if (dice.integer(0, 1) === 0) {
    const spoilt = states[dice.integer(0, states.length - 1)]!;
    const bytes = [...spoilt.keys()];
    const byte = bytes[dice.integer(0, bytes.length - 1)];
    if (byte !== undefined && dice.integer(0, 1) === 0) spoilt.delete(byte);
    else if (byte !== undefined) spoilt.set(byte, plain(other));
  }
  return {
    states: states.map((edges, state) => {
      return { edges, isFinal: state < 2, minimum: 0, isThinking: false };
    }),
    start: body,
    forced: null,
  };
}

/** A token of a few characters of any kind; now and then its last one is cut. */
export function randomCharacters(dice: Dice): Uint8Array {
  const characters = Array.from({ length: dice.integer(1, 5) }, () => {
    const limit = [0x7f, 0x7f, 0x7ff, 0xffff, 0x10ffff][dice.integer(0, 4)]!;
    const code = dice.integer(0, limit);
    return String.fromCodePoint(code >= 0xd800 && code < 0xe000 ? 0xd7ff : code);
  });
  const bytes = Buffer.from(characters.join(''));
  return bytes.subarray(0, bytes.length - (dice.integer(0, 5) === 0 ? 1 : 0));
}

/** A token's bytes: short ones, none, and now and then the longest, and one that is too long. */
export function randomText(dice: Dice): Uint8Array | null {
  const kind = dice.integer(0, 30);
  if (kind === 0) return null;
  const length = kind === 1 ? dice.integer(254, 256) : dice.integer(0, 6);
  return Uint8Array.from({ length }, () => ALPHABET[dice.integer(0, ALPHABET.length - 2)]!);
}
