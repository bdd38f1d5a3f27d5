import type { Vmm } from '@bridgekeeper/control';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import type { Random } from '../world/random.ts';
import type { DatabaseWatch } from './database.ts';
import type { Fleet } from './fleet.ts';
import type { GuestWatch } from './guests.ts';

type GuestSpec = Parameters<Vmm['create']>[0];

interface ReplicaRow {
  readonly replica: string;
  readonly pool: string;
  readonly tenant: string | null;
  readonly host: string;
  readonly modules: readonly number[];
  readonly phase: string;
  readonly address: string | null;
  readonly deadlineMs: number | null;
  readonly evidence: { readonly id: string; readonly notAfterMs: number } | null;
}

interface EvidenceRow {
  readonly evidence: string;
  readonly replica: string;
  readonly nonce: string;
  /** When it was asked for. */
  readonly atMs: number;
  readonly isAccepted: boolean;
}

interface PoolRow {
  readonly pool: string;
  readonly spec: { readonly gpus: number; readonly replicas: { readonly min: number } };
}

/** What is written, as of one commit. */
interface Written {
  readonly replicas: readonly ReplicaRow[];
  readonly pools: ReadonlyMap<string, PoolRow['spec']>;
  readonly evidence: ReadonlyMap<string, EvidenceRow>;
  readonly claims: ReadonlyMap<string, string>;
}

/** A leader that was paused may write something else first. */
const LATE_MS_MAX = 45_000;

/** By then a gateway knows what is written, and has sent what it had chosen a replica for. */
const TOLD_MS_MAX = 3000;

const UP = new Set(['warm', 'serving']);

/** Holds a fleet to what it promises: by what is true of guests, and by what is written. */
export class FleetJudge implements DatabaseWatch, GuestWatch {
  /** Who was named leader last. */
  leader: Life | null = null;
  readonly #world: World;
  readonly #fleet: Fleet;
  /** Replicas that each pool shall have. */
  readonly #wanted = new Map<string, number>();
  /** Answers of guests to challenges: when, by where and to what. */
  readonly #answered = new Map<string, number>();
  /** Until when streams of a replica may last that drains. */
  readonly #drainsUntilMs = new Map<string, number>();
  /** Since when they drain. */
  readonly #drainsSinceMs = new Map<string, number>();
  /** What each agent obeys: epoch and sequence. */
  readonly #obeyed = new Map<string, readonly [number, number]>();
  /** Clocks are as they should be: what is written of time can be held to it. */
  hasTrueClocks = true;
  /** Gateways reach guests: what they say of them is so. */
  hasWholePaths = true;
  /** Who leads goes on to: what is written is told to gateways at once. */
  hasSteadyControl = true;
  readonly #begun = new Set<string>();
  readonly #judged = new Set<string>();
  #written: Written = { replicas: [], pools: new Map(), evidence: new Map(), claims: new Map() };
  #events = 0;

  constructor(world: World, fleet: Fleet) {
    this.#world = world;
    this.#fleet = fleet;
  }

  wants(pool: string, replicas: number): void {
    this.#wanted.set(pool, replicas);
  }

  /** Whether each pool has what it shall have, and nothing else is left. */
  get isAsWanted(): boolean {
    const { replicas } = this.#written;
    return [...this.#wanted].every(([pool, count]) => {
      const own = replicas.filter((each) => each.pool === pool);
      return own.length === count && own.every((each) => this.#serves(each));
    });
  }

  /** As it is written. */
  pool(name: string): PoolRow['spec'] | undefined {
    return this.#written.pools.get(name);
  }

  hasReplicas(pool: string): boolean {
    return this.#written.replicas.some((each) => each.pool === pool);
  }

  /** null: there is none. */
  someReplica(random: Random): string | null {
    const { replicas } = this.#written;
    return replicas.length === 0 ? null : random.of(replicas).replica;
  }

  /** What is there, in words. */
  get state(): string {
    return this.#written.replicas
      .map(
        ({ replica, pool, host, phase }) => `${replica.slice(-4)} of ${pool} on ${host} ${phase}`,
      )
      .join(', ');
  }

  leads(life: Life): void {
    if (this.leader === life) return;
    this.leader = life;
    this.#world.judge.note(`${life.name} is named leader`);
    this.#world.judge.reached('leader named');
  }

  committed(life: Life): void {
    const { judge } = this.#world;
    judge.require(
      life === this.leader,
      'fenced',
      () => `${life.name} has written, and ${this.leader?.name ?? 'nobody'} leads`,
    );
    const { sql } = this.#fleet.database;
    const all = [
      sql.query('SELECT kind, body FROM objects', []),
      sql.query('SELECT host, module, replica FROM claims', []),
      sql.query('SELECT COUNT(*) AS count, MAX(sequence) AS last FROM events', []),
    ] as const;
    void Promise.all(all).then(([objects, claims, events]) => {
      const replicas: ReplicaRow[] = [];
      const evidence = new Map<string, EvidenceRow>();
      const pools = new Map<string, PoolRow['spec']>();
      for (const { kind, body } of objects.rows) {
        if (kind === 'replica') replicas.push(JSON.parse(String(body)));
        if (kind === 'pool') {
          const { pool, spec } = JSON.parse(String(body)) as PoolRow;
          pools.set(pool, spec);
        }
        if (kind === 'evidence') {
          const row = JSON.parse(String(body)) as EvidenceRow;
          evidence.set(row.evidence, row);
        }
      }
      const claimed = claims.rows.map(
        ({ host, module, replica }) => [`${host}/${module}`, String(replica)] as const,
      );
      const { count, last } = events.rows[0]!;
      judge.require(
        Number(count) === Number(last ?? 0) && Number(last ?? 0) >= this.#events,
        'log-grows',
        () => `${count} events, the last is ${last}, and ${this.#events} were there`,
      );
      this.#events = Number(last ?? 0);
      this.#written = { replicas, pools, evidence, claims: new Map(claimed) };
      this.#look();
    });
  }

