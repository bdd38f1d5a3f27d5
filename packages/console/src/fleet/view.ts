import { fits, orNone, type Shape } from '../shape.ts';

/** Rows of control as the page shows them; what else a row has is left alone. */
export interface HostRow {
  readonly host: string;
  readonly state: 'joined' | 'ready' | 'cordoned' | 'draining';
  readonly lostSinceMs: number | null;
  readonly facts: {
    readonly platform: string;
    readonly driverVersion: string | null;
    readonly grade: string;
    readonly isFrozen: boolean;
    readonly gpus: readonly {
      readonly module: number;
      readonly ccMode: string;
      readonly isHealthy: boolean;
    }[];
    readonly partitions: readonly { readonly id: number; readonly modules: readonly number[] }[];
    readonly quarantined: readonly { readonly module: number; readonly reason: string }[];
  } | null;
  readonly quarantined: readonly {
    readonly module: number;
    readonly reason: string;
    readonly atMs: number;
  }[];
  readonly checkpoint: string | null;
}

export interface NearestMiss {
  readonly host: string;
  readonly cause: string;
  /** Controls of before do not say it. */
  readonly lift?: string | null;
}

export interface PoolRow {
  readonly pool: string;
  readonly spec: {
    readonly models: readonly string[];
    readonly tenant: string | null;
    readonly gpus: number;
    readonly policy: string;
    readonly replicas: { readonly min: number; readonly max: number };
  };
  readonly generation: number;
  readonly failures: number;
  readonly notBeforeMs: number;
  readonly trouble: {
    readonly cause: string;
    /** The host that came nearest, what it lacks, and what would lift that. */
    readonly nearest: NearestMiss | null;
  } | null;
}

export const PHASES = ['starting', 'attesting', 'warm', 'serving', 'draining', 'stopping'] as const;

export interface ReplicaRow {
  readonly replica: string;
  readonly pool: string;
  readonly tenant: string | null;
  readonly host: string;
  readonly partition: number;
  readonly modules: readonly number[];
  readonly epoch: number;
  readonly phase: (typeof PHASES)[number];
  readonly phaseSinceMs: number;
  readonly reason: string | null;
  readonly deadlineMs: number | null;
  readonly challenge: { readonly atMs: number } | null;
  readonly coldStartSeconds: number;
  readonly logIndex: number | null;
}

export interface TenantRow {
  readonly tenant: string;
  readonly spec: {
    readonly quota: Readonly<Record<string, number | null>>;
    readonly pools: readonly string[] | null;
  };
}

export interface EvidenceRow {
  readonly evidence: string;
  readonly replica: string;
  readonly host: string;
  readonly policy: string;
  readonly atMs: number;
  readonly isAccepted: boolean;
  readonly refusals: readonly string[];
}

export interface Rows {
  readonly host: HostRow;
  readonly pool: PoolRow;
  readonly replica: ReplicaRow;
  readonly tenant: TenantRow;
  readonly evidence: EvidenceRow;
}

export type Kind = keyof Rows;
const KINDS = ['host', 'pool', 'replica', 'tenant', 'evidence'] as const satisfies readonly Kind[];
/** Of admissions that failed, so many are kept. */
const EVIDENCE_KEPT = 50;

/** One change, as GET /v1/events tells it. */
export interface FleetEvent {
  readonly sequence: number;
  readonly atMs: number;
  readonly kind: string;
  readonly id: string;
  /** null: it is gone. */
  readonly row: Readonly<Record<string, unknown>> | null;
}

/** The rows of a fleet, by kind and id. Immutable, so that what is shown is of one moment. */
export class FleetView {
  readonly #rows: Readonly<Record<Kind, ReadonlyMap<string, unknown>>>;
  /** By kind and id: of the change that a row is as it is since. */
  readonly #since: ReadonlyMap<string, number>;

  constructor(
    rows: Readonly<Record<Kind, ReadonlyMap<string, unknown>>> = EMPTY,
    since: ReadonlyMap<string, number> = new Map(),
  ) {
    this.#rows = rows;
    this.#since = since;
  }

