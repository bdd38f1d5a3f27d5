import { CONTROL_TOKEN_BYTE } from '@bridgekeeper/device/threads';
import type { Spending } from './budget.ts';
import type { Tag } from './expression.ts';
import { type ByteRange, mergeRanges, utf8Sequences } from './utf8.ts';

export const NO_STATE = -1;

/** A deterministic automaton over bytes without a stack. */
export class ByteAutomaton {
  readonly start: number;
  /** By state: 1 where a text may end. */
  readonly isFinal: Uint8Array;
  /** Bytes of one class are treated alike by every state. */
  readonly classOfByte: Uint8Array;
  readonly classes: number;
  /** By state and class: a state, or NO_STATE. */
  readonly #next: Int32Array;
  readonly #rangesOfClasses = new Map<string, readonly ByteRange[]>();

  constructor(
    start: number,
    isFinal: Uint8Array,
    classOfByte: Uint8Array,
    classes: number,
    next: Int32Array,
  ) {
    this.start = start;
    this.isFinal = isFinal;
    this.classOfByte = classOfByte;
    this.classes = classes;
    this.#next = next;
  }

  next(state: number, byteClass: number): number {
    return this.#next[state * this.classes + byteClass]!;
  }

  /** By state that is reached from `state`: with which bytes. */
  rangesFrom(state: number): Map<number, readonly ByteRange[]> {
    const classesTo = new Map<number, number[]>();
    for (let byteClass = 0; byteClass < this.classes; byteClass++) {
      const to = this.next(state, byteClass);
      if (to === NO_STATE) continue;
      const known = classesTo.get(to);
      if (known === undefined) classesTo.set(to, [byteClass]);
      else known.push(byteClass);
    }
    const reached = new Map<number, readonly ByteRange[]>();
    for (const [to, classes] of classesTo) reached.set(to, this.#rangesOf(classes));
    return reached;
  }

  #rangesOf(classes: readonly number[]): readonly ByteRange[] {
    const key = classes.join();
    let ranges = this.#rangesOfClasses.get(key);
    if (ranges === undefined) {
      const bytes = [...this.classOfByte.keys()].filter((byte) =>
        classes.includes(this.classOfByte[byte]!),
      );
      ranges = mergeRanges(bytes.map((byte): ByteRange => [byte, byte]));
      this.#rangesOfClasses.set(key, ranges);
    }
    return ranges;
  }

  /** The same without the ways from which no end is reached. */
  withoutDeadEnds(): ByteAutomaton {
    const { isFinal, classes } = this;
    const states = isFinal.length;
    const from: number[][] = Array.from({ length: states }, () => []);
    for (let state = 0; state < states; state++) {
      let last = NO_STATE;
      for (let byteClass = 0; byteClass < classes; byteClass++) {
        const to = this.next(state, byteClass);
        if (to !== NO_STATE && to !== last) from[to]!.push(state);
        last = to;
      }
    }
    const isLive = isFinal.slice();
    const pending = [...isFinal.keys()].filter((state) => isFinal[state] === 1);
    let live = pending.length;
    for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
      for (const before of from[state]!) {
        if (isLive[before] === 1) continue;
        isLive[before] = 1;
        live += 1;
        pending.push(before);
      }
    }
    if (live === states) return this;
    const next = this.#next.slice();
    for (let at = 0; at < next.length; at++) {
      if (next[at] !== NO_STATE && isLive[next[at]!] === 0) next[at] = NO_STATE;
    }
    return new ByteAutomaton(this.start, isFinal, this.classOfByte, classes, next);
  }
}

/** What is followed: states are known by numbers, also before they have a place. */
interface Followed {
  readonly start: number;
  readonly classOfByte: Uint8Array;
  readonly classes: number;
  isFinal(key: number): boolean;
  /** The key of a state, or NO_STATE. */
  next(key: number, byteClass: number): number;
}

