import { invariant } from '@bridgekeeper/bridge';
import { type Arrival, DISK, NOWHERE, type PageNode } from '../page-node.ts';
import type { SnapshotPool, StateWorth } from '../snapshot-pool.ts';
import type { WindowedSequence, WindowPool } from '../window-pool.ts';
import type { PartCounters, SidePart } from './accounts.ts';
import type { Mover, StoreName } from './movement.ts';
import { StoredParts } from './stored-parts.ts';

/** What a node has in a store beside its page. */
export interface Side {
  readonly stored: StoredParts;
  readonly node: PageNode;
}

/** What is below the device, as far as parts beside pages go. */
export interface SideStores {
  readonly mover: Mover;
  readonly counters: Readonly<Record<SidePart, PartCounters>>;
  /** Whether the node itself would come to the store. */
  readonly isAdmitted: (node: PageNode, store: StoreName) => boolean;
  readonly isStateAdmitted: (node: PageNode, worth: StateWorth, store: StoreName) => boolean;
}

/**
 * What nodes have beside their pages, where layers see a window or rows keep a state: without these
 * a prefix cannot be gone on from. Each is a part of its node with a pool and slots of its own, and
 * is wherever it is on its own account, as long as the node has content anywhere.
 */
export class SideParts {
  readonly #window: WindowPool | null;
  readonly #snapshots: SnapshotPool | null;
  readonly #windows: StoredParts | null = null;
  readonly #states: StoredParts | null = null;
  /** Both, as far as there are stores for them. */
  readonly #stored: readonly StoredParts[];

  constructor(
    window: WindowPool | null,
    snapshots: SnapshotPool | null,
    stores: SideStores | null,
  ) {
    this.#window = window;
    this.#snapshots = snapshots;
    if (stores !== null && window !== null) {
      this.#windows = storedWindows(window, stores);
    }
    if (stores !== null && snapshots !== null) {
      this.#states = storedStates(snapshots, stores);
    }
    this.#stored = [this.#windows, this.#states].filter((stored) => stored !== null);
  }

  /** Whether nodes have any: a prefix is gone on from at its end alone, or not at all. */
  get exist(): boolean {
    return this.#window !== null || this.#snapshots !== null;
  }

  /** Whether the node has all that a node can have, on the device or in a store. */
  has(node: PageNode): boolean {
    const hasWindow = this.#window === null || node.window !== null || this.#windows?.has(node);
    const hasState =
      this.#snapshots === null || node.snapshot !== NOWHERE || this.#states?.has(node);
    return hasWindow === true && hasState === true;
  }

