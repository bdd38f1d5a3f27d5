import type {
  Demotion,
  KvPart,
  Mover,
  MoverQueue,
  MoveSpan,
  PageMove,
  RestoreId,
  RestoreRequest,
  Settled,
  StoredPart,
  StoreName,
} from '../kv/tiers/movement.ts';

/** A mover that people can ask what it does, and that ends. */
export interface OpenMover extends Mover {
  /** Why nothing crosses any more; null: the lanes carry. */
  readonly laneFailure: string | null;
  readonly isIdle: boolean;
  /** Resolves when nothing is under way. Moves that were not queued stay where they are. */
  idle(): Promise<void>;
  /** What is under way, for people. */
  describe(): string;
}

/** A restore of all ranks. */
interface Restore {
  /** Its number on each rank. */
  readonly ids: readonly RestoreId[];
  /** Ranks that have not told of its end. */
  left: number;
  laneNs: number;
  bytes: number;
}

/**
 * Moves KV that several ranks have parts of: each its own heads of every page, in its own memory,
 * over its own lane, to stores of its own. All do what is asked, under the same numbers of pages
 * and slots, and it is done once the last one has: a page is on the device, or in a slot, where all
 * of its parts are.
 */
export class RankMover implements OpenMover {
  readonly parts: readonly KvPart[];
  readonly pagesTogether: number;
  readonly slots: Mover['slots'];
  readonly #ranks: readonly OpenMover[];
  readonly #restores = new Map<RestoreId, Restore>();
  /** By rank: which restore of all of them one of its own is. */
  readonly #known: readonly Map<RestoreId, RestoreId>[];
  #nextId = 0;

  /** They are of one model, and of stores of the same sizes. */
  constructor(ranks: readonly OpenMover[]) {
    this.#ranks = ranks;
    this.#known = ranks.map(() => new Map());
    const [{ parts, pagesTogether, slots }] = ranks as [OpenMover];
    this.parts = parts;
    this.pagesTogether = pagesTogether;
    this.slots = slots;
  }

  /** What not all have room for is refused, and what some took of it is dropped. */
  spill({ tenant, moves }: MoveSpan): number {
    let taken: readonly PageMove[] = moves;
    // Later ranks are not asked for what an earlier one has refused.
    const counts = this.#ranks.map((rank) => {
      const count = rank.spill({ tenant, moves: taken });
      taken = taken.slice(0, count);
      return count;
    });
    for (const [index, count] of counts.entries()) {
      if (count > taken.length) this.#ranks[index]!.drop('host', moves.slice(taken.length, count));
    }
    return taken.length;
  }

  demote(tenant: string, demotions: readonly Demotion[]): void {
    for (const rank of this.#ranks) rank.demote(tenant, demotions);
  }

  restore(request: RestoreRequest): RestoreId {
    const id = this.#nextId++;
    const ids = this.#ranks.map((rank) => rank.restore(request));
    for (const [index, own] of ids.entries()) this.#known[index]!.set(own, id);
    this.#restores.set(id, { ids, left: ids.length, laneNs: 0, bytes: 0 });
    return id;
  }

  cancel(id: RestoreId): void {
    const restore = this.#restores.get(id);
    if (restore === undefined) return;
    this.#restores.delete(id);
    for (const [index, own] of restore.ids.entries()) {
      this.#known[index]!.delete(own);
      this.#ranks[index]!.cancel(own);
    }
  }

  drop(store: StoreName, parts: readonly StoredPart[]): void {
    for (const rank of this.#ranks) rank.drop(store, parts);
  }

  dropAll(): void {
    this.#restores.clear();
    for (const known of this.#known) known.clear();
    for (const rank of this.#ranks) rank.dropAll();
  }

  queueMoves(): void | Promise<void> {
    const queued = this.#ranks.map((rank) => rank.queueMoves());
    const waiting = queued.filter((each) => each !== undefined);
    return waiting.length === 0 ? undefined : Promise.all(waiting).then(() => undefined);
  }

  settled(): readonly Settled[] {
    return this.#ranks.flatMap((rank, index) =>
      rank.settled().flatMap((event) => this.#settledBy(index, event)),
    );
  }

  /** What one rank has ended, as far as all have by now, or never will. */
  #settledBy(index: number, event: Settled): readonly Settled[] {
    if (event.kind === 'spilled' || event.kind === 'slots-lost') return [event];
    const id = this.#known[index]!.get(event.id);
    const restore = id === undefined ? undefined : this.#restores.get(id);
    // It was given up, by whoever asked for it or since another rank had failed.
    if (id === undefined || restore === undefined) return [];
    if (event.kind === 'restore-failed') {
      this.cancel(id);
      return [{ ...event, id }];
    }
    restore.laneNs += event.laneNs;
    restore.bytes += event.bytes;
    if (event.isComplete) {
      this.#known[index]!.delete(event.id);
      restore.left -= 1;
    }
    if (restore.left > 0) return [];
    this.#restores.delete(id);
    const { laneNs, bytes } = restore;
    return [{ kind: 'restored', id, layers: event.layers, isComplete: true, laneNs, bytes }];
  }

  async whenSettled(): Promise<void> {
    await Promise.race(this.#ranks.map((rank) => rank.whenSettled()));
  }

  /** Lanes and disks carry side by side. */
  queue(): MoverQueue {
    const all = this.#ranks.map((rank) => rank.queue());
    const most = (field: keyof MoverQueue) => Math.max(...all.map((queue) => queue[field]));
    return { spillNs: most('spillNs'), restoreNs: most('restoreNs'), diskNs: most('diskNs') };
  }

  dueNs(id: RestoreId): number {
    const ids = this.#restores.get(id)?.ids ?? [];
    return Math.max(0, ...ids.map((own, index) => this.#ranks[index]!.dueNs(own)));
  }

  get laneFailure(): string | null {
    return this.#ranks.map((rank) => rank.laneFailure).find((why) => why !== null) ?? null;
  }

  get isIdle(): boolean {
    return this.#ranks.every((rank) => rank.isIdle);
  }

  async idle(): Promise<void> {
    await Promise.all(this.#ranks.map((rank) => rank.idle()));
  }

  describe(): string {
    return this.#ranks.map((rank, index) => `rank ${index}: ${rank.describe()}`).join('; ');
  }
}
