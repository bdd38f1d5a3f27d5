import type { PageNode } from '../page-node.ts';
import type { Shelf } from '../shelf.ts';
import type { StateWorth } from '../snapshot-pool.ts';
import type { StoreName } from './movement.ts';

/**
 * Which pages keep their places. The tree asks it whenever a tier is full, and obeys but for what
 * would break a prefix: it gives up the deepest page below the one that is named.
 */
export interface TierPolicy {
  /** Everything computed goes to host memory when its request ends, not when it is evicted. */
  readonly writesThrough: boolean;
  /** Which queue of the shelf a node joins, when it comes there, was used, or has changed. */
  queueOf(node: PageNode, shelf: Shelf): number;
  /** A node that was used stays where it is in its queue. */
  readonly keepsOrder: boolean;
  /** The node that goes next from a shelf that has some queued. */
  victim(shelf: Shelf, nowNs: number): PageNode;
  /**
   * How many leading ones of neighbours of one prefix, first to last, that leave the tier above the
   * shelf and are nowhere below, come to it. The others are given up.
   */
  admits(span: readonly PageNode[], shelf: Shelf, nowNs: number): number;
  /**
   * Whether the state after a node that leaves the tier above the store comes to it; absent: as
   * `admits` says of the node.
   */
  admitsState?(worth: StateWorth, store: StoreName): boolean;
  /** A request has this node, whose `hits` and `usedNs` are still those of the last one. */
  used?(node: PageNode, nowNs: number): void;
}

/** The first of the only queue: what was used longest ago, where used nodes join again. */
export function firstOf(shelf: Shelf): PageNode {
  return shelf.first(0)!;
}
