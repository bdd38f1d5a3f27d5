import type { Spending } from './budget.ts';
import { type Automaton, type Edge, edgesOfStates, NO_EDGE, type State } from './determinise.ts';

/**
 * The automaton with its equal states merged and those left out that are not reached: states from
 * which the same bytes do the same, whatever is on the stack. By refinement of a partition of
 * states and one of transitions, in turn (Valmari and Lehtinen, STACS 2008), where a move is a
 * transition to its target and one to each state it returns to.
 */
export function minimise(automaton: Automaton, spending: Spending): Automaton {
  const { states, edges, forced } = automaton;
  const reached = reachedStates(automaton);
  const at = new Map(reached.map((state, index) => [state, index]));

  // Transitions, by their labels: the class of the byte, and which part of what kind of edge it is.
  const labelIds = new Map<string, number>();
  const labelOf = (key: string): number => {
    const label = labelIds.get(key) ?? 1 + labelIds.size;
    labelIds.set(key, label);
    return label * 256;
  };
  const parts = edges.map(({ maximum, frames, target }) => {
    if (maximum === 0 && frames.length === 0) return [{ head: at.get(target) ?? 0, label: 0 }];
    const kind = `${maximum} ${frames.map(({ count }) => count)}`;
    return [target, ...frames.map(({ returnTo }) => returnTo)].map((head, part) => ({
      head: at.get(head) ?? 0,
      label: labelOf(`${kind} ${part}`),
    }));
  });
  let transitions = 0;
  for (const state of reached) {
    for (const edge of states[state]!.entries) {
      if (edge !== NO_EDGE) transitions += parts[edge]!.length;
    }
  }
  spending.spend(transitions);
  const tails = new Int32Array(transitions);
  const heads = new Int32Array(transitions);
  const labels = new Int32Array(transitions);
  let transition = 0;
  for (const [tail, state] of reached.entries()) {
    const { entries } = states[state]!;
    for (let byteClass = 0; byteClass < entries.length; byteClass++) {
      if (entries[byteClass] === NO_EDGE) continue;
      for (const { head, label } of parts[entries[byteClass]!]!) {
        tails[transition] = tail;
        heads[transition] = head;
        labels[transition++] = label + byteClass;
      }
    }
  }

  const kinds = new Map<string, number>();
  const kindOf = ({ isFinal, minimum, isThinking }: State): number => {
    const key = `${isFinal} ${minimum} ${isThinking}`;
    const kind = kinds.get(key) ?? kinds.size;
    kinds.set(key, kind);
    return kind;
  };
  const blocks = new Partition(Int32Array.from(reached, (state) => kindOf(states[state]!)));
  const cords = new Partition(labels);

  const { starts, members: into } = grouped(heads, reached.length);
  let block = 1;
  for (let cord = 0; cord < cords.count; cord++) {
    for (const member of cords.membersOf(cord)) blocks.mark(tails[member]!);
    blocks.split();
    for (; block < blocks.count; block++) {
      for (const state of blocks.membersOf(block)) {
        for (let index = starts[state]!; index < starts[state + 1]!; index++) {
          cords.mark(into[index]!);
        }
        spending.spend(1);
      }
      cords.split();
    }
  }

  const blockOf = (state: number): number => blocks.setOf(at.get(state)!);
  const mergedEdges: Edge[] = [];
  const edgeIds = new Map<string | number, number>();
  const mergedEdge = edges.map(({ maximum, frames, target }) => {
    if (!at.has(target)) return NO_EDGE;
    const merged = {
      maximum,
      target: blockOf(target),
      frames: frames.map(({ returnTo, count }) => ({ returnTo: blockOf(returnTo), count })),
    };
    const isPlain = maximum === 0 && frames.length === 0;
    const key = isPlain ? merged.target : JSON.stringify(merged);
    const edge = edgeIds.get(key) ?? mergedEdges.push(merged) - 1;
    edgeIds.set(key, edge);
    return edge;
  });
  const mergedStates = Array.from({ length: blocks.count }, (_, index): State => {
    const [first = 0] = blocks.membersOf(index);
    const state = states[reached[first]!]!;
    const entries = state.entries.map((edge) => {
      return edge === NO_EDGE ? NO_EDGE : mergedEdge[edge]!;
    });
    return { ...state, entries };
  });
  return {
    ...mergeClasses(automaton, mergedStates),
    edges: mergedEdges,
    start: blockOf(automaton.start),
    forced: forced === undefined ? undefined : blockOf(forced),
  };
}

function reachedStates(automaton: Automaton): number[] {
  const { edges, start, forced } = automaton;
  const edgesOf = edgesOfStates(automaton);
  const reached = new Set(forced === undefined ? [start] : [start, forced]);
  for (const state of reached) {
    for (const edge of edgesOf[state]!) {
      reached.add(edges[edge]!.target);
      for (const { returnTo } of edges[edge]!.frames) reached.add(returnTo);
    }
  }
  return [...reached];
}

const UNKNOWN = -2;

