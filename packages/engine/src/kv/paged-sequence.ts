import type { Arrival, PageNode } from './page-node.ts';
import type { SnapshotSequence } from './snapshot-pool.ts';
import type { KvShare } from './tiers/kv-shares.ts';
import type { WindowedSequence } from './window-pool.ts';

/** A sequence as far as its pages go. */
export interface PagedSequence extends SnapshotSequence, WindowedSequence {
  readonly request: { readonly tenant: string };
  readonly length: number;
  /** A view of tokens [from, to). */
  tokens(from: number, to: number): Uint32Array;
  /** Pages of the device, in the order of its tokens; empty while it waits. */
  readonly pages: number[];
  /** Keys of its full pages, as far as they were needed. */
  readonly pageKeys: string[];
  /** The nodes that it holds, from the first page on. */
  readonly nodes: PageNode[];
  /** Leading pages whose content is, or will be, what their nodes say. */
  published: number;
  /** What it must not compute, because it is there or comes; null: there is no more of that. */
  awaited: Awaited | null;
  /** It waited for what did not come: it takes no more from stores. */
  isDistrustful: boolean;
  /** What it had of stores, as it came about. */
  readonly kvShares: KvShare[];
}

/** Pages [first, end) of a sequence are there once all has arrived; those before are computed. */
export interface Awaited {
  readonly first: number;
  readonly end: number;
  /** Those not there yet. */
  readonly arrivals: Set<Arrival>;
  /** The node from whose state it goes on then; null: there are no states. */
  readonly state: PageNode | null;
}

/** What exists already of a sequence. */
export interface PrefixMatch {
  /** Leading pages whose content is somewhere. */
  readonly pages: number;
  /** Of those, pages that are on the device, or on their way there. */
  readonly onDevice: number;
  /** Of the latter, pages that no sequence holds: holding them takes available pages. */
  readonly fromCache: number;
  /** So many leading pages are known, of which more cannot be continued; absent: none. */
  readonly knownPages?: number | undefined;
  /** The same, if others go on from there in another way; 0: none does. */
  readonly branchPages?: number | undefined;
}

export const NO_MATCH: PrefixMatch = { pages: 0, onDevice: 0, fromCache: 0 };
