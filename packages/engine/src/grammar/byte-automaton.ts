import { CONTROL_TOKEN_BYTE } from '@bridgekeeper/device';
import type { Spending } from './budget.ts';
import type { Tag } from './expression.ts';
import { type ByteRange, mergeRanges, utf8Sequences } from './utf8.ts';

export const NO_STATE = -1;

/** A deterministic automaton over bytes without a stack. */
export class ByteAutomaton {
  readonly start: number;
  /** By state: 1 where a text may end. */
  readonly isFinal: readonly number[];
  /** By state, 256 states or NO_STATE. */
  readonly #next: readonly Int32Array[];

  constructor(start: number, isFinal: readonly number[], next: readonly Int32Array[]) {
    this.start = start;
    this.isFinal = isFinal;
    this.#next = next;
  }

  next(state: number, byte: number): number {
    return this.#next[state]?.[byte] ?? NO_STATE;
  }

  /** By state that is reached from `state`: with which bytes. */
  rangesFrom(state: number): Map<number, ByteRange[]> {
    const reached = new Map<number, ByteRange[]>();
    for (let byte = 0; byte < 256; byte++) {
      const to = this.next(state, byte);
      if (to === NO_STATE) continue;
      const ranges = reached.get(to);
      if (ranges === undefined) reached.set(to, [[byte, byte]]);
      else ranges.push([byte, byte]);
    }
    for (const [to, ranges] of reached) reached.set(to, mergeRanges(ranges) as ByteRange[]);
    return reached;
  }
}

/** What is followed from a key, and whether a text may end there. */
interface Explored<K> {
  readonly isFinal: boolean;
  next(byte: number): K | undefined;
}

/** All states that are reached from `start`, and from which an end is. */
function explore<K>(
  start: K,
  keyOf: (state: K) => number | string,
  at: (state: K) => Explored<K>,
  spending: Spending,
): ByteAutomaton {
  const ids = new Map<number | string, number>([[keyOf(start), 0]]);
  const found = [start];
  const isFinal: number[] = [];
  const next: Int32Array[] = [];
  for (const state of found) {
    const explored = at(state);
    isFinal.push(explored.isFinal ? 1 : 0);
    const row = new Int32Array(256).fill(NO_STATE);
    spending.spend(64);
    for (let byte = 0; byte < 256; byte++) {
      const to = explored.next(byte);
      if (to === undefined) continue;
      const key = keyOf(to);
      let id = ids.get(key);
      if (id === undefined) {
        id = found.push(to) - 1;
        ids.set(key, id);
        spending.hold('states', id);
      }
      row[byte] = id;
    }
    next.push(row);
  }
  return withoutDeadEnds(new ByteAutomaton(0, isFinal, next), next);
}

function withoutDeadEnds(automaton: ByteAutomaton, next: readonly Int32Array[]): ByteAutomaton {
  const from: number[][] = next.map(() => []);
  for (const [state, row] of next.entries()) {
    for (const to of new Set(row)) if (to !== NO_STATE) from[to]?.push(state);
  }
  const live = new Set<number>();
  const pending = [...automaton.isFinal.keys()].filter((state) => automaton.isFinal[state] === 1);
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    if (live.has(state)) continue;
    live.add(state);
    pending.push(...(from[state] ?? []));
  }
  const trimmed = next.map((row) => row.map((to) => (live.has(to) ? to : NO_STATE)));
  return new ByteAutomaton(automaton.start, automaton.isFinal, trimmed);
}

/** Texts that all of them admit. */
export function intersect(parts: readonly ByteAutomaton[], spending: Spending): ByteAutomaton {
  return parts.reduce((all, part) => pairs(all, part, spending, { needsBoth: true }));
}

/** Texts that `body` admits and `without` does not. */
export function subtract(
  body: ByteAutomaton,
  without: ByteAutomaton,
  spending: Spending,
): ByteAutomaton {
  return pairs(body, without, spending, { needsBoth: false });
}

