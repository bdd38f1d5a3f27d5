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

/** Something a row of the timeline shows. Microseconds of the device's clock. */
export interface Slice {
  readonly startUs: number;
  readonly endUs: number;
  /** Index in `Recording.accounts`; -1: launches. */
  readonly account: number;
  readonly tollUs: number;
  readonly blockedUs: number;
  readonly bytes: number;
  /** Crossings that are drawn as one; of a launch, its decode steps. */
  readonly count: number;
  /** Of a launch: rows that decode, and tokens of prompts. */
  readonly rows: number;
  readonly promptTokens: number;
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

/** The rows of a timeline, filled moment by moment. */
export class Recording {
  readonly accounts: readonly Account[];
  readonly launches: Slice[] = [];
  /** When a thread stood still for a copy that it had issued: nothing else was launched then. */
  readonly blocked: Slice[] = [];
  readonly lanes: { readonly name: string; readonly slices: Slice[] }[] = [];
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

  constructor({ accounts, moments }: Snapshot, keptUs = KEPT_US) {
    this.accounts = accounts;
    this.#keptUs = keptUs;
    for (const moment of moments) this.add(moment);
  }

  /** Takes in a moment; one that was there already changes nothing, and what is none is counted. */
  add(given: unknown): void {
    const moment = readMoment(given);
    if (moment === null) {
      this.malformed += 1;
      return;
    }
    if (moment.seq <= this.#seq) return;
    if (this.#seq > 0) this.missed += moment.seq - this.#seq - 1;
    this.#seq = moment.seq;
    this.nowUs = moment.now_us;
    this.serverOffsetUs = moment.server_us - moment.now_us;
    this.dropped += moment.dropped;
    for (const name of moment.lanes.slice(this.lanes.length)) {
      this.lanes.push({ name, slices: [] });
    }
    for (const launch of moment.launches) this.launches.push(launchOf(moment.now_us, launch));
    for (const crossing of moment.crossings) this.#cross(moment.now_us, crossing);
    this.#forget(moment.now_us - this.#keptUs);
  }

  get firstUs(): number {
    const starts = this.#rows().flatMap((slices) => slices[0]?.startUs ?? []);
    return Math.min(this.nowUs, ...starts);
  }

  #cross(nowUs: number, crossing: readonly number[]): void {
    const [lane = 0, account = 0, ago = 0, length = 0, toll = 0, blocked = 0] = crossing;
    const [, , , , , , bytes = 0, count = 1] = crossing;
    const startUs = nowUs - ago;
    const slice: Slice = {
      startUs,
      endUs: startUs + length,
      account,
      tollUs: toll,
      blockedUs: blocked,
      bytes,
      count,
      rows: 0,
      promptTokens: 0,
    };
    const row = this.lanes[lane];
    if (row === undefined) return;
    row.slices.push(slice);
    // A lane of its own has a thread that may wait: only the launching thread's waiting costs.
    if (blocked > 0 && isLaunching(row.name)) {
      this.blocked.push({ ...slice, endUs: startUs + blocked });
    }
  }

  #rows(): Slice[][] {
    return [this.launches, this.blocked, ...this.lanes.map(({ slices }) => slices)];
  }

  #forget(beforeUs: number): void {
    for (const slices of this.#rows()) {
      const kept = slices.findIndex(({ endUs }) => endUs >= beforeUs);
      if (kept > 0) slices.splice(0, kept);
      else if (kept < 0 && slices.length > 0) slices.length = 0;
    }
  }
}

/** A moment as it came; null: it is none. Rows of it that lack numbers are left out. */
function readMoment(given: unknown): Moment | null {
  if (typeof given !== 'object' || given === null) return null;
  const { seq, now_us, server_us, lanes, crossings, launches, dropped } = given as Partial<Moment>;
  const numbers = [seq, now_us, server_us, dropped];
  if (!numbers.every((value) => Number.isFinite(value)) || !Number.isSafeInteger(seq)) return null;
  if (!(Array.isArray(lanes) && lanes.every((name) => typeof name === 'string'))) return null;
  if (!Array.isArray(crossings) || !Array.isArray(launches)) return null;
  if (crossings.every(isRow) && launches.every(isRow)) return given as Moment;
  const moment = given as Moment;
  return { ...moment, crossings: crossings.filter(isRow), launches: launches.filter(isRow) };
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

function launchOf(nowUs: number, launch: readonly number[]): Slice {
  const [ago = 0, length = 0, steps = 0, rows = 0, promptTokens = 0] = launch;
  const startUs = nowUs - ago;
  return {
    startUs,
    endUs: startUs + length,
    account: -1,
    tollUs: 0,
    blockedUs: 0,
    bytes: 0,
    count: steps,
    rows,
    promptTokens,
  };
}

/** The index of the first slice that ends after `us`: slices stand in order and never overlap. */
export function firstEndingAfter(slices: readonly Slice[], us: number): number {
  let low = 0;
  let high = slices.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (slices[middle]!.endUs > us) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** What crossed from `fromUs` to `toUs`, by purpose and direction; a part counts as its part. */
export function sumsWithin(recording: Recording, fromUs: number, toUs: number): Sum[] {
  const sums = recording.accounts.map((account) => {
    return { ...account, crossings: 0, bytes: 0, busyUs: 0, tollUs: 0, blockedUs: 0 };
  });
  for (const { slices } of recording.lanes) {
    for (let at = firstEndingAfter(slices, fromUs); at < slices.length; at++) {
      const slice = slices[at]!;
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