  /**
   * Of leading nodes of a prefix, those behind which a sequence can go on, with what is on the
   * device, or on its way there, or with stores.
   */
  continuable(nodes: readonly PageNode[], withStores: boolean): number {
    const windows = withStores ? this.#windows : null;
    const hasWindow = (node: PageNode) => node.window !== null || windows?.has(node) === true;
    const seen = this.#window?.continuable(nodes, hasWindow) ?? nodes.length;
    if (this.#snapshots === null || seen === 0) return seen;
    const states = withStores && this.#snapshots.hasRoom ? this.#states : null;
    const hasState = (node: PageNode) => node.snapshot !== NOWHERE || states?.has(node) === true;
    const kept = nodes.slice(0, seen).findLastIndex(hasState) + 1;
    // Without its last pages, what comes before them may have no window either.
    return kept === seen ? seen : this.continuable(nodes.slice(0, kept), withStores);
  }

  /** Of what a sequence needs to go on behind these nodes, that which is in stores alone. */
  missingBehind(nodes: readonly PageNode[]): readonly Side[] {
    const sides: Side[] = [];
    const add = (stored: StoredParts | null, wanted: readonly PageNode[]) => {
      if (stored === null) return;
      for (const node of wanted) {
        if (stored.pool.placeOf(node) !== NOWHERE) continue;
        invariant(stored.has(node), 'what a prefix is gone on from is on the device or in a store');
        sides.push({ stored, node });
      }
    };
    if (this.#window !== null) add(this.#windows, this.#window.seenFrom(nodes));
    add(this.#states, nodes.slice(-1));
    return sides;
  }

  /** What brings what a sequence needs to go on behind these nodes. */
  arrivalsBehind(nodes: readonly PageNode[]): readonly Arrival[] {
    const seen = this.#window?.seenFrom(nodes).map((node) => this.#window!.arrivalOf(node)) ?? [];
    const last = nodes.at(-1);
    const state = last === undefined ? null : (this.#snapshots?.arrivalOf(last) ?? null);
    return [...seen, state].filter((arrival) => arrival !== null);
  }

  /** These keep their slots until `unpin`, whatever has to be written there. */
  pin(sides: readonly Side[]): void {
    for (const stored of this.#stored) {
      stored.pin(sides.filter((side) => side.stored === stored).map(({ node }) => node));
    }
  }

  unpin(): void {
    this.pin([]);
  }

  /** The sequence has its window from now on, and what is missing, which was told, has places. */
  admit(sequence: WindowedSequence, missing: readonly Side[]): void {
    const windows = this.#window?.admit(sequence) ?? [];
    const wanted = missing.filter(({ stored }) => stored === this.#windows);
    invariant(windows.length === wanted.length, 'a prefix that is continued has its window');
    for (const { stored, node } of missing) {
      if (stored === this.#states) this.#snapshots!.bring(node);
    }
  }

  /** The node has no content any more. */
  forget(node: PageNode): void {
    this.#window?.forget(node);
    this.#snapshots?.drop(node);
    for (const stored of this.#stored) stored.drop(node);
  }

  /** What the node, which no sequence holds, had on the device is lost. */
  leaveDevice(node: PageNode): void {
    this.#window?.forget(node);
    this.#snapshots?.drop(node, this.#states?.has(node));
  }

  /** The node's page goes on to disk. */
  demote(node: PageNode): void {
    for (const stored of this.#stored) stored.demote(node);
  }

  /** What was to be in that slot is not. */
  lose(part: SidePart, store: StoreName, slot: number): void {
    this.#stored.find((stored) => stored.part === part)?.lose(store, slot);
  }
}

function storedWindows(
  window: WindowPool,
  { mover, counters, isAdmitted }: SideStores,
): StoredParts {
  const isWorthDisk = (node: PageNode) => node.at[DISK] !== NOWHERE || isAdmitted(node, 'disk');
  const stored = new StoredParts('window', window, mover, counters.window, isWorthDisk);
  // Of what sequences only passed there is too much, of which too little comes back.
  window.whenEvicted = (node, isEnd) => {
    // A prompt that comes again goes on from the page before its last, which its window is over.
    const pages = window.pagesBefore + 1;
    const isWorthIt = () =>
      isEnd && isLeftWithin(node, pages) && (node.isStored || isAdmitted(node, 'host'));
    stored.spill(node, isWorthIt);
  };
  return stored;
}

/**
 * Whether a request ended, or parted from others, at the node or so few pages behind it that its
 * window is over it. Where all went on alike nobody goes on from, however many there were.
 */
function isLeftWithin(node: PageNode, pages: number): boolean {
  let each = node;
  for (let left = pages; left > 0; left--) {
    let next: PageNode | null = null;
    for (const child of each.children ?? []) {
      if (next === null || child.hits > next.hits) next = child;
    }
    if (next === null || next.hits < each.hits) return true;
    each = next;
  }
  return false;
}

function storedStates(
  snapshots: SnapshotPool,
  { mover, counters, isStateAdmitted }: SideStores,
): StoredParts {
  const isWorth = (node: PageNode, worth: StateWorth | null, store: StoreName) =>
    worth !== null && isStateAdmitted(node, worth, store);
  const isWorthDisk = (node: PageNode) => isWorth(node, snapshots.worthOf(node), 'disk');
  const stored = new StoredParts('state', snapshots, mover, counters.state, isWorthDisk);
  snapshots.whenEvicted = (node, worth) => stored.spill(node, () => isWorth(node, worth, 'host'));
  return stored;
}
