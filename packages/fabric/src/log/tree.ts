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

export function rootOf(leaves: readonly Hash[]): Hash {
  const tree = new Frontier();
  for (const leaf of leaves) tree.add(leaf);
  return tree.root();
}

/** From the leaf's sibling up to a child of the root (RFC 6962, section 2.1.1). */
export function inclusionPath(index: number, leaves: readonly Hash[]): Hash[] {
  if (leaves.length <= 1) return [];
  const half = powerBelow(leaves.length);
  const [left, right] = [leaves.slice(0, half), leaves.slice(half)];
  return index < half
    ? [...inclusionPath(index, left), rootOf(right)]
    : [...inclusionPath(index - half, right), rootOf(left)];
}

/** That the first `old` leaves are a tree which this one goes on from (section 2.1.2). */
export function consistencyPath(old: number, leaves: readonly Hash[]): Hash[] {
  const path = (size: number, part: readonly Hash[], isWhole: boolean): Hash[] => {
    if (size === part.length) return isWhole ? [] : [rootOf(part)];
    const half = powerBelow(part.length);
    const [left, right] = [part.slice(0, half), part.slice(half)];
    return size <= half
      ? [...path(size, left, isWhole), rootOf(right)]
      : [...path(size - half, right, false), rootOf(left)];
  };
  return old === 0 ? [] : path(old, leaves, true);
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
