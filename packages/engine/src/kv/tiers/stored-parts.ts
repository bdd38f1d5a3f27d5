import { invariant } from '@bridgekeeper/bridge';
import { type Link, NOWHERE, type PageNode, type SidePool } from '../page-node.ts';
import { Queue } from '../shelf.ts';
import { type PartCounters, type SidePart, STORES } from './accounts.ts';
import type { Mover, PageMove, StoreName } from './movement.ts';

/**
 * One kind of what nodes have beside their pages, windows or states, as far as it is below the
 * device: slots of host memory and of the disk. A part that the device needs the place of is
 * written to host memory, unless it is there already; what came back keeps its slot. Where slots
 * are short, the part that was used longest ago gives way: in host memory it goes on to the disk,
 * if that is worth it.
 */
export class StoredParts {
  readonly part: SidePart;
  readonly pool: SidePool;
  readonly #mover: Mover;
  readonly #counters: PartCounters;
  readonly #slots: Readonly<Record<StoreName, PartSlots>>;
  readonly #isWorthDisk: (node: PageNode) => boolean;
  /** They do not give way. */
  #pinned: ReadonlySet<PageNode> = new Set();

  /** `isWorthDisk`: whether what gives way in host memory goes on to the disk. */
  constructor(
    part: SidePart,
    pool: SidePool,
    mover: Mover,
    counters: PartCounters,
    isWorthDisk: (node: PageNode) => boolean,
  ) {
    this.part = part;
    this.pool = pool;
    this.#mover = mover;
    this.#counters = counters;
    this.#isWorthDisk = isWorthDisk;
    const slotsOf = (store: StoreName) => new PartSlots(mover.slots[store][part] ?? 0);
    this.#slots = { host: slotsOf('host'), disk: slotsOf('disk') };
  }

  has(node: PageNode): boolean {
    return this.storeOf(node) !== null;
  }

  /** The best store that has it. */
  storeOf(node: PageNode): StoreName | null {
    return STORES.find((store) => this.#slots[store].slotOf(node) !== NOWHERE) ?? null;
  }

  /** From that store, which has it, to its place on the device. */
  moveOf(node: PageNode, store: StoreName): PageMove {
    const slot = this.#slots[store].slotOf(node);
    return { part: this.part, page: this.pool.placeOf(node), slot, key: node.key };
  }

  /** These are used now, and do not give way until others are named. */
  pin(nodes: readonly PageNode[]): void {
    for (const node of nodes) for (const store of STORES) this.#slots[store].touch(node);
    this.#pinned = new Set(nodes);
  }

  /** Its place on the device goes to another. Says whether it is in a store from now on. */
  spill(node: PageNode, isWorthIt: () => boolean): boolean {
    if (this.has(node)) return true;
    if (this.#slots.host.places === 0) return false;
    const slot = isWorthIt() ? this.#take('host') : NOWHERE;
    if (slot === NOWHERE) {
      this.#counters.avoided += 1;
      return false;
    }
    const move = { part: this.part, page: this.pool.placeOf(node), slot, key: node.key };
    if (this.#mover.spill({ tenant: node.tenant, moves: [move] }) === 0) {
      this.#slots.host.giveBack(slot);
      this.#counters.refused += 1;
      return false;
    }
    this.#put(node, 'host', slot);
    this.#counters.spilled += 1;
    return true;
  }

  /** What host memory has of the node goes on to the disk, if there are slots. */
  demote(node: PageNode): void {
    const hostSlot = this.#slots.host.slotOf(node);
    if (hostSlot === NOWHERE) return;
    if (this.#slots.disk.slotOf(node) === NOWHERE) {
      const diskSlot = this.#take('disk');
      if (diskSlot === NOWHERE) return;
      const { part } = this;
      this.#mover.demote(node.tenant, [{ part, hostSlot, diskSlot, key: node.key }]);
      this.#put(node, 'disk', diskSlot);
      this.#counters.demoted += 1;
    }
    this.#leave(node, 'host');
  }

  /** The node has no content any more. */
  drop(node: PageNode): void {
    for (const store of STORES) {
      if (this.#slots[store].slotOf(node) !== NOWHERE) this.#leave(node, store);
    }
  }

  /** What was to be there is not. */
  lose(store: StoreName, slot: number): void {
    const node = this.#slots[store].nodeAt(slot);
    if (node === undefined) return;
    this.#counters.lost += 1;
    this.#leave(node, store);
  }

  restored(): void {
    this.#counters.restored += 1;
  }

  /** NOWHERE: there is no slot, or none that may give way. */
  #take(store: StoreName): number {
    const slots = this.#slots[store];
    if (slots.free === 0) {
      const oldest = slots.oldest;
      if (oldest === undefined || this.#pinned.has(oldest)) return NOWHERE;
      const hasDisk = store === 'host' && this.#slots.disk.places > 0;
      if (hasDisk && this.#isWorthDisk(oldest)) this.demote(oldest);
      if (slots.slotOf(oldest) !== NOWHERE) this.#leave(oldest, store);
    }
    return slots.take();
  }

  #put(node: PageNode, store: StoreName, slot: number): void {
    this.#slots[store].put(node, slot);
    this.#counters.resident[STORES.indexOf(store)]! += 1;
  }

  #leave(node: PageNode, store: StoreName): void {
    const slot = this.#slots[store].remove(node);
    this.#counters.resident[STORES.indexOf(store)]! -= 1;
    this.#mover.drop(store, [{ part: this.part, slot }]);
    if (!this.has(node)) this.pool.lost?.(node);
  }
}

/** Slots of one store for one part, and who has them, in the order in which they were used. */
class PartSlots {
  readonly places: number;
  readonly #free: number[] = [];
  readonly #nodeAt: (PageNode | undefined)[];
  readonly #kept = new Map<PageNode, { readonly slot: number; link: Link }>();
  readonly #order = new Queue();

  constructor(places: number) {
    this.places = places;
    this.#nodeAt = new Array(places);
    for (let slot = places - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  get free(): number {
    return this.#free.length;
  }

  get oldest(): PageNode | undefined {
    return this.#order.first;
  }

  slotOf(node: PageNode): number {
    return this.#kept.get(node)?.slot ?? NOWHERE;
  }

  nodeAt(slot: number): PageNode | undefined {
    return this.#nodeAt[slot];
  }

  take(): number {
    const slot = this.#free.pop();
    invariant(slot !== undefined, 'a slot is taken from those that are free');
    return slot;
  }

  giveBack(slot: number): void {
    this.#free.push(slot);
  }

  put(node: PageNode, slot: number): void {
    invariant(!this.#kept.has(node), 'a part has one slot in a store');
    this.#kept.set(node, { slot, link: this.#order.append(node, 0) });
    this.#nodeAt[slot] = node;
  }

  touch(node: PageNode): void {
    const kept = this.#kept.get(node);
    if (kept === undefined) return;
    this.#order.remove(kept.link);
    kept.link = this.#order.append(node, 0);
  }

  /** Its slot, which is free. */
  remove(node: PageNode): number {
    const { slot, link } = this.#kept.get(node)!;
    this.#order.remove(link);
    this.#kept.delete(node);
    this.#nodeAt[slot] = undefined;
    this.#free.push(slot);
    return slot;
  }
}
