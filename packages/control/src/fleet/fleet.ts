import type { ApiKey, Evidence, Host, Policy, Pool, Replica, Tenant } from '../api/fleet.ts';
import type { Claim, RowChange, StoreContents } from '../store/store.ts';
import { type Row, Rows } from './rows.ts';

/** What every fleet has one of: `prefix`, `join`, `authority`. */
export interface SecretRow extends Row {
  readonly value: string;
  readonly madeMs: number;
}

/** The kinds of rows, and by what each is found besides its id. */
const GROUPS = {
  host: (_: Host) => [],
  pool: (_: Pool) => [],
  replica: ({ host, pool }: Replica) => [`host/${host}`, `pool/${pool}`],
  tenant: (_: Tenant) => [],
  key: (_: ApiKey) => [],
  policy: (_: Policy) => [],
  evidence: ({ replica }: Evidence) => [replica],
  secret: (_: SecretRow) => [],
} as const;

export type Kind = keyof typeof GROUPS;
type RowOf<K extends Kind> = Parameters<(typeof GROUPS)[K]>[0];

const KINDS = Object.keys(GROUPS) as readonly Kind[];

type Tables = { readonly [K in Kind]: Rows<RowOf<K>> };

/** Everything that a leader knows and has written, or a draft of what comes next. */
export class Fleet {
  readonly #tables: Tables;
  readonly #base: Fleet | null;
  /** By host and module, as `host/module`: the replica. */
  readonly #claims: Map<string, string | null>;
  readonly blobs: { readonly id: string; readonly body: string }[] = [];
  readonly audit: { actor: string; action: string; subject: string; detail: string }[] = [];

  private constructor(tables: Tables, base: Fleet | null) {
    this.#tables = tables;
    this.#base = base;
    this.#claims = new Map();
  }

  static of(contents: Pick<StoreContents, 'rows' | 'claims'>): Fleet {
    const tables = Object.fromEntries(
      KINDS.map((kind) => [
        kind,
        new Rows(GROUPS[kind] as unknown as (row: Row) => readonly string[]),
      ]),
    ) as unknown as Tables;
    const fleet = new Fleet(tables, null);
    for (const { kind, id, version, body } of contents.rows) {
      const table = tables[kind as Kind] as unknown as Rows<Row> | undefined;
      table?.put(id, { ...JSON.parse(body), version });
    }
    for (const { host, module, replica } of contents.claims) {
      fleet.#claims.set(`${host}/${module}`, replica);
    }
    return fleet;
  }

  draft(): Fleet {
    const tables = Object.fromEntries(
      KINDS.map((kind) => [kind, this.#tables[kind].draft()]),
    ) as unknown as Tables;
    return new Fleet(tables, this);
  }

  rows<K extends Kind>(kind: K): Rows<RowOf<K>> {
    return this.#tables[kind] as unknown as Rows<RowOf<K>>;
  }

  get<K extends Kind>(kind: K, id: string): RowOf<K> | undefined {
    return this.rows(kind).get(id);
  }

  /** Whose a GPU is. */
  claimOf(host: string, module: number): string | null {
    const own = this.#claims.get(`${host}/${module}`);
    if (own !== undefined || this.#base === null) return own ?? null;
    return this.#base.claimOf(host, module);
  }

  /** Writes a row as its next version, unless it would be as it is. */
  put<K extends Kind>(kind: K, id: string, row: Omit<RowOf<K>, 'version'>): void {
    const table = this.rows(kind);
    const before = table.get(id);
    const version = this.committedVersion(kind, id) + 1;
    const next = { ...row, version } as RowOf<K>;
    if (before !== undefined && isSame(before, next)) return;
    table.put(id, next);
  }

  remove(kind: Kind, id: string): void {
    this.rows(kind).remove(id);
  }

  /** Changes some of a row that is there, unless it is so already. */
  patch<K extends Kind>(kind: K, id: string, part: Partial<RowOf<K>>): RowOf<K> {
    const table = this.rows(kind);
    const before = table.get(id)!;
    const isSame = Object.entries(part).every(([name, value]) => {
      const own = before[name as keyof typeof before];
      return own === value || JSON.stringify(own) === JSON.stringify(value);
    });
    if (isSame) return before;
    const version = this.committedVersion(kind, id) + 1;
    const next = { ...before, ...part, version };
    table.put(id, next);
    return next;
  }

  claim({ host, module, replica }: Claim): void {
    this.#claims.set(`${host}/${module}`, replica);
  }

  unclaim({ host, module }: Omit<Claim, 'replica'>): void {
    if (this.#base === null) this.#claims.delete(`${host}/${module}`);
    else this.#claims.set(`${host}/${module}`, null);
  }

  /** Keeps what a draft changed, also in what is under it. */
  fold(): void {
    const base = this.#base!;
    for (const kind of KINDS) this.#tables[kind].fold();
    for (const [key, replica] of this.#claims) {
      if (replica === null && base.#base === null) base.#claims.delete(key);
      else base.#claims.set(key, replica);
    }
    base.audit.push(...this.audit);
    base.blobs.push(...this.blobs);
  }

  /** What a draft over the committed fleet changes, for the store. */
  changes(): { changes: RowChange[]; claims: Claim[]; releases: Claim[] } {
    const changes = KINDS.flatMap((kind) =>
      [...(this.#tables[kind] as unknown as Rows<Row>).changes()].flatMap(([id, row]) => {
        const from = this.committedVersion(kind, id);
        if (row === null && from === 0) return [];
        return [{ kind, id, from, body: row === null ? null : bodyOf(row) }];
      }),
    );
    const claims: Claim[] = [];
    const releases: Claim[] = [];
    for (const [key, replica] of this.#claims) {
      const [host, module] = key.split('/') as [string, string];
      const before = this.#base?.claimOf(host, Number(module)) ?? null;
      if (before === replica) continue;
      if (before !== null) releases.push({ host, module: Number(module), replica: before });
      if (replica !== null) claims.push({ host, module: Number(module), replica });
    }
    return { changes, claims, releases };
  }

  /** Of the row as the store has it; 0: it has none. */
  committedVersion(kind: Kind, id: string): number {
    if (this.#base !== null) return this.#base.committedVersion(kind, id);
    return (this.rows(kind).get(id) as Row | undefined)?.version ?? 0;
  }
}

/** The version is a column of its own. */
function bodyOf(row: Row): string {
  const { version: _, ...rest } = row;
  return JSON.stringify(rest);
}

function isSame(one: Row, other: Row): boolean {
  return bodyOf(one) === bodyOf(other);
}
