import { createHash } from 'node:crypto';

/*
 * The tree of RFC 6962: a leaf is hashed behind a zero, a node behind a one, and the root of n
 * leaves joins that of the largest power of two below n with that of the rest.
 */

export type Hash = Buffer;

const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);

export function leafHash(entry: Uint8Array): Hash {
  return createHash('sha256').update(LEAF).update(entry).digest();
}

function nodeHash(left: Hash, right: Hash): Hash {
  return createHash('sha256').update(NODE).update(left).update(right).digest();
}

/** A tree that only grows, and remembers the roots of its full parts alone. */
export class Frontier {
  /** By height; null: no full part of that height. */
  readonly #parts: (Hash | null)[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(leaf: Hash): void {
    let hash = leaf;
    let height = 0;
    for (let part = this.#parts[0]; part != null; part = this.#parts[height]) {
      hash = nodeHash(part, hash);
      this.#parts[height] = null;
      height += 1;
    }
    this.#parts[height] = hash;
    this.#size += 1;
  }

  root(): Hash {
    let root: Hash | null = null;
    for (const part of this.#parts) {
      if (part != null) root = root === null ? part : nodeHash(part, root);
    }
    return root ?? createHash('sha256').digest();
  }
}

/**
 * A tree that only grows and keeps the root of each full part, so that roots, proofs and tiles of
 * any of its sizes cost a few hashes.
 */
export class Tree {
  /** By height, the roots of the parts of 2 ** height leaves, in order. */
  readonly #rows: Hash[][] = [[]];

  get size(): number {
    return this.#rows[0]!.length;
  }

  add(leaf: Hash): void {
    this.#rows[0]!.push(leaf);
    for (let height = 0; this.#rows[height]!.length % 2 === 0; height += 1) {
      const row = this.#rows[height]!;
      this.#rows[height + 1] ??= [];
      this.#rows[height + 1]!.push(nodeHash(row.at(-2)!, row.at(-1)!));
    }
  }

  /** The root of the `index`th part of 2 ** height leaves, which must be full. */
  part(height: number, index: number): Hash {
    return this.#rows[height]![index]!;
  }

  /** The root of the first `size` leaves. */
  root(size = this.size): Hash {
    return size === 0 ? createHash('sha256').digest() : this.#rootOf(0, size);
  }

  /** From the leaf's sibling up to a child of the root (RFC 6962, section 2.1.1). */
  inclusionPath(index: number, size = this.size): Hash[] {
    const path = (from: number, to: number): Hash[] => {
      if (to - from <= 1) return [];
      const half = from + powerBelow(to - from);
      return index < half
        ? [...path(from, half), this.#rootOf(half, to)]
        : [...path(half, to), this.#rootOf(from, half)];
    };
    return path(0, size);
  }

  /** That the first `old` leaves are a tree which this one goes on from (section 2.1.2). */
  consistencyPath(old: number, size = this.size): Hash[] {
    const path = (from: number, to: number, isWhole: boolean): Hash[] => {
      if (old === to) return isWhole ? [] : [this.#rootOf(from, to)];
      const half = from + powerBelow(to - from);
      return old <= half
        ? [...path(from, half, isWhole), this.#rootOf(half, to)]
        : [...path(half, to, false), this.#rootOf(from, half)];
    };
    return old === 0 ? [] : path(0, size, true);
  }

  #rootOf(from: number, to: number): Hash {
    const count = to - from;
    if (isPowerOfTwo(count)) return this.part(Math.log2(count), from / count);
    const half = from + powerBelow(count);
    return nodeHash(this.#rootOf(from, half), this.#rootOf(half, to));
  }
}

/** Whether a path shows that the tree of `old` leaves is the beginning of that of `size`. */
export function isConsistent(
  old: { readonly size: number; readonly root: Hash },
  now: { readonly size: number; readonly root: Hash },
  path: readonly Hash[],
): boolean {
  if (old.size > now.size) return false;
  if (old.size === 0) return path.length === 0;
  if (old.size === now.size) return path.length === 0 && old.root.equals(now.root);
  // RFC 9162, section 2.1.4.2. Sizes may have more than 32 bits.
  const rest = [...path];
  if (isPowerOfTwo(old.size)) rest.unshift(old.root);
  let node = BigInt(old.size - 1);
  let last = BigInt(now.size - 1);
  for (; (node & 1n) === 1n; node >>= 1n) last >>= 1n;
  const first = rest.shift();
  if (first === undefined) return false;
  let [before, after] = [first, first];
  for (const hash of rest) {
    if (last === 0n) return false;
    if ((node & 1n) === 1n || node === last) {
      before = nodeHash(hash, before);
      after = nodeHash(hash, after);
      for (; (node & 1n) === 0n && node !== 0n; node >>= 1n) last >>= 1n;
    } else {
      after = nodeHash(after, hash);
    }
    node >>= 1n;
    last >>= 1n;
  }
  return last === 0n && before.equals(old.root) && after.equals(now.root);
}

function isPowerOfTwo(count: number): boolean {
  return Number.isInteger(Math.log2(count));
}

function powerBelow(count: number): number {
  let power = 1;
  while (2 * power < count) power *= 2;
  return power;
}
