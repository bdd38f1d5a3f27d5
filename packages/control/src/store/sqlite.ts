import { DatabaseSync, type StatementSyncInstance } from '@photostructure/sqlite';
import { ControlError } from '../errors.ts';
import { type Sql, SqlRefusal, type SqlResult, type SqlValue } from './sql.ts';

const STATEMENTS_KEPT = 64;
/** How long a writer waits for another process. */
const BUSY_MS = 2000;

/**
 * One file, write-ahead log, synced with each commit. Throws ControlError 'store-broken': it is no
 * database; 'store-unavailable': it cannot be opened or written.
 */
export function openSqlite(path: string): Sql {
  const database = translated(() => {
    const opened = new DatabaseSync(path, { timeout: BUSY_MS });
    opened.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    return opened;
  });
  const statements = new Map<string, StatementSyncInstance>();
  const prepared = (text: string): StatementSyncInstance => {
    const kept = statements.get(text);
    if (kept !== undefined) return kept;
    const statement = database.prepare(text.replaceAll(/\$(\d+)/g, '?$1'));
    if (statements.size >= STATEMENTS_KEPT) statements.clear();
    statements.set(text, statement);
    return statement;
  };
  const run = (text: string, values: readonly SqlValue[]): SqlResult =>
    translated(() => {
      const statement = prepared(text);
      if (/^\s*SELECT|\bRETURNING\b/i.test(text)) {
        const rows = statement.all(...values) as SqlResult['rows'];
        return { rows, changes: rows.length };
      }
      const { changes } = statement.run(...values);
      return { rows: [], changes: Number(changes) };
    });
  // One connection: what is within a transaction and what is not must not mix.
  let queue: Promise<unknown> = Promise.resolve();
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const result = queue.then(work);
    queue = result.catch(() => undefined);
    return result;
  };
  return {
    query: (text, values) => alone(async () => run(text, values)),
    transaction: (work) =>
      alone(async () => {
        translated(() => database.exec('BEGIN IMMEDIATE'));
        try {
          const result = await work({ query: async (text, values) => run(text, values) });
          translated(() => database.exec('COMMIT'));
          return result;
        } catch (error) {
          // A COMMIT that failed for a full disk leaves the transaction open.
          if (database.isTransaction) database.exec('ROLLBACK');
          throw error;
        }
      }),
    close: () =>
      alone(async () => {
        statements.clear();
        if (database.isOpen) database.close();
      }),
  };
}

const SQLITE_CONSTRAINT = 19;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

function translated<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const { message, errcode } = cause as Error & { errcode?: number };
    const code = (errcode ?? 0) & 0xff;
    if (code === SQLITE_CONSTRAINT) throw new SqlRefusal(message, { cause });
    const isBroken = code === SQLITE_CORRUPT || code === SQLITE_NOTADB;
    throw new ControlError(isBroken ? 'store-broken' : 'store-unavailable', `SQLite: ${message}`, {
      cause,
    });
  }
}
