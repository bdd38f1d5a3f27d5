import { type CrossingRecord, type Direction, PURPOSES, type Purpose } from './crossing.ts';
import { invariant } from './invariant.ts';

/** What a set of crossings came to. */
export interface Account {
  readonly crossings: number;
  readonly bytes: number;
  /** Time the channel served them. */
  readonly busyNs: number;
  /** Time their issuing threads were blocked. */
  readonly blockedNs: number;
}

/** The ledger at one moment: counters since it was opened. */
export interface LedgerSnapshot {
  /** Name of the profile in force, or `off`. */
  readonly law: string;
  /** One entry for each purpose and direction that occurred, in the order of PURPOSES. */
  readonly totals: readonly (Account & {
    readonly purpose: Purpose;
    readonly direction: Direction;
  })[];
  readonly lanes: readonly (Account & { readonly id: string; readonly kind: string })[];
  readonly tenants: readonly (Account & { readonly tenant: string })[];
  readonly uptimeNs: number;
}

export interface LedgerOptions {
  /** Name of the profile in force, or `off`. */
  readonly law: string;
  /** When the account begins, on the device's clock. */
  readonly openedNs: number;
  /** Lanes and tenants that get an account of their own; 256 each unless told otherwise. */
  readonly accountsMax?: number;
}

/** Where the lanes and tenants beyond the bound are accounted together. */
export const OTHERS = 'others';

/** Every purpose in both directions, in the order of `readTotals`. */
export const ACCOUNTS: readonly { readonly purpose: Purpose; readonly direction: Direction }[] =
  PURPOSES.flatMap((purpose) =>
    (['h2d', 'd2h'] as const).map((direction) => ({ purpose, direction })),
  );

type Tally = { -readonly [Field in keyof Account]: Account[Field] };

/**
 * The account of all crossings: constant time for each, bounded memory for any number of them.
 * Every lane writes each of its crossings here once, after it was made.
 */
export class Ledger {
  readonly #law: string;
  readonly #openedNs: number;
  readonly #totals: readonly { purpose: Purpose; direction: Direction; tally: Tally }[];
  /** Crossings and bytes of each of them, for whoever looks after every step. */
  readonly #counts = new Float64Array(2 * ACCOUNTS.length);
  readonly #lanes: BoundedTallies;
  readonly #laneKinds = new Map<string, string>();
  readonly #tenants: BoundedTallies;
  #recorded = 0;

  constructor({ law, openedNs, accountsMax = 256 }: LedgerOptions) {
    invariant(accountsMax >= 1, 'a ledger needs room for one account');
    this.#law = law;
    this.#openedNs = openedNs;
    this.#lanes = new BoundedTallies(accountsMax);
    this.#tenants = new BoundedTallies(accountsMax);
    this.#totals = ACCOUNTS.map((account) => ({ ...account, tally: emptyTally() }));
  }

  /** Makes a lane known, so that it is listed before its first crossing. */
  addLane(lane: { readonly id: string; readonly kind: string }): void {
    if (this.#lanes.of(lane.id) !== this.#lanes.others) this.#laneKinds.set(lane.id, lane.kind);
  }

  record(record: CrossingRecord): void {
    const { issuedNs, startedNs, completedNs, bytes, issuerBlockedNs } = record;
    invariant(Number.isSafeInteger(bytes) && bytes >= 0, 'a crossing of no whole number of bytes');
    invariant(startedNs >= issuedNs, 'a crossing that started before it was issued');
    invariant(completedNs >= startedNs, 'a crossing that was done before it started');
    invariant(issuerBlockedNs >= 0, 'a crossing that blocked its issuer for less than nothing');
    const purposeIndex = PURPOSES.indexOf(record.purpose);
    invariant(purposeIndex >= 0, 'crossing of unknown purpose');
    const at = purposeIndex * 2 + (record.direction === 'h2d' ? 0 : 1);
    add(this.#totals[at]!.tally, record);
    this.#counts[2 * at]! += 1;
    this.#counts[2 * at + 1]! += bytes;
    add(this.#lanes.of(record.lane), record);
    add(this.#tenants.of(record.tenant), record);
    this.#recorded += 1;
  }

  /** Crossings that were recorded: who looks after every step need not where there are no more. */
  get recorded(): number {
    return this.#recorded;
  }

  /**
   * Writes the crossings and the bytes of every account in `ACCOUNTS` since the ledger was opened,
   * two numbers each.
   */
  readTotals(into: Float64Array): void {
    invariant(into.length === 2 * ACCOUNTS.length, 'room for two numbers of each account');
    into.set(this.#counts);
  }

  /** `nowNs` is on the device's clock. */
  snapshot(nowNs: number): LedgerSnapshot {
    const totals = this.#totals
      .filter(({ tally }) => tally.crossings > 0)
      .map(({ purpose, direction, tally }) => ({ purpose, direction, ...tally }));
    const lanes = this.#lanes.entries().map(([id, tally]) => {
      return { id, kind: this.#laneKinds.get(id) ?? 'worker', ...tally };
    });
    const tenants = this.#tenants.entries().map(([tenant, tally]) => ({ tenant, ...tally }));
    return { law: this.#law, totals, lanes, tenants, uptimeNs: nowNs - this.#openedNs };
  }
}

/** Tallies by name, the first `max` names apart and the rest together. */
class BoundedTallies {
  readonly others = emptyTally();
  readonly #max: number;
  readonly #byName = new Map<string, Tally>();

  constructor(max: number) {
    this.#max = max;
  }

  of(name: string): Tally {
    let tally = this.#byName.get(name);
    if (tally === undefined) {
      if (this.#byName.size >= this.#max || name === OTHERS) return this.others;
      tally = emptyTally();
      this.#byName.set(name, tally);
    }
    return tally;
  }

  entries(): [string, Tally][] {
    const entries = [...this.#byName];
    return this.others.crossings > 0 ? [...entries, [OTHERS, this.others]] : entries;
  }
}

function emptyTally(): Tally {
  return { crossings: 0, bytes: 0, busyNs: 0, blockedNs: 0 };
}

function add(tally: Tally, record: CrossingRecord): void {
  tally.crossings += 1;
  tally.bytes += record.bytes;
  tally.busyNs += record.completedNs - record.startedNs;
  tally.blockedNs += record.issuerBlockedNs;
}
