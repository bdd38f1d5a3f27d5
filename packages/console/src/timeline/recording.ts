import { ACCOUNTS_MAX } from './columns.ts';
import { Slices } from './slices.ts';

/** As `GET /v1/bridge/events` tells it; what each number is stands in the server's live feed. */
export interface Moment {
  readonly seq: number;
  readonly now_us: number;
  readonly server_us: number;
  readonly lanes: readonly string[];
  readonly crossings: readonly (readonly number[])[];
  readonly launches: readonly (readonly number[])[];
  readonly dropped: number;
}

export interface Account {
  readonly purpose: string;
  readonly direction: 'h2d' | 'd2h';
}

/** What a snapshot brings, and what a recording in a file is. */
export interface Snapshot {
  readonly device: string;
  readonly accounts: readonly Account[];
  readonly moments: readonly Moment[];
}

/** What a stretch of time came to, for one purpose in one direction. */
export interface Sum extends Account {
  readonly crossings: number;
  readonly bytes: number;
  readonly busyUs: number;
  readonly tollUs: number;
  readonly blockedUs: number;
}

/** What is kept while it is live: what is older has left the window. */
const KEPT_US = 60e6;
/** Of a live page, over all rows: a server that tells of more costs the tab no more than this. */
const SLICES_KEPT = 600_000;
const LANES_MAX = 64;
const NAME_CHARACTERS_MAX = 64;

/** The rows of a timeline, filled moment by moment. */
export class Recording {
  readonly accounts: readonly Account[];
  readonly launches = new Slices();
  /** When a thread stood still for a copy that it had issued: nothing else was launched then. */
  readonly blocked = new Slices();
  readonly lanes: { readonly name: string; readonly slices: Slices }[] = [];
  nowUs = 0;
  /** By the server's clock minus the device's. */
  serverOffsetUs = 0;
  dropped = 0;
  /** Moments that never came. */
  missed = 0;
  /** What came, and was no moment. */
  malformed = 0;
  #seq = 0;
  readonly #keptUs: number;

  /** Crossings of an account or lane that was never told are counted as without room. */
  constructor({ accounts, moments }: Snapshot, keptUs = KEPT_US) {
    this.accounts = accounts.slice(0, ACCOUNTS_MAX).map(readAccount);
    this.#keptUs = keptUs;
    for (const moment of moments) this.add(moment);
  }

  /**
   * Takes in a moment, and says whether it did: one that was there already changes nothing, and
   * what is none is counted.
   */
  add(given: unknown): boolean {
    const moment = readMoment(given);
    if (moment === null) {
      this.malformed += 1;
      return false;
    }
    if (moment.seq <= this.#seq) return false;
    if (this.#seq > 0) this.missed += moment.seq - this.#seq - 1;
    this.#seq = moment.seq;
    this.nowUs = moment.now_us;
    this.serverOffsetUs = moment.server_us - moment.now_us;
    this.dropped += moment.dropped;
    for (const name of moment.lanes.slice(this.lanes.length, LANES_MAX)) {
      this.lanes.push({ name: name.slice(0, NAME_CHARACTERS_MAX), slices: new Slices() });
    }
    for (const launch of moment.launches) {
      if (isRow(launch)) this.#launch(moment.now_us, launch);
    }
    for (const crossing of moment.crossings) {
      if (isRow(crossing)) this.#cross(moment.now_us, crossing);
    }
    this.#forget(moment.now_us - this.#keptUs);
    return true;
  }

  get firstUs(): number {
    const starts = this.#rows().map((row) => (row.length > 0 ? row.startUs(0) : this.nowUs));
    return Math.min(this.nowUs, ...starts);
  }

  #cross(nowUs: number, crossing: readonly number[]): void {
    const row = this.lanes[crossing[0] ?? 0];
    const account = crossing[1] ?? 0;
    const count = crossing[7] ?? 1;
    if (row === undefined || this.accounts[account] === undefined) {
      this.dropped += count;
      return;
    }
    const startUs = nowUs - (crossing[2] ?? 0);
    const endUs = startUs + (crossing[3] ?? 0);
    const tollUs = crossing[4] ?? 0;
    const blockedUs = crossing[5] ?? 0;
    const bytes = crossing[6] ?? 0;
    row.slices.add(startUs, endUs, account, tollUs, blockedUs, bytes, count, 0, 0);
    // A lane of its own has a thread that may wait: only the launching thread's waiting costs.
    if (blockedUs > 0 && isLaunching(row.name)) {
      const untilUs = startUs + blockedUs;
      this.blocked.add(startUs, untilUs, account, tollUs, blockedUs, bytes, count, 0, 0);
    }
  }

  #launch(nowUs: number, launch: readonly number[]): void {
    const startUs = nowUs - (launch[0] ?? 0);
    const endUs = startUs + (launch[1] ?? 0);
    const steps = launch[2] ?? 0;
    this.launches.add(startUs, endUs, -1, 0, 0, 0, steps, launch[3] ?? 0, launch[4] ?? 0);
  }

