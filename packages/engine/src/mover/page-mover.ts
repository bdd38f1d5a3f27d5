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
import { SlotOrder, type SlotUse } from './slot-order.ts';
import { type RingPart, StagingRing } from './staging-ring.ts';

/** What pages consist of. */
export interface PageGeometry {
  readonly pageBytes: number;
  readonly layers: number;
  readonly groups: readonly { readonly layers: readonly number[] }[];
}

export interface PageMoverOptions {
  readonly device: Device;
  readonly geometry: PageGeometry;
  /** All pages; a device that slept has others. */
  readonly kv: () => Slice;
  /** The engine's own. */
  readonly stream: Stream;
  readonly route: Route;
  readonly host: HostStore;
  readonly disk: DiskStore | null;
  /** Where pages from disk are decrypted to, each for one crossing; none where there is no disk. */
  readonly bounces: readonly HostBuffer[];
  /** Device memory in which what moves lies side by side. */
  readonly spillStaging: Slice;
  readonly restoreStaging: Slice;
  /** As much as should cross at once. */
  readonly crossingBytes: number;
  readonly meter: LaneMeter;
  readonly budget: LaneBudget;
}

/** A spill that was asked for. */
interface Spill {
  readonly tenant: string;
  readonly move: PageMove;
  readonly place: HostPlace;
  readonly use: SlotUse;
  /** What else was asked for before it: only spills between which nothing was may wait together. */
  readonly epoch: number;
  readonly bytes: number;
  readonly priceNs: number;
}

/** Spills that lie side by side in staging and in host memory, so that they cross as one. */
interface Batch {
  readonly staged: RingPart;
  readonly spills: Spill[];
}

/** Part of a restore that crosses as one. */
interface Run {
  readonly group: number;
  readonly moves: readonly PageMove[];
  readonly uses: readonly SlotUse[];
  readonly bytes: number;
  readonly priceNs: number;
  readonly from: StoreName;
  /** Where it is in host memory; null: it is on disk, or nowhere. */
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
 * Moves pages between the device and what is below it. What moves together is put side by side on
 * the device (`gather-pages`) and crosses as one: a toll is paid for many pages.
 *
 * A spill is copied to staging on the engine's stream, so that its pages may be reused by whatever
 * is launched next; it crosses when the lane has time. A restore crosses to staging at once, and is
 * copied to its pages on a stream of its own once the launches that were there when it was asked
 * for are done; the engine's stream follows it. So restores do not wait for steps, nor steps for
 * them.
 */
export class PageMover implements Mover {
  readonly groups: PageGeometry['groups'];
  readonly parts: readonly KvPart[];
  readonly slots: Mover['slots'];
  readonly #options: PageMoverOptions;
  readonly pagesTogether: number;
  /** Bytes of one page's part, by group. */
  readonly partBytes: readonly number[];
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
    const { device, geometry, host, disk, bounces } = options;
    this.#options = options;
    this.groups = geometry.groups;
    this.parts = KV_PARTS.slice(0, this.groups.length);
    const slotsOf = (slots: readonly number[]) =>
      Object.fromEntries(this.parts.map((part, index) => [part, slots[index]!]));
    this.slots = { host: slotsOf(host.slots), disk: slotsOf(disk?.slots ?? []) };
    this.partBytes = partBytesOf(geometry);
    this.pagesTogether = Math.max(1, Math.floor(options.crossingBytes / geometry.pageBytes));
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
    const { kv, geometry, stream, spillStaging, restoreStaging } = this.#options;
    const parts = { kv: kv(), ...pieces(geometry, 0, [0]) };
    stream.launch('gather-pages', { ...parts, out: spillStaging });
    stream.record(this.#event);
    this.#restores.wait(this.#event);
    this.#restores.launch('scatter-pages', { ...parts, input: restoreStaging });
    await this.#restores.synchronize();
  }