/** Classes of bytes on which every state does the same become one. */
function mergeClasses(
  { classOfByte, classes }: Automaton,
  states: readonly State[],
): Pick<Automaton, 'classOfByte' | 'classes' | 'states'> {
  let mergedOf = new Int32Array(classes);
  let count = Math.min(1, classes);
  const firstEntries = new Int32Array(classes);
  /** Whether the state goes on alike with all bytes of each of the classes as merged. */
  const isAlike = (entries: readonly number[]): boolean => {
    firstEntries.fill(UNKNOWN);
    for (let byteClass = 0; byteClass < classes; byteClass++) {
      const merged = mergedOf[byteClass]!;
      if (firstEntries[merged] === UNKNOWN) firstEntries[merged] = entries[byteClass]!;
      else if (firstEntries[merged] !== entries[byteClass]) return false;
    }
    return true;
  };
  for (const { entries } of states) {
    if (isAlike(entries)) continue;
    const ids = new Map<number, number>();
    const width = classes + 1;
    mergedOf = mergedOf.map((merged, byteClass) => {
      const key = entries[byteClass]! * width + merged;
      const id = ids.get(key) ?? ids.size;
      ids.set(key, id);
      return id;
    });
    count = ids.size;
    if (count === classes) break;
  }
  if (count === classes) return { classOfByte, classes, states };
  const representatives = new Array<number>(count).fill(0);
  for (const [byteClass, merged] of mergedOf.entries()) representatives[merged] = byteClass;
  return {
    classOfByte: classOfByte.map((byteClass) => mergedOf[byteClass]!),
    classes: count,
    states: states.map((state) => ({
      ...state,
      entries: representatives.map((byteClass) => state.entries[byteClass]!),
    })),
  };
}

/** Indices of `values`, those with value v from starts[v] and before starts[v + 1] of `members`. */
function grouped(values: Int32Array, count: number) {
  const starts = new Int32Array(count + 1);
  for (const value of values) starts[value + 1]! += 1;
  for (let value = 0; value < count; value++) starts[value + 1]! += starts[value]!;
  const filled = starts.slice();
  const members = new Int32Array(values.length);
  for (let index = 0; index < values.length; index++) {
    members[filled[values[index]!]!++] = index;
  }
  return { starts, members };
}

/** A partition of [0, size) that can only be refined. Marked elements are split from the others. */
class Partition {
  count = 0;
  readonly #elements: Int32Array;
  readonly #placeOf: Int32Array;
  readonly #setOf: Int32Array;
  readonly #first: number[] = [];
  readonly #end: number[] = [];
  readonly #marked: number[] = [];
  #touched: number[] = [];

  /** Elements of which `keys`, which are at least 0, differ are in different sets. */
  constructor(keys: Int32Array) {
    const { starts, members } = grouped(keys, 1 + keys.reduce((a, b) => Math.max(a, b), 0));
    this.#elements = members;
    this.#placeOf = new Int32Array(keys.length);
    this.#setOf = new Int32Array(keys.length);
    for (let key = 0; key + 1 < starts.length; key++) {
      if (starts[key] === starts[key + 1]) continue;
      const set = this.count++;
      this.#first[set] = starts[key]!;
      this.#end[set] = starts[key + 1]!;
      this.#marked[set] = 0;
      for (let place = starts[key]!; place < starts[key + 1]!; place++) {
        this.#placeOf[members[place]!] = place;
        this.#setOf[members[place]!] = set;
      }
    }
  }

  setOf(element: number): number {
    return this.#setOf[element]!;
  }

  /** Not to be kept: where the set is split, others are in its place. */
  membersOf(set: number): Int32Array {
    return this.#elements.subarray(this.#first[set], this.#end[set]);
  }

  mark(element: number): void {
    const set = this.#setOf[element]!;
    const place = this.#placeOf[element]!;
    const boundary = this.#first[set]! + this.#marked[set]!;
    if (place < boundary) return;
    const other = this.#elements[boundary]!;
    this.#elements[place] = other;
    this.#placeOf[other] = place;
    this.#elements[boundary] = element;
    this.#placeOf[element] = boundary;
    if (this.#marked[set] === 0) this.#touched.push(set);
    this.#marked[set]! += 1;
  }

  /** The smaller part of each set that has marked elements and others becomes a new set. */
  split(): void {
    for (const set of this.#touched) {
      const first = this.#first[set]!;
      const end = this.#end[set]!;
      const boundary = first + this.#marked[set]!;
      this.#marked[set] = 0;
      if (boundary === end) continue;
      const added = this.count++;
      const isMarkedSmaller = boundary - first <= end - boundary;
      this.#first[added] = isMarkedSmaller ? first : boundary;
      this.#end[added] = isMarkedSmaller ? boundary : end;
      this.#marked[added] = 0;
      if (isMarkedSmaller) this.#first[set] = boundary;
      else this.#end[set] = boundary;
      for (let place = this.#first[added]!; place < this.#end[added]!; place++) {
        this.#setOf[this.#elements[place]!] = added;
      }
    }
    this.#touched = [];
  }
}
