/** Where a page's content can be, best first. Index 0 is the device. */
export const TIERS = ['device', 'host', 'disk'] as const;
export type TierName = (typeof TIERS)[number];

export const DEVICE = 0;
export const HOST = 1;
export const DISK = 2;
/** Nodes without content, remembered so that their return is known as one. */
export const GHOST = 3;

/** A place in a tier that a node has not. */
export const NOWHERE = -1;

/** Why a page was computed again that had been computed before. */
export const RECOMPUTED_FOR = [
  /** In a store: computing it was sooner than bringing it, whatever else the lane had to do. */
  'sooner',
  /** In a store: it would have been brought, had lane or disk not had so much before it. */
  'lane_busy',
  /** In a store: computed while what continues it was brought. */
  'overlapped',
  /** On its way: the lane became slower than computing. */
  'lane_slower',
  /** In a store: what its request was to have from stores had failed before. */
  'failed',
  /** Given up without being written: not worth it, or no room for it. */
  'not_written',
  /** Not written, because staging or the budget of spills was short. */
  'refused',
  /** Lost on its way or in a store. */
  'lost',
  /** Given up in the last place that it had. */
  'evicted',
] as const;
export type RecomputedFor = (typeof RECOMPUTED_FOR)[number];

/** A node's place in a queue of a tier's shelf. */
export interface Link {
  readonly node: PageNode;
  queue: number;
  previous: Link;
  next: Link;
}

/** Content on its way to the device for several nodes, for which sequences wait. */
export interface Arrival {
  /** Those whose pages come. */
  readonly nodes: readonly PageNode[];
}

/** A node's page in the pool of layers that see a window. `WindowPool` alone changes it. */
export interface WindowPart {
  readonly page: number;
  /** Sequences whose windows are over it, and the arrival that brings it. */
  holders: number;
  arrival: Arrival | null;
  /** Its place among those that no sequence has. */
  link: Link | null;
}

/**
 * One page of some tenant's prefix, wherever its content is: a node of the prefix tree, whose
 * parent is the page before it. `PrefixTree` alone changes it; policies read it.
 */
export class PageNode {
  readonly key: string;
  readonly tenant: string;
  /** The page before it; null: it is the first. */
  readonly parent: PageNode | null;
  /** Pages before it. */
  readonly index: number;
  /** Nodes one page longer; null: none was ever known. */
  children: Set<PageNode> | null = null;
  /** Page of the device, slot of host memory, slot of the disk; NOWHERE where it is not. */
  readonly at: number[] = [NOWHERE, NOWHERE, NOWHERE];
  /** Its place in the queue of each tier; none while it is held, or is not there. */
  readonly links: (Link | undefined)[] = [undefined, undefined, undefined, undefined];
  /** Place on the device of the state of rows after its last token (`SnapshotPool`), or NOWHERE. */
  snapshot = NOWHERE;
  /** Sequences that use it, and the arrival that brings it. While there are any it stays. */
  holders = 0;
  arrival: Arrival | null = null;
  /** What windowed layers have of it on the device; null: it is not there. */
  window: WindowPart | null = null;
  /** Requests that had it as part of their prompt or answer. */
  hits = 0;
  usedNs = 0;
  /** Why it is computed again, should it be wanted while its content is nowhere. */
  goneFor: RecomputedFor = 'evicted';
  /** A number of the policy's own. */
  mark = 0;

  constructor(key: string, tenant: string, parent: PageNode | null) {
    this.key = key;
    this.tenant = tenant;
    this.parent = parent;
    this.index = parent === null ? 0 : parent.index + 1;
  }

  /** Whether its content is anywhere. */
  get isResident(): boolean {
    return this.at.some((place) => place !== NOWHERE);
  }

  /** Whether its content is in a store below the device. */
  get isStored(): boolean {
    return this.at[HOST] !== NOWHERE || this.at[DISK] !== NOWHERE;
  }
}

/** Where a part of nodes beside their pages is on the device. */
export interface SidePool {
  /** NOWHERE: it is neither there nor on its way. */
  placeOf(node: PageNode): number;
  /** What brings it; null: it is there, or comes from nowhere. */
  arrivalOf(node: PageNode): Arrival | null;
  /** The place that was taken for it is written by that arrival, and stays until this is told. */
  comes(node: PageNode, arrival: Arrival): void;
  arrived(node: PageNode): void;
  /** It does not come. Its place is free. */
  failed(node: PageNode, isStored: boolean): void;
  /** It is in no store any more. */
  lost?(node: PageNode): void;
}
