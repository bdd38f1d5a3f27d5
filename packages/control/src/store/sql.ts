/** A database as both stores use it. Parameters are `$1`, `$2`, ... */
export interface Sql {
  /** Throws ControlError 'store-unavailable', or what the database refused as SqlRefusal. */
  query(text: string, values: readonly SqlValue[]): Promise<SqlResult>;
  /** All of it or nothing. The same connection throughout. */
  transaction<T>(work: (sql: SqlQuery) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export type SqlQuery = Pick<Sql, 'query'>;
export type SqlValue = string | number | null;

export interface SqlResult {
  readonly rows: readonly Readonly<Record<string, string | number | null>>[];
  /** Rows that a statement changed. */
  readonly changes: number;
}

/** A constraint does not hold: nothing was written. */
export class SqlRefusal extends Error {
  override readonly name = 'SqlRefusal';
}