  #rows(): Slices[] {
    return [this.launches, this.blocked, ...this.lanes.map(({ slices }) => slices)];
  }

  #forget(beforeUs: number): void {
    // A recording from a file is kept whole.
    if (!Number.isFinite(this.#keptUs)) return;
    const rows = this.#rows();
    for (const row of rows) row.drop(row.firstEndingAfter(beforeUs));
    let kept = rows.reduce((sum, { length }) => sum + length, 0);
    while (kept > SLICES_KEPT) {
      const longest = rows.reduce((a, b) => (a.length >= b.length ? a : b));
      const gone = Math.ceil(longest.length / 2);
      longest.drop(gone);
      this.dropped += gone;
      kept -= gone;
    }
  }
}

/** Purposes are words of ours or of a trace: what is none is drawn, and called unreadable. */
function readAccount(given: unknown): Account {
  const { purpose, direction } = (given ?? {}) as Partial<Account>;
  const name = typeof purpose === 'string' ? purpose.slice(0, NAME_CHARACTERS_MAX) : 'unreadable';
  return { purpose: name, direction: direction === 'h2d' ? 'h2d' : 'd2h' };
}

/** A moment as it came; null: it is none. Rows of it may still lack numbers. */
function readMoment(given: unknown): Moment | null {
  if (typeof given !== 'object' || given === null) return null;
  const { seq, now_us, server_us, lanes, crossings, launches, dropped } = given as Partial<Moment>;
  if (!Number.isSafeInteger(seq) || !isRow([now_us, dropped]) || !Number.isFinite(server_us)) {
    return null;
  }
  if (!(Array.isArray(lanes) && lanes.every((name) => typeof name === 'string'))) return null;
  return Array.isArray(crossings) && Array.isArray(launches) ? (given as Moment) : null;
}

/** Times and sizes are never below zero, and none is without an end. */
function isRow(row: unknown): row is readonly number[] {
  if (!Array.isArray(row)) return false;
  for (const value of row) if (!(value >= 0 && value < 2 ** 53)) return false;
  return true;
}

/** Every device calls the launching thread's own lane so. */
function isLaunching(lane: string): boolean {
  return lane === 'inline';
}

/** What crossed from `fromUs` to `toUs`, by purpose and direction; a part counts as its part. */
export function sumsWithin(recording: Recording, fromUs: number, toUs: number): Sum[] {
  const sums = recording.accounts.map((account) => {
    return { ...account, crossings: 0, bytes: 0, busyUs: 0, tollUs: 0, blockedUs: 0 };
  });
  for (const { slices } of recording.lanes) {
    for (let at = slices.firstEndingAfter(fromUs); at < slices.length; at++) {
      const slice = slices.at(at);
      if (slice.startUs >= toUs) break;
      const sum = sums[slice.account];
      if (sum === undefined) continue;
      const length = Math.max(1, slice.endUs - slice.startUs);
      const inside = Math.min(slice.endUs, toUs) - Math.max(slice.startUs, fromUs);
      const part = Math.max(0, inside) / length;
      sum.crossings += slice.count * part;
      sum.bytes += slice.bytes * part;
      sum.busyUs += inside;
      sum.tollUs += slice.tollUs * part;
      sum.blockedUs += slice.blockedUs * part;
    }
  }
  return sums.filter(({ crossings }) => crossings > 0);
}