function pairs(
  left: ByteAutomaton,
  right: ByteAutomaton,
  spending: Spending,
  { needsBoth }: { readonly needsBoth: boolean },
): ByteAutomaton {
  const width = right.isFinal.length + 1;
  return explore<readonly [number, number]>(
    [left.start, right.start],
    ([first, second]) => first * width + second + 1,
    ([first, second]) => ({
      isFinal: left.isFinal[first] === 1 && (right.isFinal[second] === 1) === needsBoth,
      next(byte) {
        const firstNext = left.next(first, byte);
        const secondNext = second === NO_STATE ? NO_STATE : right.next(second, byte);
        const isDead = firstNext === NO_STATE || (needsBoth && secondNext === NO_STATE);
        return isDead ? undefined : [firstNext, secondNext];
      },
    }),
    spending,
  );
}

/** Added to the bytes of a control token's id, which are no characters. */
const WITHIN_TOKEN = 256;

function tagBytes(tag: Tag): readonly number[] {
  if (tag.kind === 'text') return [...new TextEncoder().encode(tag.text)];
  const { id } = tag;
  const ofId = [(id >> 14) & 127, (id >> 7) & 127, id & 127];
  return [CONTROL_TOKEN_BYTE, ...ofId.map((byte) => byte + WITHIN_TOKEN)];
}

/**
 * Characters and control tokens in any number, with no tag among them: where a text is in the
 * encoding of its last character, and how much of which tag it ends with (Aho and Corasick).
 */
export function freeText(tags: readonly Tag[], spending: Spending): ByteAutomaton {
  const encodings = [
    ...utf8Sequences([[0, 0x10ffff]]),
    [
      [CONTROL_TOKEN_BYTE, CONTROL_TOKEN_BYTE],
      ...Array.from({ length: 3 }, () => [0, 127] as const),
    ],
  ] as readonly (readonly ByteRange[])[];

  // The trie of the tags; failures are found in the order of its depth.
  const children: Map<number, number>[] = [new Map()];
  const endsTag = [false];
  for (const tag of tags) {
    let node = 0;
    for (const byte of tagBytes(tag)) {
      let child = children[node]!.get(byte);
      if (child === undefined) {
        child = children.push(new Map()) - 1;
        endsTag.push(false);
        children[node]!.set(byte, child);
        spending.hold('states', child);
      }
      node = child;
    }
    endsTag[node] = true;
  }
  const failure = children.map(() => 0);
  const step = (node: number, byte: number): number => {
    for (let at = node; ; at = failure[at]!) {
      const child = children[at]!.get(byte);
      if (child !== undefined) return child;
      if (at === 0) return 0;
    }
  };
  const queue = [0];
  for (const node of queue) {
    for (const [byte, child] of children[node]!) {
      if (node !== 0) failure[child] = step(failure[node]!, byte);
      endsTag[child] = endsTag[child]! || endsTag[failure[child]!]!;
      queue.push(child);
    }
  }

  /** What is missing of the character: ranges of bytes, by all encodings that are possible yet. */
  interface Place {
    readonly missing: readonly (readonly ByteRange[])[];
    readonly node: number;
  }
  return explore<Place>(
    { missing: [], node: 0 },
    ({ missing, node }) => `${node} ${missing.map((ranges) => ranges.join(';')).join('|')}`,
    ({ missing, node }) => ({
      isFinal: missing.length === 0 && !endsTag[0],
      next(byte) {
        const possible = missing.length === 0 ? encodings : missing;
        const after = possible
          .filter(([range]) => range !== undefined && range[0] <= byte && byte <= range[1])
          .map((ranges) => ranges.slice(1));
        const isWithinToken = missing.some(([range]) => range !== undefined && range[1] < 0x80);
        const to = step(node, isWithinToken ? byte + WITHIN_TOKEN : byte);
        if (after.length === 0 || endsTag[to] || endsTag[0]) return undefined;
        return { missing: after.filter((ranges) => ranges.length > 0), node: to };
      },
    }),
    spending,
  );
}
