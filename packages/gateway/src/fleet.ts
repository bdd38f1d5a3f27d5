import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { Clock } from '@bridgekeeper/bridge';
import type { QuotaShare, RoutePool, RouteReplica, RouteTenant } from '@bridgekeeper/control/api';
import { ApiError, type KeyLimits } from '@bridgekeeper/server/edge';
import { type Affinity, choose, rank } from './choose/choose.ts';
import { type RouteDigest, routeDigest } from './choose/digest.ts';
import { type Waiting, WaitQueue } from './choose/wait-queue.ts';
import type { LiveTable } from './table/live-table.ts';
import type { UpstreamAddress } from './upstream/connection.ts';
import { UpstreamPool } from './upstream/pool.ts';

/** Idle connections kept to one replica. */
const IDLE_MAX = 1024;
/** Shorter than what replicas keep idle connections for. */
const IDLE_NS = 60e9;
/** After a failed request a replica is left alone for so long, and twice as long each time. */
const FIRST_PAUSE_NS = 1e9;
const LONGEST_PAUSE_NS = 30e9;

export type AffinityMode = 'on' | 'shadow' | 'off';

export interface FleetOptions extends Omit<Affinity, 'inFlight'> {
  readonly affinity: AffinityMode;
  /** A request waits for a pool that starts in less. */
  readonly holdSeconds: number;
}

/** A replica of the table, and what this gateway has with it. */
export class Replica {
  /** As the table has it now. */
  route: RouteReplica;
  readonly connections: UpstreamPool;
  readonly seed: RouteDigest;
  /** Of its address, as requests name it. */
  readonly authority: string;
  inFlight = 0;
  requests = 0;
  failures = 0;
  /** Why the last request failed; null: it did not. */
  lastFault: string | null = null;
  #failuresInRow = 0;
  #pausedUntilNs = Number.NEGATIVE_INFINITY;

  constructor(route: RouteReplica, connections: UpstreamPool) {
    this.route = route;
    this.connections = connections;
    // No secret: the digests that it meets are keyed.
    this.seed = routeDigest('', '', route.replica);
    this.authority = new URL(route.address).host;
  }

  get weight(): number {
    return this.route.weight;
  }

  get inFlightMax(): number {
    return this.route.inFlightMax;
  }

  isPaused(nowNs: number): boolean {
    return nowNs < this.#pausedUntilNs;
  }

  succeeded(): void {
    this.#failuresInRow = 0;
    this.#pausedUntilNs = Number.NEGATIVE_INFINITY;
    this.lastFault = null;
  }

  failed(fault: string, nowNs: number): void {
    this.failures += 1;
    this.lastFault = fault;
    const pauseNs = Math.min(LONGEST_PAUSE_NS, FIRST_PAUSE_NS * 2 ** this.#failuresInRow);
    this.#failuresInRow += 1;
    this.#pausedUntilNs = nowNs + pauseNs;
  }
}

/** A request that is to be given to a replica of a pool. */
export interface Placement extends Waiting {
  readonly digest: RouteDigest | null;
  /** Was tried, and is not tried again. */
  readonly tried: ReadonlySet<Replica>;
  /** Only this one will do: it has what the request needs. */
  readonly only: Replica | null;
  /** Called once it has a place; the request counts as in flight there. */
  place(replica: Replica): void;
  /** None may take it any more. */
  refuse(error: ApiError): void;
}

/** A pool of the table, and what waits for its replicas. */
export class Pool {
  route: RoutePool;
  readonly replicas = new Set<Replica>();
  readonly waiting = new WaitQueue<Placement>();
  requests = 0;
  tokens = 0;
  lastRequestMs: number | null = null;

  constructor(route: RoutePool) {
    this.route = route;
  }
}

/** What a tenant has had of all replicas. */
export interface Usage {
  requests: number;
  /** About: four bytes of a body are one. */
  promptTokens: number;
  /** About: one for each event of a stream. */
  completionTokens: number;
}

interface FleetParts {
  readonly clock: Pick<Clock, 'nowNs'>;
  readonly unixMs: () => number;
  /** A request came for a pool without replicas. */
  readonly wake: (pool: RoutePool) => void;
}

/** The tenant of everybody where no key is needed. */
const EVERYBODY = 'default';

const OPEN_TENANT: RouteTenant = {
  tenant: EVERYBODY,
  quota: {
    requestsPerMinute: null,
    tokensPerMinute: null,
    inFlightMax: null,
    gpusMax: null,
    weight: 1,
  },
  pools: null,
  salt: '',
};

/** The replicas that this gateway knows, and who is given which. */
export class Fleet {
  readonly table: LiveTable;
  readonly #options: FleetOptions;
  readonly #parts: FleetParts;
  readonly #replicas = new Map<string, Replica>();
  /** Gone from the table, with streams that are not done. */
  readonly #leaving = new Set<Replica>();
  readonly #pools = new Map<string, Pool>();
  readonly #poolOfModel = new Map<string, Pool>();
  /** Requests in flight by digest. */
  readonly #hot = new Map<string, number>();
  /** No key is needed. */
  isOpen = false;
  /** Of the tenants' quotas. */
  share: QuotaShare = { index: 0, of: 1 };
  /** Since the start, by tenant. */
  readonly usage = new Map<string, Usage>();
  shadowHits = 0;
  shadowMisses = 0;