  begins(host: string, spec: GuestSpec, others: ReadonlyMap<string, GuestSpec>): void {
    const { judge } = this.#world;
    for (const [other, { modules }] of others) {
      const shared = modules.filter((module) => spec.modules.includes(module));
      judge.require(
        shared.length === 0,
        'exclusive',
        () => `${host}: module ${shared[0]} goes to ${spec.replica}, and ${other} has it`,
      );
    }
    judge.require(
      !this.#begun.has(spec.replica),
      'exclusive',
      () => `${host}: ${spec.replica} is begun a second time`,
    );
    this.#begun.add(spec.replica);
  }

  asked(host: string, { replica }: GuestSpec, openRequests: number): void {
    const { judge } = this.#world;
    judge.note(`${host} asks ${replica} to end, which has ${openRequests} requests`);
    const untilMs = this.#drainsUntilMs.get(replica);
    if (untilMs === undefined || !this.hasTrueClocks || !this.hasWholePaths) return;
    judge.reached('drained guest ended');
    judge.require(
      openRequests === 0 || this.#nowMs >= untilMs,
      'drained',
      () => `${replica} ends ${openRequests} requests, ${untilMs - this.#nowMs} ms too early`,
    );
  }

  /** New requests go to others, once gateways have been told. */
  takes(replica: string): void {
    const sinceMs = this.#drainsSinceMs.get(replica);
    if (sinceMs === undefined || !this.hasWholePaths || !this.hasSteadyControl) return;
    const { judge } = this.#world;
    judge.reached('drained guest asked');
    judge.require(
      this.#nowMs - sinceMs <= TOLD_MS_MAX,
      'drained',
      () => `${replica} drains for ${this.#nowMs - sinceMs} ms, and is given a request`,
    );
  }

  /** A guest has answered a challenge. */
  answered(address: string, nonce: string): void {
    const key = `${address} ${nonce}`;
    if (!this.#answered.has(key)) this.#answered.set(key, this.#nowMs);
  }

  /** An agent keeps what it is told, and does it. */
  obeys(host: string, epoch: number, sequence: number): void {
    const [lastEpoch, lastSequence] = this.#obeyed.get(host) ?? [0, 0];
    this.#world.judge.require(
      epoch > lastEpoch || (epoch === lastEpoch && sequence >= lastSequence),
      'fenced',
      () => `${host} obeys ${epoch}.${sequence}, and ${lastEpoch}.${lastSequence} was there`,
    );
    this.#obeyed.set(host, [epoch, sequence]);
  }

  get #nowMs(): number {
    return this.#world.trueUnixMs;
  }

  #serves({ phase, evidence }: ReplicaRow): boolean {
    return phase === 'serving' && evidence !== null && evidence.notAfterMs > this.#nowMs;
  }

  #look(): void {
    const { judge } = this.#world;
    const { replicas, evidence, claims } = this.#written;
    for (const { host, guests } of this.#fleet.vmms) {
      for (const [replica, { spec }] of guests) {
        for (const module of spec.modules) {
          const holder = claims.get(`${host}/${module}`);
          judge.require(
            holder === replica,
            'exclusive',
            () => `${host} has ${replica} on module ${module}, which ${holder ?? 'nobody'} claims`,
          );
        }
      }
    }
    const held = new Map<string, number>();
    let modules = 0;
    for (const replica of replicas) {
      modules += replica.modules.length;
      const { tenant } = replica;
      if (tenant !== null) held.set(tenant, (held.get(tenant) ?? 0) + replica.modules.length);
      if (UP.has(replica.phase)) this.#admitted(replica, evidence);
      if (replica.phase === 'draining' && replica.deadlineMs !== null) {
        this.#drainsUntilMs.set(replica.replica, replica.deadlineMs);
        if (!this.#drainsSinceMs.has(replica.replica)) {
          this.#drainsSinceMs.set(replica.replica, this.#nowMs);
        }
      }
    }
    judge.require(
      modules === claims.size,
      'exclusive',
      () => `${claims.size} modules are claimed, and replicas have ${modules}`,
    );
    for (const [tenant, gpus] of held) {
      judge.require(
        gpus <= this.#fleet.shape.gpusMax,
        'quota-kept',
        () => `${tenant} has ${gpus} GPUs of ${this.#fleet.shape.gpusMax}`,
      );
    }
  }

  #admitted(row: ReplicaRow, evidence: ReadonlyMap<string, EvidenceRow>): void {
    const { judge } = this.#world;
    const { replica, phase, address } = row;
    const own = row.evidence === null ? undefined : evidence.get(row.evidence.id);
    if (own === undefined) {
      judge.violated('admitted', `${replica} is ${phase} without evidence`);
      return;
    }
    const lateMs = this.#nowMs - row.evidence!.notAfterMs;
    judge.require(
      !this.hasTrueClocks || lateMs <= LATE_MS_MAX,
      'admitted',
      () => `${replica} is ${phase} by evidence that is ${lateMs} ms too old`,
    );
    if (this.#judged.has(own.evidence)) return;
    this.#judged.add(own.evidence);
    judge.require(
      own.isAccepted && own.replica === replica,
      'admitted',
      () => `${replica} is ${phase} by evidence that was refused or is another's`,
    );
    const answeredMs = this.#answered.get(`${address} ${own.nonce}`);
    judge.require(
      answeredMs !== undefined && (!this.hasTrueClocks || answeredMs >= own.atMs),
      'admitted',
      () => `${replica} is ${phase}, and has not answered what it was asked at ${own.atMs}`,
    );
  }
}