  spill({ tenant, moves }: MoveSpan): number {
    const { host } = this.#options;
    const lost: StoredPart[] = [];
    let taken = 0;
    for (const move of moves) {
      const place = this.#laneFailure !== null ? 'later' : host.place(groupOf(move), move.slot);
      if (place === 'never') {
        lost.push(partOf(move));
        this.#order.wrote('host', move, false);
      } else if (place === 'later' || !this.#ask(tenant, move, place)) break;
      taken += 1;
    }
    if (lost.length > 0) this.#lose('host', 'no-memory', lost);
    return taken;
  }

  /** Takes a spill, if there is room for it in staging and lane time. */
  #ask(tenant: string, move: PageMove, place: HostPlace): boolean {
    const { meter, budget, device, crossingBytes } = this.#options;
    const bytes = this.partBytes[groupOf(move)]!;
    // Parts of different sizes may leave the end of the ring unused, once.
    const wastedBytes = this.groups.length > 1 ? Math.max(...this.partBytes) : 0;
    const usedBytes = this.#spillRing.usedBytes + this.#askedBytes + wastedBytes;
    if (usedBytes + bytes > this.#spillRing.bytes) return false;
    // Neighbours share a toll.
    const least = Math.max(bytes, crossingBytes);
    const priceNs = Math.round((meter.price('d2h', least) * bytes) / least);
    if (!budget.has(priceNs, device.clock.nowNs())) return false;
    budget.spend(priceNs);
    this.#waitingNs.spill += priceNs;
    this.#askedBytes += bytes;
    const use = this.#order.begin('host', move);
    this.#asked.push({ tenant, move, place, use, epoch: this.#epoch, bytes, priceNs });
    return true;
  }

  /** Puts together what lies side by side in host memory, each batch at its place in staging. */
  #batches(): Batch[] {
    const { crossingBytes } = this.#options;
    const asked = this.#asked.sort(
      (a, b) => a.epoch - b.epoch || groupOf(a.move) - groupOf(b.move) || a.move.slot - b.move.slot,
    );
    this.#asked = [];
    this.#askedBytes = 0;
    const batches: Batch[] = [];
    for (const spill of asked) {
      const { tenant, move, place, bytes } = spill;
      const batch = batches.at(-1);
      const last = batch?.spills.at(-1);
      const isNext =
        last !== undefined &&
        last.epoch === spill.epoch &&
        last.tenant === tenant &&
        last.move.part === move.part &&
        last.place.host === place.host &&
        last.place.offsetBytes + bytes === place.offsetBytes &&
        batch!.staged.bytes + bytes <= crossingBytes &&
        this.#spillRing.extend(batch!.staged, bytes);
      if (isNext) {
        batch!.spills.push(spill);
        continue;
      }
      const staged = this.#spillRing.take(bytes);
      invariant(staged !== null, 'a spill that was taken has room in staging');
      batches.push({ staged, spills: [spill] });
    }
    return batches;
  }

  demote(tenant: string, demotions: readonly Demotion[]): void {
    this.#epoch += 1;
    for (const { part, hostSlot, diskSlot, key } of demotions) {
      const uses = [
        this.#order.begin('host', { part, slot: hostSlot }),
        this.#order.begin('disk', { part, slot: diskSlot }),
      ];
      const from = { part, slot: hostSlot };
      this.#run(this.#demote(tenant, key, from, { part, slot: diskSlot }, uses));
    }
  }

