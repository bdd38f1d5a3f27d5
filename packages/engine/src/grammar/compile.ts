import { GRAMMAR_BUDGET, type GrammarBudget, Spending } from './budget.ts';
import { Demands, determinise } from './determinise.ts';
import { GrammarError } from './errors.ts';
import type { Expression, Grammar } from './expression.ts';
import { demandDistinctFollowers, trim } from './follow.ts';
import { lower } from './lower.ts';
import { minimise } from './minimise.ts';
import { automatonMaker } from './regular-automata.ts';
import { examineRules } from './rules.ts';
import { tablesOf } from './tables.ts';

/**
 * The tables of a grammar, as grammar-layout.ts of the device lays them out.
 *
 * Rules that recur, and large ones that are used often, are called: they cost a frame of the stack
 * at run time and are there once. The same is true of repeats that are large, whose frame counts.
 * All else is written out. Where a call turns out not to be told from what surrounds it byte by
 * byte, it is written out or followed as well, and the construction is repeated.
 *
 * Throws GrammarError.
 */
export function compileGrammar(
  grammar: Grammar,
  budget: GrammarBudget = GRAMMAR_BUDGET,
): Uint32Array<ArrayBuffer> {
  const spending = new Spending(budget);
  const facts = examineRules(grammar, spending);
  const makeAutomaton = automatonMaker(facts, spending);
  const callable = new Set(facts.callable);
  const unrolled = new Set<Expression>();
  for (;;) {
    const choices = { callable, unrolled };
    const lowered = lower(grammar, facts, choices, makeAutomaton, spending);
    const followed = new Set<number>();
    for (let isRewritten = false; !isRewritten; ) {
      const demands = new Demands();
      const automaton = determinise(lowered, followed, demands, spending);
      if (demands.isEmpty) {
        const { trimmed, admitsText } = trim(automaton);
        if (!admitsText) throw new GrammarError('empty', 'the grammar admits no text at all');
        demandDistinctFollowers(trimmed, lowered, demands, spending);
        if (demands.isEmpty) return tablesOf(minimise(trimmed, spending), spending);
      }
      for (const origin of demands.written) {
        isRewritten = true;
        if (typeof origin === 'string') callable.delete(origin);
        else unrolled.add(origin);
      }
      for (const call of demands.followed) {
        const origin = lowered.origins[lowered.positions.argument[call]!]!;
        if (typeof origin !== 'string' || facts.recurring.has(origin)) {
          followed.add(call);
        } else {
          isRewritten = true;
          callable.delete(origin);
        }
      }
    }
  }
}
