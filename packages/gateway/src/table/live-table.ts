import type {
  RouteKey,
  RoutePool,
  RouteReplica,
  RouteTenant,
  RoutingChange,
  RoutingTable,
} from '@bridgekeeper/control/api';

/** What became of a table or a change that came. */
export type Applied =
  | 'applied'
  /** It is older than what is here: it came late. */
  | 'old'
  /** There is no table yet that it could change. */
  | 'early';

/**
 * The routing table as it is known here. Changes that were committed together have one sequence,
 * and each is of a whole row: the same once more changes nothing, and one of an earlier commit is
 * not taken.
 */
export class LiveTable {
  #sequence: number | null = null;
  #prefixKey = '';
  readonly #pools = new Map<string, RoutePool>();
  readonly #replicas = new Map<string, RouteReplica>();
  readonly #tenants = new Map<string, RouteTenant>();
  readonly #keys = new Map<string, RouteKey>();
  #secretMadeMs = 0;

  /** Null: there is none yet. */
  get sequence(): number | null {
    return this.#sequence;
  }

  get prefixKey(): string {
    return this.#prefixKey;
  }

  get pools(): ReadonlyMap<string, RoutePool> {
    return this.#pools;
  }

  get replicas(): ReadonlyMap<string, RouteReplica> {
    return this.#replicas;
  }

  get tenants(): ReadonlyMap<string, RouteTenant> {
    return this.#tenants;
  }

  /** By the digest of the key. */
  get keys(): ReadonlyMap<string, RouteKey> {
    return this.#keys;
  }

  /** A whole table. One that is older than what is here is not taken. */
  replace(table: RoutingTable): Applied {
    if (this.#sequence !== null && table.sequence < this.#sequence) return 'old';
    this.#sequence = table.sequence;
    this.#prefixKey = table.secret.prefixKey;
    this.#secretMadeMs = table.secret.madeMs;
    fill(this.#pools, table.pools, ({ pool }) => pool);
    fill(this.#replicas, table.replicas, ({ replica }) => replica);
    fill(this.#tenants, table.tenants, ({ tenant }) => tenant);
    fill(this.#keys, table.keys, ({ digest }) => digest);
    return 'applied';
  }

  change(change: RoutingChange): Applied {
    if (this.#sequence === null) return 'early';
    if (change.sequence < this.#sequence) return 'old';
    this.#sequence = change.sequence;
    switch (change.kind) {
      case 'pool':
        this.#pools.set(change.put.pool, change.put);
        break;
      case 'replica':
        this.#replicas.set(change.put.replica, change.put);
        break;
      case 'tenant':
        this.#tenants.set(change.put.tenant, change.put);
        break;
      case 'key':
        this.#keys.set(change.put.digest, change.put);
        break;
      case 'secret':
        this.#prefixKey = change.put.prefixKey;
        this.#secretMadeMs = change.put.madeMs;
        break;
      case 'gone':
        this.#mapOf(change.of).delete(change.name);
        break;
    }
    return 'applied';
  }

  /** Everything, to be kept. */
  snapshot(): RoutingTable {
    return {
      sequence: this.#sequence ?? 0,
      secret: { prefixKey: this.#prefixKey, madeMs: this.#secretMadeMs },
      pools: [...this.#pools.values()],
      replicas: [...this.#replicas.values()],
      tenants: [...this.#tenants.values()],
      keys: [...this.#keys.values()],
    };
  }

  #mapOf(of: 'pool' | 'replica' | 'tenant' | 'key'): Map<string, unknown> {
    return { pool: this.#pools, replica: this.#replicas, tenant: this.#tenants, key: this.#keys }[
      of
    ];
  }
}

function fill<T>(map: Map<string, T>, rows: readonly T[], nameOf: (row: T) => string): void {
  map.clear();
  for (const row of rows) map.set(nameOf(row), row);
}