  async #demote(
    tenant: string,
    key: string,
    from: StoredPart,
    to: StoredPart,
    uses: readonly SlotUse[],
  ): Promise<void> {
    const { host, disk, device } = this.#options;
    await beforeAll(uses);
    const place = host.place(groupOf(from), from.slot);
    let failure: MoveFailure | null = 'disk-failed';
    if (this.#order.isBroken('host', from)) failure = 'lane-lost';
    else if (disk !== null && typeof place === 'object') {
      const { offsetBytes } = place;
      const handle = device.hostHandle(place.host);
      failure = await disk.write(tenant, key, to, { handle, offsetBytes });
    }
    endAll(uses);
    if (failure !== null) this.#lose('disk', failure, [to]);
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
  #runsOf(from: StoreName, unsorted: readonly PageMove[]): Run[] {
    const { host, crossingBytes, meter } = this.#options;
    const moves = [...unsorted].sort((a, b) => groupOf(a) - groupOf(b) || a.slot - b.slot);
    const runs: Run[] = [];
    let first = 0;
    while (first < moves.length) {
      const { part, slot } = moves[first]!;
      const group = KV_PARTS.indexOf(part);
      const bytes = this.partBytes[group]!;
      const placeOf = (stored: StoredPart) => {
        const place = from === 'host' ? host.place(groupOf(stored), stored.slot) : null;
        return typeof place === 'object' ? place : null;
      };
      const place = placeOf({ part, slot });
      const isNext = (move: PageMove, count: number) => {
        if (move.part !== part || (count + 1) * bytes > crossingBytes) return false;
        const there = placeOf(move);
        if (place === null || there === null) return place === there;
        const offsetBytes = place.offsetBytes + count * bytes;
        return there.host === place.host && there.offsetBytes === offsetBytes;
      };
      let end = first + 1;
      while (end < moves.length && isNext(moves[end]!, end - first)) end += 1;
      const some = moves.slice(first, end);
      const total = some.length * bytes;
      const uses = some.map((move) => this.#order.begin(from, move));
      const priceNs = meter.price('h2d', total);
      runs.push({ group, moves: some, uses, bytes: total, priceNs, from, place });
      first = end;
    }
    return runs;
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
      this.#launchParts('scatter-pages', run.group, run.moves, staged);
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
      restore.lost.push(...broken.map(partOf));
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
    const bytes = this.partBytes[run.group]!;
    const handle = device.hostHandle(bounce);
    const reads = run.moves.map(async (move, i) => {
      const to = { handle, offsetBytes: i * bytes };
      const failure = (await disk?.read(restore.tenant, move.key, move, to)) ?? null;
      restore.leftDiskBytes -= bytes;
      if (failure === null) return;
      restore.failure ??= failure;
      restore.lost.push(partOf(move));
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
    else {
      const { layers } = this.#options.geometry;
      this.#settle({ kind: 'restored', id, layers, isComplete: true, laneNs, bytes });
    }
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
          this.#options.disk?.drop([part]);
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
      for (const { staged, spills } of batches) {
        this.#launchParts('gather-pages', groupOf(spills[0]!.move), spills.map(moveOf), staged);
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

  /** A batch of spills from staging to host memory. */
  async #carryOut({ staged, spills }: Batch, gathered: Promise<void>): Promise<void> {
    const { tenant, place } = spills[0]!;
    const uses = spills.map(({ use }) => use);
    try {
      await Promise.all([gathered, beforeAll(uses)]);
      const records = await this.#options.route.cross({
        direction: 'd2h',
        device: within(this.#options.spillStaging, staged),
        host: place.host,
        hostOffsetBytes: place.offsetBytes,
        stream: null,
        purpose: 'kv-spill',
        tenant,
      });
      for (const { move } of spills) this.#order.wrote('host', move, true);
      this.#settle({ kind: 'spilled', bytes: staged.bytes, laneNs: this.#laneNs(records) });
    } catch (error) {
      this.#loseLane(error);
      for (const { move } of spills) this.#order.wrote('host', move, false);
      const lost = spills.map(({ move }) => partOf(move));
      this.#lose('host', 'lane-lost', lost);
    } finally {
      endAll(uses);
      for (const { priceNs } of spills) this.#waitingNs.spill -= priceNs;
      this.#spillRing.release(staged);
    }
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

  #launchParts(
    name: 'gather-pages' | 'scatter-pages',
    group: number,
    moves: readonly PageMove[],
    staged: RingPart,
  ): void {
    const { geometry, kv, spillStaging, restoreStaging, stream } = this.#options;
    const numbers = moves.map(({ page }) => page);
    const parts = { kv: kv(), ...pieces(geometry, group, numbers) };
    if (name === 'gather-pages') {
      stream.launch(name, { ...parts, out: within(spillStaging, staged) });
    } else {
      this.#restores.launch(name, { ...parts, input: within(restoreStaging, staged) });
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

/** Bytes of one page's part, by group. */
export function partBytesOf({ pageBytes, layers, groups }: PageGeometry): readonly number[] {
  return groups.map((group) => (pageBytes / layers) * group.layers.length);
}

/** A group's parts of pages, as an operation names them: layers that lie apart, one by one. */
function pieces({ pageBytes, layers, groups }: PageGeometry, group: number, pages: number[]) {
  const layerBytes = pageBytes / layers;
  const own = groups[group]!.layers;
  const first = own[0]!;
  if (own.every((layer, i) => layer === first + i)) {
    const partBytes = own.length * layerBytes;
    return { pageBytes, fromBytes: first * layerBytes, partBytes, pages };
  }
  const layersOfPages = pages.flatMap((page) => own.map((layer) => page * layers + layer));
  return { pageBytes: layerBytes, fromBytes: 0, partBytes: layerBytes, pages: layersOfPages };
}

function within({ buffer, offsetBytes }: Slice, part: RingPart): CopyRequest['device'] {
  return slice(buffer, offsetBytes + part.offsetBytes, part.bytes);
}

const moveOf = ({ move }: Spill) => move;

function groupOf({ part }: StoredPart): number {
  return KV_PARTS.indexOf(part);
}

function partOf({ part, slot }: StoredPart): StoredPart {
  return { part, slot };
}

async function beforeAll(uses: readonly SlotUse[]): Promise<void> {
  for (const { before } of uses) if (before !== null) await before;
}

function endAll(uses: readonly SlotUse[]): void {
  for (const use of uses) use.end();
}
