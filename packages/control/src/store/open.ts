import { join } from 'node:path';
import { openPostgres } from './postgres.ts';
import { SqlStore } from './sql-store.ts';
import { openSqlite } from './sqlite.ts';
import type { Store } from './store.ts';

/** PostgreSQL at `database`, or SQLite in the folder. Throws ControlError. */
export async function openStore(folder: string, database: string | null): Promise<Store> {
  const sql = database === null ? openSqlite(join(folder, 'control.db')) : openPostgres(database);
  return SqlStore.open(sql);
}
