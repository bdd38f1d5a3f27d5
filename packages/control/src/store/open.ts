import { join } from 'node:path';
import { openPostgres } from './postgres.ts';
import type { Sql } from './sql.ts';
import { SqlStore } from './sql-store.ts';
import { openSqlite } from './sqlite.ts';
import type { Store } from './store.ts';

/** What a store is kept in: PostgreSQL at a URL, one that is open, or (null) SQLite in a folder. */
export type Database = string | Sql | null;

/** Throws ControlError. */
export async function openStore(folder: string, database: Database): Promise<Store> {
  return SqlStore.open(sqlOf(folder, database));
}

function sqlOf(folder: string, database: Database): Sql {
  if (database === null) return openSqlite(join(folder, 'control.db'));
  return typeof database === 'string' ? openPostgres(database) : database;
}