  constructor(table: LiveTable, options: FleetOptions, parts: FleetParts) {
    this.table = table;
    this.#options = options;
    this.#parts = parts;
  }

  get pools(): Iterable<Pool> {
    return this.#pools.values();
  }

  /** Those of the table, and those that are gone from it and have streams. */
  get replicas(): Iterable<Replica> {
    return [...this.#replicas.values(), ...this.#leaving];
  }

  /** Takes over what the table says now. Open streams go on, whatever it says of their replicas. */
  refresh(): void {
    const { pools, replicas } = this.table;
    for (const route of pools.values()) {
      const known = this.#pools.get(route.pool);
      if (known === undefined) this.#pools.set(route.pool, new Pool(route));
      else known.route = route;
    }
    for (const pool of this.#pools.values()) pool.replicas.clear();
    for (const replica of this.#replicas.values()) {
      const route = replicas.get(replica.route.replica);
      if (route === undefined || !isSame(route, replica.route)) this.#leave(replica);
      else replica.route = route;
    }
    for (const route of replicas.values()) {
      const replica = this.#replicas.get(route.replica) ?? this.#join(route);
      this.#pools.get(route.pool)?.replicas.add(replica);
    }
    this.#poolOfModel.clear();
    for (const [name, pool] of this.#pools) {
      if (!pools.has(name)) this.#drop(name, pool);
      else for (const model of pool.route.models) this.#poolOfModel.set(model, pool);
    }
    for (const pool of this.#pools.values()) this.#pump(pool);
  }

  /** What the tenants may take here, by name: this gateway's part of what they may take of all. */
  limits(): Map<string, KeyLimits> {
    const { index, of } = this.share;
    const rate = (limit: number | null) => (limit === null ? undefined : limit / of);
    const entries = [...this.table.tenants.values()].map(
      ({ tenant, quota }): [string, KeyLimits] => {
        const { inFlightMax } = quota;
        return [
          tenant,
          {
            weight: quota.weight,
            maxRunning: inFlightMax === null ? undefined : wholePart(inFlightMax, index, of),
            // Its bound is of all that it has open.
            maxWaiting: inFlightMax === null ? undefined : 0,
            tokensPerMinute: rate(quota.tokensPerMinute),
            requestsPerMinute: rate(quota.requestsPerMinute),
          },
        ];
      },
    );
    return new Map(entries);
  }

  /** Throws ApiError `invalid_api_key`. The digest of a key is looked up: timing tells of that. */
  tenantOf(authorization: string | undefined): RouteTenant {
    if (this.isOpen) return OPEN_TENANT;
    const token = /^Bearer ([\x21-\x7e]+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined) {
      const message = 'This gateway needs an API key: send "Authorization: Bearer <key>".';
      throw new ApiError('invalid_api_key', message);
    }
    const key = this.table.keys.get(createHash('sha256').update(token).digest('hex'));
    const tenant = key && this.table.tenants.get(key.tenant);
    const isOver = key?.notAfterMs != null && key.notAfterMs < this.#parts.unixMs();
    if (tenant === undefined || isOver) {
      throw new ApiError('invalid_api_key', 'The API key is not known here.');
    }
    return tenant;
  }

  /**
   * The tenant of a client that proves its key for this nonce without showing it, as the server
   * has it: HMAC-SHA-256 under the key's digest. Throws ApiError `invalid_api_key`.
   */
  tenantByProof(authorization: string, nonceHex: string | null): RouteTenant {
    if (this.isOpen) return OPEN_TENANT;
    const given = /^Bridgekeeper-Proof ([0-9a-f]{64})$/.exec(authorization)?.[1];
    const proof = Buffer.from(given ?? '', 'hex');
    let name: string | undefined;
    for (const { digest, tenant, notAfterMs } of this.table.keys.values()) {
      if (given === undefined || nonceHex === null) break;
      const hmac = createHmac('sha256', Buffer.from(digest, 'hex'));
      const expected = hmac.update(`bridgekeeper.report.v1 ${nonceHex}`).digest();
      const isOver = notAfterMs !== null && notAfterMs < this.#parts.unixMs();
      if (timingSafeEqual(expected, proof) && !isOver) name = tenant;
    }
    const tenant = name === undefined ? undefined : this.table.tenants.get(name);
    if (tenant !== undefined) return tenant;
    throw new ApiError('invalid_api_key', 'The proof is of no key that is known here.');
  }

  /** Pools that a tenant may use. */
  poolsOf(tenant: RouteTenant): Pool[] {
    return [...this.#pools.values()].filter(({ route }) => mayUse(tenant, route));
  }

  /**
   * The pool that serves a model to a tenant; without a model, the only one it may use. Throws
   * ApiError `model_not_found`, also for models of others.
   */
  poolFor(tenant: RouteTenant, model: string | null): Pool {
    if (model === null) {
      const [only, ...others] = this.poolsOf(tenant);
      if (only !== undefined && others.length === 0) return only;
      throw new ApiError('invalid_value', 'Name a model: there is more than one.', 'model');
    }
    const pool = this.#poolOfModel.get(model);
    if (pool !== undefined && mayUse(tenant, pool.route)) return pool;
    const message = 'There is no such model here: GET /v1/models lists them.';
    throw new ApiError('model_not_found', message, 'model');
  }

  /** Replicas that have what was kept for a tenant: those that drain, too. */
  keepersFor(tenant: RouteTenant): Replica[] {
    return this.poolsOf(tenant).flatMap(({ replicas }) => [...replicas]);
  }

  /** The digest of what a request has in common with others of its tenant. */
  digestOf(tenant: RouteTenant, ...parts: readonly string[]): RouteDigest {
    return routeDigest(this.table.prefixKey, tenant.salt, ...parts);
  }

  /** The first replica of a digest's own order, however busy it is; null: none takes requests. */
  first(pool: Pool, digest: RouteDigest): Replica | null {
    return rank(this.candidates(pool), digest)[0] ?? null;
  }

  /** Gives the request to a replica, now or when there is a place. */
  submit(pool: Pool, placement: Placement): void {
    pool.requests += 1;
    pool.lastRequestMs = this.#parts.unixMs();
    const refusal = this.#refusalOf(pool, placement);
    // Who comes later does not pass those that wait.
    if (refusal !== null) placement.refuse(refusal);
    else if (pool.waiting.length > 0 || !this.#place(pool, placement)) pool.waiting.add(placement);
  }

  withdraw(pool: Pool, placement: Placement): void {
    pool.waiting.remove(placement);
  }

  /** Why a request that has waited for as long as it may is refused. */
  lateRefusal(pool: Pool, { only, tried }: Placement): ApiError {
    if (only !== null || this.candidates(pool, tried).length > 0) {
      return new ApiError('queue_full', 'No replica had room for this request in time.');
    }
    const message = 'No replica of this model came up in time.';
    return new ApiError('no_replica', message, undefined, { retryAfterSeconds: 5 });
  }

  /** A request is in flight at a replica no more. */
  release(pool: Pool, replica: Replica, digest: RouteDigest | null): void {
    replica.inFlight -= 1;
    if (digest !== null) this.#cool(digest);
    if (replica.inFlight === 0 && this.#leaving.delete(replica)) replica.connections.close();
    this.#pump(pool);
  }

  /** Counts what a request has taken. */
  charge(pool: Pool, tenant: string, promptTokens: number, completionTokens: number): void {
    pool.tokens += completionTokens;
    const used = this.usage.get(tenant) ?? { requests: 0, promptTokens: 0, completionTokens: 0 };
    used.requests += 1;
    used.promptTokens += promptTokens;
    used.completionTokens += completionTokens;
    this.usage.set(tenant, used);
  }

  /** To be called now and then: ends idle connections, and looks whether those that wait may go. */
  tick(): void {
    for (const replica of this.#replicas.values()) replica.connections.expire(IDLE_NS);
    for (const pool of this.#pools.values()) this.#pump(pool);
  }

  close(): void {
    for (const replica of this.replicas) replica.connections.close();
  }

  /** Replicas that may be given new requests; those that failed just now only if no other is. */
  candidates(pool: Pool, tried: ReadonlySet<Replica> = new Set()): Replica[] {
    const nowMs = this.#parts.unixMs();
    const nowNs = this.#parts.clock.nowNs();
    const serving = [...pool.replicas].filter(
      (each) =>
        each.route.state === 'serving' &&
        each.weight > 0 &&
        each.route.evidenceNotAfterMs > nowMs &&
        !tried.has(each),
    );
    const sound = serving.filter((each) => !each.isPaused(nowNs));
    return sound.length > 0 ? sound : serving;
  }

  #refusalOf(pool: Pool, placement: Placement): ApiError | null {
    if (placement.only !== null || this.candidates(pool, placement.tried).length > 0) return null;
    const { state, coldStartSeconds } = pool.route;
    if (state === 'asleep' || state === 'waking') {
      this.#parts.wake(pool.route);
      // It is worth waiting for.
      if (coldStartSeconds <= this.#options.holdSeconds) return null;
      const retryAfterSeconds = Math.max(1, coldStartSeconds);
      const message = 'The model is being started: try again later.';
      return new ApiError('no_replica', message, undefined, { retryAfterSeconds });
    }
    const message = 'No replica of this model takes requests now.';
    return new ApiError('no_replica', message, undefined, { retryAfterSeconds: 5 });
  }

  #place(pool: Pool, placement: Placement): boolean {
    const replica = placement.only ?? this.#choose(pool, placement);
    if (replica === null || replica.inFlight >= replica.inFlightMax) return false;
    replica.inFlight += 1;
    replica.requests += 1;
    if (placement.digest !== null) this.#heat(placement.digest);
    placement.place(replica);
    return true;
  }

  #choose(pool: Pool, { digest, tried }: Placement): Replica | null {
    const { affinity, loadFactor, splitAt } = this.#options;
    const candidates = this.candidates(pool, tried);
    const inFlight = digest === null ? 0 : (this.#hot.get(digest.name) ?? 0);
    const near = choose(candidates, digest, { inFlight, loadFactor, splitAt });
    if (affinity === 'on' || digest === null) return near;
    const free = choose(candidates, null, { inFlight, loadFactor, splitAt });
    if (affinity === 'off') return free;
    if (near === free) this.shadowHits += 1;
    else this.shadowMisses += 1;
    return free;
  }

  #pump(pool: Pool): void {
    if (pool.waiting.length === 0) return;
    for (;;) {
      const hasRoom = this.candidates(pool).some((each) => each.inFlight < each.inFlightMax);
      const next = pool.waiting.take(
        (each) =>
          (each.only === null ? hasRoom : each.only.inFlight < each.only.inFlightMax) ||
          this.#refusalOf(pool, each) !== null,
      );
      if (next === undefined) return;
      const refusal = this.#refusalOf(pool, next);
      if (refusal !== null) next.refuse(refusal);
      else if (!this.#place(pool, next)) {
        // The only ones with room were tried.
        next.refuse(new ApiError('no_replica', 'No other replica takes this request.'));
      }
    }
  }

  #join(route: RouteReplica): Replica {
    const connections = new UpstreamPool(addressOf(route), IDLE_MAX, () =>
      this.#parts.clock.nowNs(),
    );
    const replica = new Replica(route, connections);
    this.#replicas.set(route.replica, replica);
    return replica;
  }

  #leave(replica: Replica): void {
    this.#replicas.delete(replica.route.replica);
    if (replica.inFlight > 0) this.#leaving.add(replica);
    else replica.connections.close();
  }

  #drop(name: string, pool: Pool): void {
    this.#pools.delete(name);
    const error = new ApiError('model_not_found', 'This model is not served any more.');
    const every = () => true;
    for (let next = pool.waiting.take(every); next !== undefined; next = pool.waiting.take(every)) {
      next.refuse(error);
    }
  }

  #heat({ name }: RouteDigest): void {
    this.#hot.set(name, (this.#hot.get(name) ?? 0) + 1);
  }

  #cool({ name }: RouteDigest): void {
    const count = (this.#hot.get(name) ?? 1) - 1;
    if (count === 0) this.#hot.delete(name);
    else this.#hot.set(name, count);
  }
}

/** The `index`th of `of` parts of a whole, as equal as whole numbers can be. */
function wholePart(whole: number, index: number, of: number): number {
  return Math.floor(whole / of) + (index < whole % of ? 1 : 0);
}

function mayUse({ tenant, pools }: RouteTenant, pool: RoutePool): boolean {
  if (pool.tenant !== null) return pool.tenant === tenant;
  return pools === null || pools.includes(pool.pool);
}

/** Whether connections to one are connections to the other. */
function isSame(a: RouteReplica, b: RouteReplica): boolean {
  return (
    a.pool === b.pool &&
    a.address === b.address &&
    a.tlsSpkiSha256 === b.tlsSpkiSha256 &&
    a.tenancyEpoch === b.tenancyEpoch
  );
}

function addressOf({ address, tlsSpkiSha256 }: RouteReplica): UpstreamAddress {
  const { hostname, port, protocol } = new URL(address);
  const host = hostname.replace(/^\[|\]$/g, '');
  if (protocol === 'http:') return { host, port: Number(port || 80) };
  return { host, port: Number(port || 443), tls: { keySha256: tlsSpkiSha256 } };
}
