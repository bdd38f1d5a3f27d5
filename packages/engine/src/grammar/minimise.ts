import type { Spending } from './budget.ts';
import { type Automaton, type Edge, NO_EDGE, type State } from './determinise.ts';

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
  const tails: number[] = [];
  const heads: number[] = [];
  const labels: number[] = [];
  const labelIds = new Map<string, number>();
  const labelOf = (key: string): number => {
    const label = labelIds.get(key) ?? labelIds.size;
    labelIds.set(key, label);
    return label;
  };
  const parts = edges.map(({ maximum, frames, target }) => {
    const kind = `${maximum} ${frames.map(({ count }) => count)}`;
    return [target, ...frames.map(({ returnTo }) => returnTo)].map((head, part) => ({
      head: at.get(head) ?? 0,
      key: labelOf(`${kind} ${part}`),
    }));
  });
  for (const [tail, state] of reached.entries()) {
    for (const [byteClass, edge] of states[state]!.entries.entries()) {
      if (edge === NO_EDGE) continue;
      for (const { head, key } of parts[edge]!) {
        tails.push(tail);
        heads.push(head);
        labels.push(key * 256 + byteClass);
      }
    }
  }
  spending.spend(tails.length);

  const blocks = new Partition(reached.length);
  blocks.separate((index) => {
    const { isFinal, minimum, isThinking } = states[reached[index]!]!;
    return `${isFinal} ${minimum} ${isThinking}`;
  });
  const cords = new Partition(tails.length);
  cords.separate((transition) => labels[transition]!);

  const { starts, members: into } = grouped(heads, reached.length);
  let block = 1;
  for (let cord = 0; cord < cords.count; cord++) {
    for (const transition of cords.membersOf(cord)) blocks.mark(tails[transition]!);
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
  const edgeIds = new Map<string, number>();
  const mergedEdge = edges.map(({ maximum, frames, target }) => {
    if (!at.has(target)) return NO_EDGE;
    const merged = {
      maximum,
      target: blockOf(target),
      frames: frames.map(({ returnTo, count }) => ({ returnTo: blockOf(returnTo), count })),
    };
    const key = JSON.stringify(merged);
    const edge = edgeIds.get(key) ?? mergedEdges.push(merged) - 1;
    edgeIds.set(key, edge);
    return edge;
  });
  const mergedStates = Array.from({ length: blocks.count }, (_, index): State => {
    const [first = 0] = blocks.membersOf(index);
    const state = states[reached[first]!]!;
    const entries = state.entries.map((edge) =>
      edge === NO_EDGE ? NO_EDGE : (mergedEdge[edge] ?? NO_EDGE),
    );
    return { ...state, entries };
  });
  return {
    ...mergeClasses(automaton, mergedStates),
    edges: mergedEdges,
    start: blockOf(automaton.start),
    forced: forced === undefined ? undefined : blockOf(forced),
  };
}

function reachedStates({ states, edges, start, forced }: Automaton): number[] {
  const reached = new Set(forced === undefined ? [start] : [start, forced]);
  for (const state of reached) {
    for (const edge of new Set(states[state]!.entries)) {
      if (edge === NO_EDGE) continue;
      reached.add(edges[edge]!.target);
      for (const { returnTo } of edges[edge]!.frames) reached.add(returnTo);
    }
  }
  return [...reached];
}

/** Classes of bytes on which every state does the same become one. */
function mergeClasses(
  { classOfByte, classes }: Automaton,
  states: readonly State[],
): Pick<Automaton, 'classOfByte' | 'classes' | 'states'> {
  let mergedOf = new Int32Array(classes);
  let count = Math.min(1, classes);
  for (const { entries } of states) {
    const ids = new Map<number, number>();
    const width = classes + 1;
    const refined = mergedOf.map((merged, byteClass) => {
      const key = entries[byteClass]! * width + merged;
      const id = ids.get(key) ?? ids.size;
      ids.set(key, id);
      return id;
    });
    if (ids.size > count) {
      mergedOf = refined;
      count = ids.size;
    }
    if (count === classes) break;
  }
  const representatives = new Int32Array(count);
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
function grouped(values: readonly number[], count: number) {
  const starts = new Int32Array(count + 1);
  for (const value of values) starts[value + 1]! += 1;
  for (let value = 0; value < count; value++) starts[value + 1]! += starts[value]!;
  const filled = starts.slice();
  const members = new Int32Array(values.length);
  for (const [index, value] of values.entries()) {
    members[filled[value]!] = index;
    filled[value]! += 1;
  }
  return { starts, members };
}

/** A partition of [0, size) that can only be refined. Marked elements are split from the others. */
class Partition {
  count: number;
  readonly #elements: Int32Array;
  readonly #placeOf: Int32Array;
  readonly #setOf: Int32Array;
  readonly #first: number[];
  readonly #end: number[];
  readonly #marked: number[];
  #touched: number[] = [];

  constructor(size: number) {
    this.#elements = Int32Array.from({ length: size }, (_, index) => index);
    this.#placeOf = this.#elements.slice();
    this.#setOf = new Int32Array(size);
    this.count = size > 0 ? 1 : 0;
    this.#first = [0];
    this.#end = [size];
    this.#marked = [0];
  }

  setOf(element: number): number {
    return this.#setOf[element]!;
  }

  membersOf(set: number): Int32Array {
    return this.#elements.slice(this.#first[set], this.#end[set]);
  }

  /** Elements of which `keyOf` differs are in different sets. Of the one set there is at first. */
  separate(keyOf: (element: number) => number | string): void {
    const byKey = new Map<number | string, number[]>();
    for (const element of this.#elements) {
      const key = keyOf(element);
      const members = byKey.get(key);
      if (members === undefined) byKey.set(key, [element]);
      else members.push(element);
    }
    let place = 0;
    this.count = 0;
    for (const members of byKey.values()) {
      const set = this.count++;
      this.#first[set] = place;
      this.#marked[set] = 0;
      for (const element of members) {
        this.#elements[place] = element;
        this.#placeOf[element] = place++;
        this.#setOf[element] = set;
      }
      this.#end[set] = place;
    }
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
