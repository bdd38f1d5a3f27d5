import pg from 'pg';
import { ControlError } from '../errors.ts';
import { type Sql, type SqlQuery, SqlRefusal, type SqlResult } from './sql.ts';

const CONNECTIONS_MAX = 4;
const ANSWER_MS = 10_000;
const CONNECT_MS = 5000;
/**
 * A transaction holds the lease's row. Of a machine that is gone or paused in the midst of one
 * PostgreSQL hears nothing for hours: it ends that transaction before the lease is over, so that
 * another can take it.
 */
export const IDLE_MS = 2000;

/** PostgreSQL at `url`. What cannot be reached or ends in between is 'store-unavailable'. */
export function openPostgres(url: string, idleMs = IDLE_MS): Sql {
  const pool = new pg.Pool({
    connectionString: url,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: ANSWER_MS,
    statement_timeout: ANSWER_MS,
    idle_in_transaction_session_timeout: idleMs,
    keepAlive: true,
  });
  // Idle connections that end say so here; without a listener that ends the process.
  pool.on('error', () => undefined);
  return {
    query: (text, values) => translated(() => askFor(pool, text, values)),
    transaction: (work) => translated(() => transaction(pool, work)),
    close: () => translated(() => pool.end()),
  };
}

async function transaction<T>(pool: pg.Pool, work: (sql: SqlQuery) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  // A connection in use that ends says so twice: by its query, and here.
  const listener = (error: Error) => {
    broken = error;
  };
  client.on('error', listener);
  try {
    await client.query('BEGIN');
    const result = await work({
      query: (text, values) => translated(() => askFor(client, text, values)),
    });
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((failure: Error) => {
      broken = failure;
    });
    throw error;
  } finally {
    client.off('error', listener);
    client.release(broken);
  }
}

async function askFor(
  to: pg.Pool | pg.PoolClient,
  text: string,
  values: readonly unknown[],
): Promise<SqlResult> {
  const { rows, rowCount } = await to.query(text, [...values]);
  return { rows, changes: rowCount ?? 0 };
}

/** Class 23: a constraint does not hold. 40: two transactions met, nothing was written. */
const REFUSALS = /^(23|40)/;

async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof ControlError || cause instanceof SqlRefusal) throw cause;
    const { message, code } = cause as Error & { code?: string };
    if (REFUSALS.test(code ?? '')) throw new SqlRefusal(message, { cause });
    throw new ControlError('store-unavailable', `PostgreSQL: ${message}`, { cause });
  }
}
