import { GrammarError } from './errors.ts';

/** What compiling one grammar may cost. Counted, so that the same grammar always ends alike. */
export interface GrammarBudget {
  /** Positions in the grammar, after repeats and rules are written out. */
  readonly positions: number;
  /** States of the automaton before equal ones are merged. */
  readonly states: number;
  /** Configurations visited, and other pieces of work of about a tenth of a microsecond. */
  readonly steps: number;
  /** 32-bit words of the compiled grammar. */
  readonly words: number;
}

export const GRAMMAR_BUDGET: GrammarBudget = {
  positions: 400_000,
  states: 60_000,
  steps: 10_000_000,
  words: 1 << 20,
};

const UNITS: Readonly<Record<keyof GrammarBudget, string>> = {
  positions: 'positions once its repeats and rules are written out',
  states: 'states',
  steps: 'steps to compile',
  words: 'words of tables',
};

/** Counts what a compilation costs. */
export class Spending {
  readonly #budget: GrammarBudget;
  #steps = 0;

  constructor(budget: GrammarBudget) {
    this.#budget = budget;
  }

  /** Throws GrammarError 'too-large' where there are more than the budget has. */
  hold(unit: Exclude<keyof GrammarBudget, 'steps'>, count: number): void {
    if (count > this.#budget[unit]) this.#refuse(unit);
  }

  /** Throws GrammarError 'too-large' where all steps together are more than the budget has. */
  spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.#budget.steps) this.#refuse('steps');
  }

  #refuse(unit: keyof GrammarBudget): never {
    throw new GrammarError(
      'too-large',
      `the grammar takes more than ${this.#budget[unit]} ${UNITS[unit]}: ` +
        'use fewer alternatives, or smaller bounds of repeats and lengths',
    );
  }
}
