import type { CommandTargets } from './ops.ts';
import { TARGET, type Target } from './row-layout.ts';

/** The array that each TARGET of a command means. COUNTS is none: see row-layout.ts. */
const NAMES: Readonly<Record<Exclude<Target, typeof TARGET.COUNTS>, keyof CommandTargets>> = {
  [TARGET.ROWS]: 'rows',
  [TARGET.PAGE_TABLE]: 'pageTable',
  [TARGET.BIAS]: 'bias',
  [TARGET.DECODE_ROWS]: 'decodeRows',
  [TARGET.TOKENS]: 'tokens',
  [TARGET.TOKEN_ROWS]: 'tokenRows',
  [TARGET.POSITIONS]: 'positions',
  [TARGET.SELECT]: 'select',
  [TARGET.SELECT_ROWS]: 'selectRows',
  [TARGET.PROMPT_SELECT]: 'promptSelect',
  [TARGET.PROMPT_TARGETS]: 'promptTargets',
  [TARGET.CONTROL]: 'control',
  [TARGET.GRAMMAR_ROWS]: 'grammarRows',
  [TARGET.HISTORY]: 'history',
  [TARGET.WINDOW_TABLE]: 'windowTable',
};

/** The arrays of `targets`, or what stands for them, in the order of TARGET. */
export function targetList<Item>(targets: Readonly<Record<keyof CommandTargets, Item>>): Item[] {
  return Object.values(NAMES).map((name) => targets[name]);
}