/** All states that are reached from the start, and from which an end is. */
function explore(of: Followed, spending: Spending): ByteAutomaton {
  const { classes } = of;
  const ids = new Map<number, number>([[of.start, 0]]);
  const keys = [of.start];
  const next: number[] = [];
  for (const key of keys) {
    spending.spend(1 + (classes >> 2));
    for (let byteClass = 0; byteClass < classes; byteClass++) {
      const to = of.next(key, byteClass);
      let id = NO_STATE;
      if (to !== NO_STATE) {
        id = ids.get(to) ?? NO_STATE;
        if (id === NO_STATE) {
          id = keys.push(to) - 1;
          ids.set(to, id);
          spending.hold('states', id);
        }
      }
      next.push(id);
    }
  }
  const isFinal = Uint8Array.from(keys, (key) => +of.isFinal(key));
  const all = new ByteAutomaton(0, isFinal, of.classOfByte, classes, Int32Array.from(next));
  return all.withoutDeadEnds();
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
  // Bytes that both treat alike.
  const ids = new Map<number, number>();
  const leftClasses: number[] = [];
  const rightClasses: number[] = [];
  const classOfByte = Uint8Array.from({ length: 256 }, (_, byte) => {
    const [leftClass, rightClass] = [left.classOfByte[byte]!, right.classOfByte[byte]!];
    const key = leftClass * 256 + rightClass;
    let id = ids.get(key);
    if (id === undefined) {
      id = leftClasses.push(leftClass) - 1;
      rightClasses.push(rightClass);
      ids.set(key, id);
    }
    return id;
  });

  // The second may be NO_STATE.
  const width = right.isFinal.length + 1;
  const keyOf = (first: number, second: number) => first * width + second + 1;
  const firstOf = (key: number) => Math.floor(key / width);
  const secondOf = (key: number) => (key % width) - 1;
  return explore(
    {
      start: keyOf(left.start, right.start),
      classOfByte,
      classes: leftClasses.length,
      isFinal(key) {
        return (
          left.isFinal[firstOf(key)] === 1 && (right.isFinal[secondOf(key)] === 1) === needsBoth
        );
      },
      next(key, byteClass) {
        const first = left.next(firstOf(key), leftClasses[byteClass]!);
        if (first === NO_STATE) return NO_STATE;
        const before = secondOf(key);
        const second =
          before === NO_STATE ? NO_STATE : right.next(before, rightClasses[byteClass]!);
        return needsBoth && second === NO_STATE ? NO_STATE : keyOf(first, second);
      },
    },
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

  // Ranges of bytes within which nothing begins or ends.
  const cuts = new Uint8Array(257);
  for (const [first, last] of encodings.flat())
    cuts.fill(1, first, first + 1).fill(1, last + 1, last + 2);
  for (const byte of tags.flatMap(tagBytes)) cuts.fill(1, byte % 256, (byte % 256) + 2);
  let classes = 0;
  const firstBytes = [0];
  const classOfByte = Uint8Array.from({ length: 256 }, (_, byte) => {
    if (byte > 0 && cuts[byte] === 1) classes = firstBytes.push(byte) - 1;
    return classes;
  });

  /** What is missing of the character: ranges of bytes, by all encodings that are possible yet. */
  interface Place {
    readonly missing: readonly (readonly ByteRange[])[];
    readonly node: number;
  }
  const places: Place[] = [];
  const placeIds = new Map<string, number>();
  const placeOf = (missing: Place['missing'], node: number): number => {
    const key = `${node} ${missing.map((ranges) => ranges.join(';')).join('|')}`;
    const id = placeIds.get(key) ?? places.push({ missing, node }) - 1;
    placeIds.set(key, id);
    return id;
  };
  return explore(
    {
      start: placeOf([], 0),
      classOfByte,
      classes: firstBytes.length,
      isFinal: (place) => places[place]!.missing.length === 0 && !endsTag[0],
      next(place, byteClass) {
        const { missing, node } = places[place]!;
        const byte = firstBytes[byteClass]!;
        const possible = missing.length === 0 ? encodings : missing;
        const after = possible
          .filter(([range]) => range !== undefined && range[0] <= byte && byte <= range[1])
          .map((ranges) => ranges.slice(1));
        const isWithinToken = missing.some(([range]) => range !== undefined && range[1] < 0x80);
        const to = step(node, isWithinToken ? byte + WITHIN_TOKEN : byte);
        if (after.length === 0 || endsTag[to] || endsTag[0]) return NO_STATE;
        return placeOf(
          after.filter((ranges) => ranges.length > 0),
          to,
        );
      },
    },
    spending,
  );
}
