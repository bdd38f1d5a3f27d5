import type { PagedSequence } from '../paged-sequence.ts';
import type {
  Demotion,
  KvPart,
  Mover,
  MoveSpan,
  RestoreRequest,
  Settled,
  StoredPart,
  StoreName,
} from '../tiers/movement.ts';
import { WindowPages } from '../window-pool.ts';

export const PAGE_TOKENS = 4;

export function sequenceOf(tokens: readonly number[], tenant = 't'): PagedSequence {
  const all = Uint32Array.from(tokens);
  return {
    request: { tenant },
    length: all.length,
    promptLength: all.length,
    lastPosition: all.length,
    tokens: (from, to) => all.subarray(from, to),
    pages: [],
    window: new WindowPages(),
    pageKeys: [],
    nodes: [],
    published: 0,
    snapshotPages: 0,
    branchPages: 0,
    awaited: null,
    isDistrustful: false,
    kvShares: [],
  };
}

/** What a mover that fails does about what is asked of it: each is drawn anew, in [0, 1). */
export interface Faults {
  readonly refuses: () => boolean;
  readonly losesSpill: () => boolean;
  readonly failsRestore: () => boolean;
}

const NO_FAULTS: Faults = {
  refuses: () => false,
  losesSpill: () => false,
  failsRestore: () => false,
};

/** Places of one part: on the device, in host memory, on disk. */
export interface PartPlaces {
  readonly device: number;
  readonly host: number;
  readonly disk: number;
}

type Contents = (string | undefined)[];

/**
 * A mover over places and slots that hold the key of what was written to them, so that a test sees
 * what a sequence would read. Restores end when they are told to; what is asked of a slot happens
 * in order, as `Mover` promises.
 */
export class PageWorld implements Mover {
  readonly parts: readonly KvPart[];
  readonly pagesTogether = 2;
  readonly slots: Mover['slots'];
  /** Keys, by part. */
  readonly device: Readonly<Record<KvPart, Contents>>;
  readonly below: Readonly<Record<StoreName, Readonly<Record<KvPart, Contents>>>>;
  readonly restores = new Map<number, RestoreRequest>();
  /** What each brings: what its slots held when it was asked for. */
  readonly #contents = new Map<number, readonly (string | undefined)[]>();
  readonly #faults: Faults;
  #settled: Settled[] = [];
  #ids = 0;

  constructor(
    pages: number,
    host: number,
    disk = 0,
    faults = NO_FAULTS,
    { window, state }: { readonly window?: PartPlaces; readonly state?: PartPlaces } = {},
  ) {
    const context = { device: pages, host, disk };
    const places = { context, window, state };
    this.parts = (['context', 'window', 'state'] as const).filter((part) => places[part]);
    const placesOf = <T>(where: keyof PartPlaces, made: (places: number) => T) => ({
      context: made(places.context[where]),
      window: made(places.window?.[where] ?? 0),
      state: made(places.state?.[where] ?? 0),
    });
    const contents = (count: number): Contents => new Array(count);
    this.slots = { host: placesOf('host', Number), disk: placesOf('disk', Number) };
    this.device = placesOf('device', contents);
    this.below = { host: placesOf('host', contents), disk: placesOf('disk', contents) };
    this.#faults = faults;
  }

  /** Keys of pages. */
  get pages(): Contents {
    return this.device.context;
  }

  get stores(): Readonly<Record<StoreName, Contents>> {
    return { host: this.below.host.context, disk: this.below.disk.context };
  }

  spill({ moves }: MoveSpan): number {
    const taken = this.#faults.refuses() ? Math.floor(moves.length / 2) : moves.length;
    const lost: StoredPart[] = [];
    for (const { part, page, slot, key } of moves.slice(0, taken)) {
      if (this.device[part][page] !== key)
        throw new Error(`a ${part} is spilled as what it is not`);
      this.below.host[part][slot] = key;
      if (!this.#faults.losesSpill()) continue;
      this.below.host[part][slot] = undefined;
      lost.push({ part, slot });
    }
    if (lost.length > 0) {
      this.#settled.push({ kind: 'slots-lost', store: 'host', failure: 'no-memory', lost });
    }
    return taken;
  }

  demote(_tenant: string, demotions: readonly Demotion[]): void {
    for (const { part, hostSlot, diskSlot } of demotions) {
      const content = this.below.host[part][hostSlot];
      this.below.disk[part][diskSlot] = content;
      if (content !== undefined) continue;
      // Its spill was lost, of which nothing was told yet.
      const lost = [{ part, slot: diskSlot }];
      this.#settled.push({ kind: 'slots-lost', store: 'disk', failure: 'lane-lost', lost });
    }
  }

  restore(request: RestoreRequest): number {
    const id = this.#ids++;
    // What is in the slots now is what comes, whatever they are used for meanwhile.
    this.restores.set(id, request);
    const contents = request.moves.map(({ part, slot }) => this.below[request.from][part][slot]);
    this.#contents.set(id, contents);
    for (const [index, { part, key, page }] of request.moves.entries()) {
      if ((contents[index] ?? key) !== key) throw new Error('a slot has what it should not');
      if (page < 0) throw new Error(`a ${part} comes to no place`);
      this.device[part][page] = undefined;
    }
    return id;
  }

  /** Ends all that are under way: a prompt's pages come in several. */
  endRestores(): void {
    while (this.endRestore());
  }

  /** The restore that was asked for first comes to its end. */
  endRestore(): boolean {
    for (const [id, { from, moves }] of this.restores) {
      this.restores.delete(id);
      const contents = this.#contents.get(id)!;
      const isLost = contents.includes(undefined);
      if (isLost || this.#faults.failsRestore()) {
        const failure = isLost ? 'not-authentic' : 'lane-lost';
        const isGone = ({ part, slot }: StoredPart, index: number) =>
          contents[index] === undefined && this.below[from][part][slot] === undefined;
        const lost = moves.filter(isGone).map(({ part, slot }) => ({ part, slot }));
        this.#settled.push({ kind: 'restore-failed', id, failure, lost });
      } else {
        for (const { part, page, key } of moves) this.device[part][page] = key;
        const done = { layers: 1, isComplete: true, laneNs: 0, bytes: 0 };
        this.#settled.push({ kind: 'restored', id, ...done });
      }
      return true;
    }
    return false;
  }

  cancel(id: number): void {
    this.restores.delete(id);
  }

  /** Nothing is told of a slot that is wanted no more. */
  drop(store: StoreName, parts: readonly StoredPart[]): void {
    for (const { part, slot } of parts) {
      this.below[store][part][slot] = undefined;
      this.#settled = this.#settled.map((event) => {
        if (event.kind !== 'slots-lost' || event.store !== store) return event;
        const isOther = (each: StoredPart) => each.part !== part || each.slot !== slot;
        return { ...event, lost: event.lost.filter(isOther) };
      });
    }
  }

  dropAll(): void {}
  queueMoves(): void {}
  whenSettled = () => Promise.resolve();
  queue: Mover['queue'] = () => ({ spillNs: 0, restoreNs: 0, diskNs: 0 });
  /** Of each restore, as a test wants it. */
  dueNs: (id: number) => number = () => 0;

  settled(): readonly Settled[] {
    const all = this.#settled;
    this.#settled = [];
    return all;
  }
}
