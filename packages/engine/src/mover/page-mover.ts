import { type CrossingRecord, invariant } from '@bridgekeeper/bridge';
import {
  type CopyRequest,
  type Device,
  DeviceError,
  type DeviceEvent,
  type HostBuffer,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import {
  type Demotion,
  KV_PARTS,
  type KvPart,
  type MoveFailure,
  type Mover,
  type MoverQueue,
  type MoveSpan,
  type PageMove,
  type RestoreId,
  type RestoreRequest,
  type Settled,
  type StoredPart,
  type StoreName,
} from '../kv/tiers/movement.ts';
import type { Route } from '../traffic/route.ts';
import type { DiskStore } from './disk-store.ts';
import type { HostPlace, HostStore } from './host-store.ts';
import type { LaneBudget, LaneMeter } from './lane-budget.ts';
import { type PartPool, type Piece, partLaneNs, piecesOf } from './part-places.ts';
import { SlotOrder, type SlotUse, sharedUse } from './slot-order.ts';
import { type RingPart, StagingRing } from './staging-ring.ts';

export interface PageMoverOptions {
  readonly device: Device;
  /** Those of the model; the first is `context`. */
  readonly parts: readonly PartPool[];
  /** The engine's own. */
  readonly stream: Stream;
  readonly route: Route;
  readonly host: HostStore;
  readonly disk: DiskStore | null;
  /** Where pieces from disk are decrypted to, each for a crossing; none where there is no disk. */
  readonly bounces: readonly HostBuffer[];
  /** Device memory in which what moves lies side by side. */
  readonly spillStaging: Slice;
  readonly restoreStaging: Slice;
  /** As much as should cross at once. */
  readonly crossingBytes: number;
  readonly meter: LaneMeter;
  readonly budget: LaneBudget;
}

/** A part of the model, and what of it crosses as one. */
interface Moved extends PartPool {
  readonly pieces: readonly Piece[];
}

/** A spill that was asked for. */
interface Spill {
  readonly tenant: string;
  readonly move: PageMove;
  /** Of each of its pieces. */
  readonly places: readonly HostPlace[];
  readonly use: SlotUse;
  /** What else was asked for before it: only spills between which nothing was may wait together. */
  readonly epoch: number;
  readonly priceNs: number;
  piecesLeft: number;
  isLost: boolean;
}

/** Pieces that lie side by side in staging and in host memory, so that they cross as one. */
interface Batch {
  readonly staged: RingPart;
  readonly place: HostPlace;
  readonly piece: Piece;
  readonly spills: Spill[];
}

/** Of a restore: a piece of one part that comes from a slot. */
interface Coming {
  readonly move: PageMove;
  readonly piece: Piece;
  readonly use: SlotUse;
  /** Where it is in host memory; null: it is on disk, or nowhere. */
  readonly place: HostPlace | null;
}

/** Part of a restore that crosses as one: a piece of each of its moves. */
interface Run {
  readonly part: KvPart;
  readonly piece: Piece;
  readonly moves: readonly PageMove[];
  readonly uses: readonly SlotUse[];
  readonly bytes: number;
  readonly priceNs: number;
  readonly from: StoreName;
  readonly place: HostPlace | null;
}

interface Restore {
  readonly id: RestoreId;
  readonly tenant: string;
  /** Resolves once the pages' earlier owners are done with them on the device. */
  readonly ordered: Promise<void>;
  readonly order: () => void;
  runsLeft: number;
  isCancelled: boolean;
  hasScattered: boolean;
  failure: MoveFailure | null;
  readonly lost: StoredPart[];
  /** What is left of it for the lane, by what is known. */
  leftNs: number;
  /** What is left of it to read from disk. */
  leftDiskBytes: number;
  laneNs: number;
  bytes: number;
}

/**
 * Moves parts of KV between the device and what is below it. What moves together is put side by
 * side on the device (`gather-pages`) and crosses as one: a toll is paid for many pages. A part
 * that is larger than what should cross at once, as states are, crosses in pieces, so that nothing
 * waits for all of it.
 *
 * A spill is copied to staging on the engine's stream, so that its pages may be reused by whatever
 * is launched next; it crosses when the lane has time. A restore crosses to staging at once, and is
 * copied to its pages on a stream of its own once the launches that were there when it was asked
 * for are done; the engine's stream follows it. So restores do not wait for steps, nor steps for
 * them.
 */
export class PageMover implements Mover {
  readonly parts: readonly KvPart[];
  readonly slots: Mover['slots'];
  readonly #options: PageMoverOptions;
  readonly pagesTogether: number;
  readonly #moved: ReadonlyMap<KvPart, Moved>;
  /** As much as the end of a ring may be too short for, when what crosses has several sizes. */
  readonly #unusedBytes: number;
  readonly #order = new SlotOrder();
  readonly #spillRing: StagingRing;
  readonly #restoreRing: StagingRing;
  readonly #spills: Stream;
  readonly #restores: Stream;
  readonly #event: DeviceEvent;
  /** Spills that are not in staging yet, and the room there that is theirs. */
  #asked: Spill[] = [];
  #askedBytes = 0;
  /** Restores that were asked for since moves were last queued. */
  #unordered: Restore[] = [];
  readonly #open = new Map<RestoreId, Restore>();
  readonly #roomWanted: { readonly bytes: number; take(part: RingPart): void }[] = [];
  readonly #bounces: HostBuffer[];
  readonly #bounceWanted: ((bounce: HostBuffer) => void)[] = [];
  readonly #underWay = new Set<Promise<void>>();
  readonly #waitingNs = { spill: 0, restore: 0 };
  #settled: Settled[] = [];
  #tell: (() => void) | null = null;
  #epoch = 0;
  #nextId = 0;
  #laneFailure: string | null = null;

  constructor(options: PageMoverOptions) {
    const { device, parts, host, disk, bounces } = options;
    this.#options = options;
    this.parts = parts.map(({ part }) => part);
    this.slots = { host: host.slots, disk: disk?.slots ?? {} };
    this.#moved = new Map(parts.map((pool) => [pool.part, { ...pool, pieces: piecesOf(pool) }]));
    const sizes = [...this.#moved.values()].flatMap(({ pieces }) => pieces.map((p) => p.bytes));
    this.#unusedBytes = new Set(sizes).size > 1 ? Math.max(...sizes) : 0;
    const [context] = parts;
    invariant(context?.part === 'context', 'every model has contexts');
    this.pagesTogether = Math.max(1, Math.floor(options.crossingBytes / context.bytes));
    const room = options.restoreStaging.bytes;
    invariant(Math.max(options.crossingBytes, ...sizes) <= room, 'what crosses fits into staging');
    this.#spillRing = new StagingRing(options.spillStaging.bytes);
    this.#restoreRing = new StagingRing(options.restoreStaging.bytes);
    this.#bounces = [...bounces];
    this.#spills = device.createStream('kv spills');
    this.#restores = device.createStream('kv restores');
    this.#event = device.createEvent();
  }

  /**
   * Launches what moves pages once, while no page is in use: a kernel that runs for the first time
   * may wait until the GPU is idle, and the launching thread with it.
   */
  async warmUp(): Promise<void> {
    const { parts, stream, spillStaging, restoreStaging } = this.#options;
    const { pool, bytes, pieces } = this.#moved.get(parts[0]!.part)!;
    const one = {
      kv: pool(),
      pageBytes: bytes,
      fromBytes: 0,
      partBytes: pieces[0]!.bytes,
      pages: [0],
    };
    stream.launch('gather-pages', { ...one, out: spillStaging });
    stream.record(this.#event);
    this.#restores.wait(this.#event);
    this.#restores.launch('scatter-pages', { ...one, input: restoreStaging });
    await this.#restores.synchronize();
  }

  spill({ tenant, moves }: MoveSpan): number {
    const lost: StoredPart[] = [];
    let taken = 0;
    for (const move of moves) {
      const places = this.#laneFailure !== null ? 'later' : this.#placesOf(move);
      if (places === 'never') {
        lost.push(partOf(move));
        this.#order.wrote('host', move, false);
      } else if (places === 'later' || !this.#ask(tenant, move, places)) break;
      taken += 1;
    }
    if (lost.length > 0) this.#lose('host', 'no-memory', lost);
    return taken;
  }

  /** Where each piece of a slot is in host memory. */
  #placesOf({ part, slot }: StoredPart): HostPlace[] | 'later' | 'never' {
    const places: HostPlace[] = [];
    for (const piece of this.#moved.get(part)!.pieces) {
      const place = this.#options.host.place({ part, slot, piece });
      if (typeof place === 'string') return place;
      places.push(place);
    }
    return places;
  }

  /** Takes a spill, if there is room for all of it in staging, and lane time. */
  #ask(tenant: string, move: PageMove, places: readonly HostPlace[]): boolean {
    const { meter, budget, device, crossingBytes } = this.#options;
    const moved = this.#moved.get(move.part)!;
    const { bytes } = moved;
    const ring = this.#spillRing;
    // What comes next may not fit behind what is there, before the ring's end: once.
    const unusedBytes = ring.isEmpty ? 0 : this.#unusedBytes;
    if (ring.usedBytes + this.#askedBytes + unusedBytes + bytes > ring.bytes) return false;
    const priceNs = Math.round(partLaneNs(meter.price, 'd2h', moved, crossingBytes));
    if (!budget.has(priceNs, device.clock.nowNs())) return false;
    budget.spend(priceNs);
    this.#waitingNs.spill += priceNs;
    this.#askedBytes += bytes;
    const use = this.#order.begin('host', move);
    const piecesLeft = places.length;
    const epoch = this.#epoch;
    this.#asked.push({ tenant, move, places, use, epoch, priceNs, piecesLeft, isLost: false });
    return true;
  }

  /** Puts together what lies side by side in host memory, each batch at its place in staging. */
  #batches(): Batch[] {
    const asked = this.#asked.sort((a, b) => a.epoch - b.epoch || byPlace(a.move, b.move));
    this.#asked = [];
    this.#askedBytes = 0;
    const batches: Batch[] = [];
    for (const spill of asked) {
      for (const piece of this.#moved.get(spill.move.part)!.pieces) {
        const batch = batches.at(-1);
        if (batch !== undefined && this.#joins(batch, spill, piece)) {
          batch.spills.push(spill);
          continue;
        }
        const staged = this.#spillRing.take(piece.bytes);
        invariant(staged !== null, 'a spill that was taken has room in staging');
        batches.push({ staged, place: spill.places[piece.index]!, piece, spills: [spill] });
      }
    }
    return batches;
  }

  /** Makes a batch longer by a piece that is behind it in host memory; false: it is not. */
  #joins({ staged, place, piece, spills }: Batch, spill: Spill, next: Piece): boolean {
    const { tenant, epoch, places } = spill;
    const first = spills[0]!;
    const there = places[next.index]!;
    return (
      first.epoch === epoch &&
      first.tenant === tenant &&
      piece.index === next.index &&
      // Which is of one part alone.
      place.host === there.host &&
      place.offsetBytes + staged.bytes === there.offsetBytes &&
      staged.bytes + next.bytes <= this.#options.crossingBytes &&
      this.#spillRing.extend(staged, next.bytes)
    );
  }

  demote(tenant: string, demotions: readonly Demotion[]): void {
    this.#epoch += 1;
    for (const { part, hostSlot, diskSlot, key } of demotions) {
      const from = { part, slot: hostSlot };
      const to = { part, slot: diskSlot };
      const uses = [this.#order.begin('host', from), this.#order.begin('disk', to)];
      this.#run(this.#demote(tenant, key, from, to, uses));
    }
  }

  async #demote(
    tenant: string,
    key: string,
    from: StoredPart,
    to: StoredPart,
    uses: readonly SlotUse[],
  ): Promise<void> {
    await beforeAll(uses);
    const failure = this.#order.isBroken('host', from)
      ? 'lane-lost'
      : await this.#writeAll(tenant, key, from, to);
    endAll(uses);
    if (failure !== null) this.#lose('disk', failure, [to]);
  }

  /** Writes all of a slot to disk, piece by piece, so that reads need not wait for all of them. */
  async #writeAll(
    tenant: string,
    key: string,
    from: StoredPart,
    to: StoredPart,
  ): Promise<MoveFailure | null> {
    const { disk, device } = this.#options;
    const places = this.#placesOf(from);
    if (disk === null || typeof places === 'string') return 'disk-failed';
    for (const piece of this.#moved.get(to.part)!.pieces) {
      const { host, offsetBytes } = places[piece.index]!;
      const handle = device.hostHandle(host);
      const failure = await disk.write(tenant, key, { ...to, piece }, { handle, offsetBytes });
      if (failure !== null) return failure;
    }
    return null;
  }

  restore({ tenant, moves, from }: RestoreRequest): RestoreId {
    this.#epoch += 1;
    const id = this.#nextId++;
    let order = () => {};
    const ordered = new Promise<void>((resolve) => {
      order = resolve;
    });
    const runs = this.#runsOf(from, moves);
    const restore: Restore = {
      id,
      tenant,
      ordered,
      order,
      runsLeft: runs.length,
      isCancelled: false,
      hasScattered: false,
      failure: null,
      lost: [],
      leftNs: runs.reduce((sum, { priceNs }) => sum + priceNs, 0),
      leftDiskBytes: from === 'disk' ? runs.reduce((sum, { bytes }) => sum + bytes, 0) : 0,
      laneNs: 0,
      bytes: 0,
    };
    this.#open.set(id, restore);
    this.#unordered.push(restore);
    for (const run of runs) {
      this.#waitingNs.restore += run.priceNs;
      this.#run(this.#bring(restore, run));
    }
    return id;
  }

  /** Puts neighbours in the store together, as far as one crossing should go. */
  #runsOf(from: StoreName, moves: readonly PageMove[]): Run[] {
    const { crossingBytes, meter } = this.#options;
    const coming = [...moves].sort(byPlace).flatMap((move) => this.#comingFrom(from, move));
    const runs: Run[] = [];
    for (let first = 0, end = 0; first < coming.length; first = end) {
      const { move, piece, place } = coming[first]!;
      const { part } = move;
      const isNext = (next: Coming, count: number) => {
        if (next.move.part !== part || next.piece.index !== piece.index) return false;
        if ((count + 1) * piece.bytes > crossingBytes) return false;
        if (place === null || next.place === null) return place === next.place;
        const offsetBytes = place.offsetBytes + count * piece.bytes;
        return next.place.host === place.host && next.place.offsetBytes === offsetBytes;
      };
      end = first + 1;
      while (end < coming.length && isNext(coming[end]!, end - first)) end += 1;
      const some = coming.slice(first, end);
      const bytes = some.length * piece.bytes;
      const priceNs = meter.price('h2d', bytes);
      const uses = some.map(({ use }) => use);
      runs.push({ part, piece, moves: some.map(moveOf), uses, bytes, priceNs, from, place });
    }
    return runs;
  }

  /** The pieces of what is to come from a slot, which is in use until the last one has crossed. */
  #comingFrom(from: StoreName, move: PageMove): Coming[] {
    const { pieces } = this.#moved.get(move.part)!;
    const use = sharedUse(this.#order.begin(from, move), pieces.length);
    const places = from === 'host' ? this.#placesOf(move) : 'later';
    return pieces.map((piece) => {
      const place = typeof places === 'string' ? null : places[piece.index]!;
      return { move, piece, use, place };
    });
  }

  /** One run from its slots to its pages. */
  async #bring(restore: Restore, run: Run): Promise<void> {
    let staged: RingPart | null = null;
    try {
      await beforeAll(run.uses);
      staged = await this.#cross(restore, run);
    } catch (error) {
      restore.failure ??= 'lane-lost';
      this.#loseLane(error);
    } finally {
      endAll(run.uses);
      this.#waitingNs.restore -= run.priceNs;
      restore.leftNs -= run.priceNs;
    }
    await restore.ordered;
    const isWanted = !restore.isCancelled && restore.failure === null;
    if (staged !== null && isWanted) {
      this.#launchPieces('scatter-pages', run.part, run.piece, run.moves, staged);
      restore.hasScattered = true;
    }
    restore.runsLeft -= 1;
    if (restore.runsLeft === 0) this.#end(restore);
    if (staged === null) return;
    // Its place in staging is another's once it was copied from.
    if (isWanted) await Promise.allSettled([this.#restores.synchronize()]);
    this.#restoreRing.release(staged);
    this.#giveRoom();
  }

  /** Brings a run to staging; null: it is not wanted any more. Rejects where no lane carries it. */
  async #cross(restore: Restore, run: Run): Promise<RingPart | null> {
    const isUnwanted = () => restore.isCancelled || restore.failure !== null;
    if (isUnwanted()) return null;
    const broken = run.moves.filter((move) => this.#order.isBroken(run.from, move));
    if (broken.length > 0) {
      restore.failure ??= 'lane-lost';
      for (const move of broken) addLost(restore, move);
      return null;
    }
    const bounce = run.place === null ? await this.#takeBounce() : null;
    try {
      if (bounce !== null && !(await this.#readAll(restore, run, bounce))) return null;
      const staged = await this.#room(run.bytes);
      if (isUnwanted()) {
        this.#restoreRing.release(staged);
        this.#giveRoom();
        return null;
      }
      const { restoreStaging } = this.#options;
      try {
        const records = await this.#options.route.cross({
          direction: 'h2d',
          device: within(restoreStaging, staged),
          host: bounce ?? run.place!.host,
          hostOffsetBytes: run.place?.offsetBytes ?? 0,
          stream: null,
          purpose: 'kv-restore',
          tenant: restore.tenant,
        });
        restore.laneNs += this.#laneNs(records);
        restore.bytes += run.bytes;
        return staged;
      } catch (error) {
        this.#restoreRing.release(staged);
        this.#giveRoom();
        throw error;
      }
    } finally {
      if (bounce !== null) this.#giveBounce(bounce);
    }
  }

  /** Fills host memory from disk; false: something could not be read. */
  async #readAll(restore: Restore, run: Run, bounce: HostBuffer): Promise<boolean> {
    const { disk, device } = this.#options;
    const { piece } = run;
    const handle = device.hostHandle(bounce);
    const reads = run.moves.map(async ({ part, slot, key }, i) => {
      const to = { handle, offsetBytes: i * piece.bytes };
      const read = disk?.read(restore.tenant, key, { part, slot, piece }, to);
      const failure = (await read) ?? null;
      restore.leftDiskBytes -= piece.bytes;
      if (failure === null) return;
      restore.failure ??= failure;
      addLost(restore, { part, slot });
    });
    await Promise.all(reads);
    return restore.failure === null;
  }

  /** The last run has come to its end. */
  #end(restore: Restore): void {
    const { id, failure, lost, laneNs, bytes, isCancelled } = restore;
    this.#followRestores(restore);
    this.#open.delete(id);
    if (isCancelled) return;
    if (failure !== null) this.#settle({ kind: 'restore-failed', id, failure, lost });
    else this.#settle({ kind: 'restored', id, layers: 1, isComplete: true, laneNs, bytes });
  }

  cancel(id: RestoreId): void {
    const restore = this.#open.get(id);
    if (restore !== undefined) {
      restore.isCancelled = true;
      restore.order();
      this.#followRestores(restore);
    }
    // It may have ended in this very moment.
    this.#settled = this.#settled.filter(
      (each) => !((each.kind === 'restored' || each.kind === 'restore-failed') && each.id === id),
    );
  }

  /** What the engine launches from now on comes after what was copied to pages so far. */
  #followRestores({ hasScattered }: Restore): void {
    if (!hasScattered) return;
    this.#restores.record(this.#event);
    this.#options.stream.wait(this.#event);
  }

  drop(store: StoreName, parts: readonly StoredPart[]): void {
    if (store !== 'disk') return;
    for (const part of parts) {
      const use = this.#order.begin('disk', part);
      this.#run(
        beforeAll([use]).then(() => {
          this.#options.disk?.drop(part);
          use.end();
        }),
      );
    }
  }

  dropAll(): void {
    for (const id of this.#open.keys()) this.cancel(id);
    this.#options.disk?.dropAll();
  }

  queueMoves(): void {
    const { stream } = this.#options;
    if (this.#asked.length > 0) {
      const batches = this.#batches();
      for (const { staged, piece, spills } of batches) {
        const { part } = spills[0]!.move;
        this.#launchPieces('gather-pages', part, piece, spills.map(moveOf), staged);
      }
      stream.record(this.#event);
      this.#spills.wait(this.#event);
      const gathered = Promise.resolve(this.#spills.synchronize());
      gathered.catch(() => undefined);
      for (const batch of batches) this.#run(this.#carryOut(batch, gathered));
    }
    if (this.#unordered.length === 0) return;
    // Launches so far may still use the pages that restores go to.
    stream.record(this.#event);
    this.#restores.wait(this.#event);
    for (const restore of this.#unordered.splice(0)) restore.order();
  }

  /** A batch of pieces from staging to host memory. */
  async #carryOut({ staged, place, spills }: Batch, gathered: Promise<void>): Promise<void> {
    const { tenant } = spills[0]!;
    try {
      await Promise.all([gathered, beforeAll(spills.map(({ use }) => use))]);
      const records = await this.#options.route.cross({
        direction: 'd2h',
        device: within(this.#options.spillStaging, staged),
        host: place.host,
        hostOffsetBytes: place.offsetBytes,
        stream: null,
        purpose: 'kv-spill',
        tenant,
      });
      this.#settle({ kind: 'spilled', bytes: staged.bytes, laneNs: this.#laneNs(records) });
    } catch (error) {
      this.#loseLane(error);
      const lost = spills.filter(({ isLost }) => !isLost);
      for (const spill of lost) {
        spill.isLost = true;
        this.#order.wrote('host', spill.move, false);
      }
      const slots = lost.map(({ move }) => partOf(move));
      if (slots.length > 0) this.#lose('host', 'lane-lost', slots);
    } finally {
      for (const spill of spills) this.#endPiece(spill);
      this.#spillRing.release(staged);
    }
  }

  /** One more piece of a spill has crossed, or never will. */
  #endPiece(spill: Spill): void {
    spill.piecesLeft -= 1;
    if (spill.piecesLeft > 0) return;
    if (!spill.isLost) this.#order.wrote('host', spill.move, true);
    this.#waitingNs.spill -= spill.priceNs;
    spill.use.end();
  }

  settled(): readonly Settled[] {
    const settled = this.#settled;
    this.#settled = [];
    return settled;
  }

  whenSettled(): Promise<void> {
    if (this.#settled.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      const earlier = this.#tell;
      this.#tell = () => {
        earlier?.();
        resolve();
      };
    });
  }

  queue(): MoverQueue {
    const { spill, restore } = this.#waitingNs;
    const diskNs = this.#options.disk?.meter.queueNs ?? 0;
    return { spillNs: spill, restoreNs: restore, diskNs };
  }

  dueNs(id: RestoreId): number {
    const { disk } = this.#options;
    let laneNs = 0;
    let diskBytes = 0;
    for (const restore of this.#open.values()) {
      if (!restore.isCancelled) {
        laneNs += restore.leftNs;
        diskBytes += restore.leftDiskBytes;
      }
      if (restore.id !== id) continue;
      // What is on disk before it keeps only what is on disk as well.
      const isOnDisk = restore.leftDiskBytes > 0;
      return isOnDisk ? laneNs + disk!.meter.price('read', diskBytes) : laneNs;
    }
    return laneNs;
  }

  /** Why nothing crosses any more; null: the lane carries. */
  get laneFailure(): string | null {
    return this.#laneFailure;
  }

  /** What is under way, for people. */
  describe(): string {
    const restores = [...this.#open.values()];
    const runs = restores.reduce((sum, { runsLeft }) => sum + runsLeft, 0);
    const parts = [
      `${restores.length} restores with ${runs} crossings to end`,
      `${this.#underWay.size} moves under way`,
      `${this.#restoreRing.usedBytes} of ${this.#restoreRing.bytes} bytes of staging taken`,
      `${this.#roomWanted.length} waiting for it`,
    ];
    return `${parts.join(', ')}; the lane ${this.#laneFailure ?? 'carries'}`;
  }

  /** Other failures than that the lane has ended are of one crossing. */
  #loseLane(error: unknown): void {
    if (!(error instanceof DeviceError)) return;
    if (error.code === 'closed' || error.code === 'stalled') this.#laneFailure ??= error.message;
  }

  get isIdle(): boolean {
    return this.#underWay.size === 0;
  }

  /** Resolves when nothing is under way. Moves that were not queued stay where they are. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  #launchPieces(
    name: 'gather-pages' | 'scatter-pages',
    part: KvPart,
    piece: Piece,
    moves: readonly PageMove[],
    staged: RingPart,
  ): void {
    const { spillStaging, restoreStaging, stream } = this.#options;
    const { pool, bytes: pageBytes } = this.#moved.get(part)!;
    const pages = moves.map(({ page }) => page);
    const { fromBytes, bytes: partBytes } = piece;
    const pieces = { kv: pool(), pageBytes, fromBytes, partBytes, pages };
    if (name === 'gather-pages') {
      stream.launch(name, { ...pieces, out: within(spillStaging, staged) });
    } else {
      this.#restores.launch(name, { ...pieces, input: within(restoreStaging, staged) });
    }
  }

  /** For how long a crossing kept the lane, which the price learns from. */
  #laneNs(records: readonly CrossingRecord[]): number {
    let laneNs = 0;
    for (const { direction, bytes, startedNs, completedNs } of records) {
      this.#options.meter.observe(direction, bytes, completedNs - startedNs);
      laneNs += completedNs - startedNs;
    }
    return laneNs;
  }

  /** A part of the restores' staging, first come, first served. */
  #room(bytes: number): Promise<RingPart> {
    const room = new Promise<RingPart>((take) => this.#roomWanted.push({ bytes, take }));
    this.#giveRoom();
    return room;
  }

  #giveRoom(): void {
    for (let next = this.#roomWanted[0]; next !== undefined; next = this.#roomWanted[0]) {
      const part = this.#restoreRing.take(next.bytes);
      if (part === null) return;
      this.#roomWanted.shift();
      next.take(part);
    }
  }

  #takeBounce(): Promise<HostBuffer> {
    const bounce = this.#bounces.pop();
    if (bounce !== undefined) return Promise.resolve(bounce);
    return new Promise((resolve) => this.#bounceWanted.push(resolve));
  }

  #giveBounce(bounce: HostBuffer): void {
    const next = this.#bounceWanted.shift();
    if (next === undefined) this.#bounces.push(bounce);
    else next(bounce);
  }

  #lose(store: StoreName, failure: MoveFailure, lost: readonly StoredPart[]): void {
    this.#settle({ kind: 'slots-lost', store, failure, lost });
  }

  #settle(settled: Settled): void {
    this.#settled.push(settled);
    this.#tell?.();
    this.#tell = null;
  }

  #run(work: Promise<void>): void {
    this.#underWay.add(work);
    void work.finally(() => this.#underWay.delete(work));
  }
}

function within({ buffer, offsetBytes }: Slice, part: RingPart): CopyRequest['device'] {
  return slice(buffer, offsetBytes + part.offsetBytes, part.bytes);
}

const moveOf = ({ move }: { readonly move: PageMove }) => move;

/** What lies side by side in stores comes one after the other. */
function byPlace(a: StoredPart, b: StoredPart): number {
  return KV_PARTS.indexOf(a.part) - KV_PARTS.indexOf(b.part) || a.slot - b.slot;
}

function partOf({ part, slot }: StoredPart): StoredPart {
  return { part, slot };
}

/** Several pieces of a slot may be found lost. */
function addLost({ lost }: Restore, { part, slot }: StoredPart): void {
  if (lost.some((each) => each.part === part && each.slot === slot)) return;
  lost.push({ part, slot });
}

async function beforeAll(uses: readonly SlotUse[]): Promise<void> {
  for (const { before } of uses) if (before !== null) await before;
}

function endAll(uses: readonly SlotUse[]): void {
  for (const use of uses) use.end();
}
