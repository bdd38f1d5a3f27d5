import type { Sql, SqlQuery } from '../store/sql.ts';
import { SqlStore } from '../store/sql-store.ts';
import { openSqlite } from '../store/sqlite.ts';

// Writes one batch into the database at argv[2], and is killed before statement argv[3] of it.

const [, , path, statement] = process.argv;
let left = Number.POSITIVE_INFINITY;

function count(): void {
  left -= 1;
  if (left < 0) process.kill(process.pid, 'SIGKILL');
}

function counted(sql: SqlQuery): SqlQuery {
  return {
    query: (text, values) => {
      count();
      return sql.query(text, values);
    },
  };
}

const real = openSqlite(path!);
const sql: Sql = {
  query: (text, values) => real.query(text, values),
  transaction: async (work) => {
    count();
    const result = await real.transaction(async (tx) => {
      const done = await work(counted(tx));
      // COMMIT comes next.
      count();
      return done;
    });
    count();
    return result;
  },
  close: () => real.close(),
};
const store = await SqlStore.open(sql);
const lease = (await store.acquire('killed', 0, 1000))!;
left = Number(statement);
await store.commit(lease, {
  atMs: 1,
  sequence: 0,
  changes: [{ kind: 'pool', id: 'p', from: 0, body: '{}' }],
  claims: [{ host: 'a', module: 1, replica: 'r' }],
  releases: [],
  audit: [{ sequence: 1, atMs: 1, actor: 'a', action: 'b', subject: 'c', detail: '' }],
  operations: [],
  blobs: [],
});
count();
