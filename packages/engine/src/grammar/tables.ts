import {
  GOTO_ENTRY,
  GRAMMAR,
  GRAMMAR_HEADER_WORDS,
  MAX_TOKEN_FRAMES,
  MOVE,
  MOVE_ENTRY,
  NO_STATE,
  STATE_COMPLETE,
  STATE_FINAL,
  STATE_THINKING,
} from '@bridgekeeper/device/threads';
import type { Spending } from './budget.ts';
import { type Automaton, NO_EDGE, type State } from './determinise.ts';
import { GrammarError } from './errors.ts';

/** The automaton as a device steps through it, laid out as the device's grammar-layout.ts says. */
export function tablesOf(automaton: Automaton, spending: Spending): Uint32Array<ArrayBuffer> {
  const { states, classes, edges } = automaton;
  const moves: number[] = [];
  const entryOf = edges.map(({ maximum, frames, target }) => {
    if (maximum === 0 && frames.length === 0) return GOTO_ENTRY | target;
    if (frames.length > MAX_TOKEN_FRAMES) {
      throw new GrammarError(
        'too-large',
        `the grammar enters ${frames.length} rules on one byte; ${MAX_TOKEN_FRAMES} is the most`,
      );
    }
    const offset = moves.length;
    moves[offset + MOVE.MAXIMUM] = maximum;
    moves[offset + MOVE.TARGET] = target;
    moves[offset + MOVE.FRAMES] = frames.length;
    for (const { returnTo, count } of frames) moves.push(returnTo, count);
    return MOVE_ENTRY | offset;
  });

  const table = GRAMMAR_HEADER_WORDS;
  const info = table + states.length * classes;
  const movesAt = info + states.length;
  spending.hold('words', movesAt + moves.length);
  const words = new Uint32Array(movesAt + moves.length);
  words[GRAMMAR.WORDS] = words.length;
  words[GRAMMAR.STATES] = states.length;
  words[GRAMMAR.CLASSES] = classes;
  words[GRAMMAR.START] = automaton.start;
  words[GRAMMAR.FORCED] = automaton.forced ?? NO_STATE;
  words[GRAMMAR.TABLE] = table;
  words[GRAMMAR.INFO] = info;
  words[GRAMMAR.MOVES] = movesAt;
  for (const [byte, byteClass] of automaton.classOfByte.entries()) {
    words[GRAMMAR.CLASS_OF_BYTE + (byte >> 2)]! |= byteClass << ((byte & 3) * 8);
  }
  for (const [state, { entries }] of states.entries()) {
    for (const [byteClass, edge] of entries.entries()) {
      if (edge !== NO_EDGE) words[table + state * classes + byteClass] = entryOf[edge]!;
    }
  }
  words.set(states.map(informationOf), info);
  words.set(moves, movesAt);
  return words;
}

function informationOf({ entries, isFinal, minimum, isThinking }: State): number {
  const isComplete = isFinal && entries.every((edge) => edge === NO_EDGE);
  return (
    ((isFinal ? STATE_FINAL : 0) |
      (isComplete ? STATE_COMPLETE : 0) |
      (isThinking ? STATE_THINKING : 0) |
      minimum) >>>
    0
  );
}
