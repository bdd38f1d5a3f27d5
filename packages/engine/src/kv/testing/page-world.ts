import type { PagedSequence } from '../prefix-tree.ts';
import type {
  Demotion,
  Mover,
  MoveSpan,
  RestoreRequest,
  Settled,
  StoredPart,
  StoreName,
} from '../tiers/movement.ts';

export const PAGE_TOKENS = 4;

export function sequenceOf(tokens: readonly number[], tenant = 't'): PagedSequence {
  const all = Uint32Array.from(tokens);
  return {
    request: { tenant },
    length: all.length,
    tokens: (from, to) => all.subarray(from, to),
    pages: [],
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

/**
 * A mover over pages and slots that hold the key of what was written to them, so that a test sees
 * what a sequence would read. Restores end when they are told to; what is asked of a slot happens
 * in order, as `Mover` promises.
 */
export class PageWorld implements Mover {
  readonly parts = ['context'] as const;
  readonly pagesTogether = 2;
  readonly slots: Mover['slots'];
  /** Keys. */
  readonly pages: (string | undefined)[];
  readonly stores: Readonly<Record<StoreName, (string | undefined)[]>>;
  readonly restores = new Map<number, RestoreRequest>();
  /** What each brings: what its slots held when it was asked for. */
  readonly #contents = new Map<number, readonly (string | undefined)[]>();
  readonly #faults: Faults;
  #settled: Settled[] = [];
  #ids = 0;

  constructor(pages: number, host: number, disk = 0, faults = NO_FAULTS) {
    this.slots = { host: { context: host }, disk: { context: disk } };
    this.pages = new Array(pages);
    this.stores = { host: new Array(host), disk: new Array(disk) };
    this.#faults = faults;
  }

  spill({ moves }: MoveSpan): number {
    const taken = this.#faults.refuses() ? Math.floor(moves.length / 2) : moves.length;
    const lost: StoredPart[] = [];
    for (const { page, slot, key } of moves.slice(0, taken)) {
      if (this.pages[page] !== key) throw new Error('a page is spilled as what it is not');
      this.stores.host[slot] = key;
      if (!this.#faults.losesSpill()) continue;
      this.stores.host[slot] = undefined;
      lost.push({ part: 'context', slot });
    }
    if (lost.length > 0) {
      this.#settled.push({ kind: 'slots-lost', store: 'host', failure: 'no-memory', lost });
    }
    return taken;
  }

  demote(_tenant: string, demotions: readonly Demotion[]): void {
    for (const { hostSlot, diskSlot } of demotions) {
      this.stores.disk[diskSlot] = this.stores.host[hostSlot];
    }
  }

  restore(request: RestoreRequest): number {
    const id = this.#ids++;
    // What is in the slots now is what comes, whatever they are used for meanwhile.
    this.restores.set(id, request);
    const contents = request.moves.map(({ slot }) => this.stores[request.from][slot]);
    this.#contents.set(id, contents);
    for (const [index, { key, page }] of request.moves.entries()) {
      if ((contents[index] ?? key) !== key) throw new Error('a slot has what it should not');
      this.pages[page] = undefined;
    }
    return id;
  }

  /** Ends all that are under way: a prompt's pages come in several. */
  endRestores(): void {
    while (this.endRestore());
  }

  /** The restore that was asked for first comes to its end. */
  endRestore(): boolean {
    for (const [id, { moves }] of this.restores) {
      this.restores.delete(id);
      const isLost = this.#contents.get(id)!.includes(undefined);
      if (isLost || this.#faults.failsRestore()) {
        const failure = isLost ? 'not-authentic' : 'lane-lost';
        this.#settled.push({ kind: 'restore-failed', id, failure, lost: [] });
      } else {
        for (const { page, key } of moves) this.pages[page] = key;
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
    for (const { slot } of parts) {
      this.stores[store][slot] = undefined;
      this.#settled = this.#settled.map((event) => {
        if (event.kind !== 'slots-lost' || event.store !== store) return event;
        return { ...event, lost: event.lost.filter((part) => part.slot !== slot) };
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