  all<K extends Kind>(kind: K): readonly Rows[K][] {
    return [...this.#rows[kind].values()] as Rows[K][];
  }

  /** Rows that were read when the fleet was at that sequence; what changed since stays. */
  with<K extends Kind>(kind: K, rows: readonly Rows[K][], sequence: number): FleetView {
    const since = new Map(this.#since);
    const all = new Map(this.#rows[kind]);
    for (const row of rows) {
      if (!isRow(kind, row)) continue;
      const id = String((row as unknown as Readonly<Record<string, unknown>>)[kind]);
      const key = `${kind} ${id}`;
      if ((since.get(key) ?? -1) > sequence) continue;
      since.set(key, sequence);
      all.set(id, row);
    }
    return new FleetView({ ...this.#rows, [kind]: all }, since);
  }

  /** Takes in events in any order, each any number of times; what is none changes nothing. */
  after(events: readonly unknown[]): FleetView {
    const since = new Map(this.#since);
    const rows = { ...this.#rows };
    for (const each of events) {
      const event = eventOf(each);
      if (event === null) continue;
      const { kind, id, row, sequence } = event;
      const key = `${kind} ${id}`;
      if ((since.get(key) ?? -1) >= sequence) continue;
      since.set(key, sequence);
      const changed = new Map(rows[kind]);
      if (row === null) changed.delete(id);
      else changed.set(id, row);
      if (kind === 'evidence') forgetOldest(changed);
      rows[kind] = changed;
    }
    return new FleetView(rows, since);
  }
}

const EMPTY = Object.fromEntries(KINDS.map((kind) => [kind, new Map()])) as unknown as Readonly<
  Record<Kind, ReadonlyMap<string, unknown>>
>;

function forgetOldest(rows: Map<string, unknown>): void {
  const [oldest] = rows.keys();
  if (rows.size > EVIDENCE_KEPT) rows.delete(oldest!);
}

/** Whether it is a change that this shows, or one of what it does not show. */
export function isEvent(each: unknown): boolean {
  return fits(each, { sequence: 'number', kind: 'text', id: 'text' });
}

function eventOf(each: unknown): (FleetEvent & { readonly kind: Kind }) | null {
  if (typeof each !== 'object' || each === null) return null;
  const { sequence, kind, id, row } = each as Partial<FleetEvent>;
  if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence)) return null;
  const known = KINDS.find((name) => name === kind);
  if (known === undefined || typeof id !== 'string') return null;
  if (row !== null && !isRow(known, row)) return null;
  return { ...(each as FleetEvent), kind: known };
}

/** Boards have eight; what is more than this is no board. */
const MODULES_MAX = 64;
const module: Shape = (value) =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MODULES_MAX;

const limits: Shape = (value) =>
  fits(value, {}) && Object.values(value as object).every((each) => fits(each, orNone('number')));

const NEAREST: Shape = { host: 'text', cause: 'text', lift: orNone('text') };

/** What a row must have to be drawn: one that lacks it is not. */
const SHAPES: Readonly<Record<Kind, Shape>> = {
  host: {
    host: 'text',
    state: 'text',
    lostSinceMs: orNone('number'),
    facts: orNone({
      platform: 'text',
      driverVersion: orNone('text'),
      grade: 'text',
      gpus: [{ module, isHealthy: 'flag' }],
      partitions: [{ modules: [module] }],
      quarantined: [{ module, reason: 'text' }],
    }),
    quarantined: [{ module, reason: 'text', atMs: 'number' }],
    checkpoint: orNone('text'),
  },
  pool: {
    pool: 'text',
    spec: {
      models: ['text'],
      tenant: orNone('text'),
      gpus: 'number',
      policy: 'text',
      replicas: { min: 'number', max: 'number' },
    },
    failures: 'number',
    notBeforeMs: 'number',
    trouble: orNone({ cause: 'text', nearest: orNone(NEAREST) }),
  },
  replica: {
    replica: 'text',
    pool: 'text',
    tenant: orNone('text'),
    host: 'text',
    modules: [module],
    phase: 'text',
    phaseSinceMs: 'number',
    reason: orNone('text'),
    deadlineMs: orNone('number'),
  },
  tenant: { tenant: 'text', spec: { quota: limits, pools: orNone(['text']) } },
  evidence: {
    evidence: 'text',
    replica: 'text',
    policy: 'text',
    atMs: 'number',
    isAccepted: 'flag',
    refusals: ['text'],
  },
};

function isRow(kind: Kind, row: unknown): row is Readonly<Record<string, unknown>> {
  return fits(row, SHAPES[kind]);
}
