import type { Spending } from './budget.ts';
import {
  type Automaton,
  type Demands,
  type Determinised,
  edgesOfStates,
  NO_EDGE,
  type State,
} from './determinise.ts';
import type { Lowered } from './lower.ts';

/** Without the entries from which no end can be reached. Whether the start reaches one. */
export function trim(automaton: Determinised): {
  readonly trimmed: Determinised;
  readonly admitsText: boolean;
} {
  const { states, edges } = automaton;
  // An edge is live when its target and all states that it returns to are; a state, when it is
  // final or one of its edges is live.
  const missing = edges.map(({ frames }) => 1 + frames.length);
  const edgesInto: number[][] = states.map(() => []);
  for (const [at, { target, frames }] of edges.entries()) {
    edgesInto[target]?.push(at);
    for (const { returnTo } of frames) edgesInto[returnTo]?.push(at);
  }
  const statesWith: number[][] = edges.map(() => []);
  for (const [state, own] of edgesOfStates(automaton).entries()) {
    for (const edge of own) statesWith[edge]?.push(state);
  }
  const isLive = new Uint8Array(states.length);
  const pending: number[] = [];
  const enliven = (state: number): void => {
    if (isLive[state] === 1) return;
    isLive[state] = 1;
    pending.push(state);
  };
  for (const [state, { isFinal }] of states.entries()) if (isFinal) enliven(state);
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    for (const edge of edgesInto[state] ?? []) {
      missing[edge] = (missing[edge] ?? 0) - 1;
      if (missing[edge] === 0) for (const from of statesWith[edge] ?? []) enliven(from);
    }
  }
  const admitsText = isLive[automaton.start] === 1;
  if (missing.every((count) => count === 0)) return { trimmed: automaton, admitsText };
  const trimmed = states.map((state): State => {
    const entries = state.entries.map((edge) => (missing[edge] === 0 ? edge : NO_EDGE));
    return { ...state, entries };
  });
  return { trimmed: { ...automaton, states: trimmed }, admitsText };
}

/**
 * Demands that what may follow a unit is seen in time, wherever a state that is final goes on with
 * a byte with which the state to which it would return, or one below, goes on as well: the
 * automaton takes the one and would never try the other.
 */
export function demandDistinctFollowers(
  automaton: Determinised,
  lowered: Lowered,
  demands: Demands,
  spending: Spending,
): void {
  const { states, classes } = automaton;
  const { positions, units, origins } = lowered;
  const below = statesBelow(automaton, spending);

  /** By state to which is returned: the classes that it, or where it is final one below, takes. */
  const followers = new Map<number, Uint8Array>();
  for (const returnTo of new Set(below.flatMap((set) => [...set]))) {
    followers.set(
      returnTo,
      Uint8Array.from(states[returnTo]!.entries, (edge) => +(edge >= 0)),
    );
  }
  for (let isChanged = true; isChanged; ) {
    isChanged = false;
    for (const [returnTo, taken] of followers) {
      if (!states[returnTo]!.isFinal) continue;
      for (const lower of below[returnTo]!) {
        const more = followers.get(lower)!;
        spending.spend(classes >> 3);
        for (let byteClass = 0; byteClass < classes; byteClass++) {
          if (more[byteClass] === 0 || taken[byteClass] === 1) continue;
          taken[byteClass] = 1;
          isChanged = true;
        }
      }
    }
  }
  for (const [state, { isFinal, entries }] of states.entries()) {
    if (!isFinal) continue;
    for (const returnTo of below[state]!) {
      const taken = followers.get(returnTo)!;
      spending.spend(classes >> 3);
      if (!entries.some((edge, byteClass) => edge !== NO_EDGE && taken[byteClass] === 1)) continue;
      for (const call of automaton.callsOf.get(returnTo) ?? []) {
        const unit = positions.argument[call]!;
        if (units[unit]?.maximum === undefined) demands.followed.add(call);
        else demands.written.add(origins[unit]!);
      }
    }
  }
}

/** For each state, the states to which the frame on top can return when it is reached. */
function statesBelow(automaton: Automaton, spending: Spending): ReadonlySet<number>[] {
  const { states, edges } = automaton;
  const below = states.map(() => new Set<number>());
  const edgesOf = edgesOfStates(automaton);
  const pending = new Set<number>(states.keys());
  for (const state of pending) {
    pending.delete(state);
    const pass = (to: number, returns: Iterable<number>): void => {
      const known = below[to]!;
      const size = known.size;
      for (const returnTo of returns) known.add(returnTo);
      if (known.size > size) pending.add(to);
    };
    for (const edge of edgesOf[state]!) {
      const { frames, target } = edges[edge]!;
      spending.spend(1 + below[state]!.size);
      let returns: Iterable<number> = below[state]!;
      for (const { returnTo } of frames) {
        pass(returnTo, returns);
        returns = [returnTo];
      }
      pass(target, returns);
    }
  }
  return below;
}
