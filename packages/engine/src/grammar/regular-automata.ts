import type { Spending } from './budget.ts';
import { ByteAutomaton, freeText, intersect, NO_STATE, subtract } from './byte-automaton.ts';
import { type Automaton, Demands, determinise, NO_EDGE } from './determinise.ts';
import type { Expression } from './expression.ts';
import { lowerRegular, type MakeAutomaton } from './lower.ts';
import type { RuleFacts } from './rules.ts';

/** Makes automata of expressions in which nothing recurs, each once. They throw GrammarError. */
export function automatonMaker(facts: RuleFacts, spending: Spending): MakeAutomaton {
  const known = new Map<Expression, ByteAutomaton>();
  const make = (expression: Expression): ByteAutomaton => {
    switch (expression.kind) {
      case 'free':
        return freeText(expression.tags, spending);
      case 'intersection':
        return intersect(expression.parts.map(automatonOf), spending);
      case 'difference':
        return subtract(automatonOf(expression.body), automatonOf(expression.without), spending);
      default: {
        const lowered = lowerRegular(expression, facts, automatonOf, spending);
        return withoutStack(determinise(lowered, new Set(), new Demands(), spending));
      }
    }
  };
  const automatonOf = (expression: Expression): ByteAutomaton => {
    let automaton = known.get(expression);
    if (automaton === undefined) {
      automaton = make(expression);
      known.set(expression, automaton);
    }
    return automaton;
  };
  return automatonOf;
}

/** Where nothing is called, nothing is pushed. */
function withoutStack({ states, edges, classOfByte, classes, start }: Automaton): ByteAutomaton {
  const next = new Int32Array(states.length * classes);
  for (const [state, { entries }] of states.entries()) {
    for (let byteClass = 0; byteClass < classes; byteClass++) {
      const edge = entries[byteClass]!;
      next[state * classes + byteClass] = edge === NO_EDGE ? NO_STATE : edges[edge]!.target;
    }
  }
  const isFinal = Uint8Array.from(states, (state) => +state.isFinal);
  return new ByteAutomaton(start, isFinal, classOfByte, classes, next);
}
