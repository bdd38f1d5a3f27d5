import { ControlError } from '../errors.ts';
import { MIGRATIONS } from './schema.ts';
import { type Sql, type SqlQuery, SqlRefusal, type SqlResult, type SqlValue } from './sql.ts';
import type {
  AuditEntry,
  Batch,
  Lease,
  Operation,
  RowChange,
  Store,
  StoreContents,
  StoredEvent,
} from './store.ts';

/** Rows of one INSERT: PostgreSQL takes 65,535 parameters, SQLite 32,766. */
const ROWS_PER_STATEMENT = 400;
/** How many events are kept for those who come back; who was away longer reads everything. */
const EVENTS_KEPT = 100_000;

/** A store in SQL, the same on SQLite and PostgreSQL. */
export class SqlStore implements Store {
  readonly #sql: Sql;

  private constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Makes the tables that are missing. Throws ControlError 'store-broken': a newer version's. */
  static async open(sql: Sql): Promise<SqlStore> {
    await sql.query('CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)', []);
    await sql.transaction(async (tx) => {
      const { rows } = await tx.query('SELECT MAX(version) AS version FROM schema_version', []);
      const version = Number(rows[0]?.version ?? 0);
      if (version > MIGRATIONS.length) {
        const known = MIGRATIONS.length;
        const message = `the store is of version ${version}, this program knows ${known}`;
        throw new ControlError('store-broken', `${message}: run the newer program`);
      }
      for (const [index, statements] of MIGRATIONS.entries()) {
        if (index < version) continue;
        for (const statement of statements) await tx.query(statement, []);
        await tx.query('INSERT INTO schema_version (version) VALUES ($1)', [index + 1]);
      }
    });
    return new SqlStore(sql);
  }

  /**
   * One statement decides: whoever's lease is over, or is this holder's, is replaced. The epoch
   * stays while a holder renews in time, so that what it is writing is not fenced by itself.
   */
  async acquire(
    holder: string,
    nowMs: number,
    leaseMs: number,
    still: Lease | null = null,
  ): Promise<Lease | null> {
    const { rows } = await this.#sql.query(
      `INSERT INTO lease (name, holder, epoch, expires_ms) VALUES ('leader', $1, 1, $2)
       ON CONFLICT (name) DO UPDATE SET
         epoch = CASE WHEN lease.holder = excluded.holder AND lease.expires_ms > $3
           THEN lease.epoch ELSE lease.epoch + 1 END,
         holder = excluded.holder, expires_ms = excluded.expires_ms
       WHERE lease.holder = excluded.holder OR lease.expires_ms <= $3
         OR (lease.epoch = $4 AND lease.expires_ms = $5)
       RETURNING holder, epoch, expires_ms`,
      [holder, nowMs + leaseMs, nowMs, still?.epoch ?? null, still?.expiresMs ?? null],
    );
    return leaseOf(rows[0]);
  }

  async lease(): Promise<Lease | null> {
    const text = 'SELECT holder, epoch, expires_ms FROM lease WHERE name = $1';
    const { rows } = await this.#sql.query(text, ['leader']);
    return leaseOf(rows[0]);
  }

  async release({ holder, epoch }: Lease): Promise<void> {
    await this.#sql.query(
      'UPDATE lease SET expires_ms = 0 WHERE name = $1 AND holder = $2 AND epoch = $3',
      ['leader', holder, epoch],
    );
  }

  async load(): Promise<StoreContents> {
    return this.#sql.transaction(async (tx) => {
      const events = await tx.query('SELECT MAX(sequence) AS last FROM events', []);
      const audit = await tx.query('SELECT MAX(sequence) AS last FROM audit', []);
      const objects = await tx.query('SELECT kind, id, version, body FROM objects', []);
      const claims = await tx.query('SELECT host, module, replica FROM claims', []);
      return {
        sequence: Number(events.rows[0]?.last ?? 0),
        auditSequence: Number(audit.rows[0]?.last ?? 0),
        rows: objects.rows.map(({ kind, id, version, body }) => ({
          kind: String(kind),
          id: String(id),
          version: Number(version),
          body: String(body),
        })),
        claims: claims.rows.map(({ host, module, replica }) => ({
          host: String(host),
          module: Number(module),
          replica: String(replica),
        })),
      };
    });
  }

  async commit(lease: Lease, batch: Batch): Promise<void> {
    try {
      await this.#sql.transaction(async (tx) => {
        await checkFence(tx, lease);
        await writeRows(tx, batch.changes);
        // What is released in a batch may be claimed in it.
        for (const { host, module, replica } of batch.releases) {
          await expectOne(
            tx.query('DELETE FROM claims WHERE host = $1 AND module = $2 AND replica = $3', [
              ...[host, module, replica],
            ]),
            () => `module ${module} of ${host} is not claimed by ${replica}`,
          );
        }
        await insert(
          tx,
          'claims (host, module, replica)',
          batch.claims.map(({ host, module, replica }) => [host, module, replica]),
        );
        await insert(
          tx,
          'events (sequence, at_ms, kind, id, version, body)',
          batch.changes.map(({ kind, id, from, body }, index) => [
            ...[batch.sequence + index + 1, batch.atMs, kind, id, from + 1, body],
          ]),
        );
        await insert(
          tx,
          'audit (sequence, at_ms, actor, action, subject, detail)',
          batch.audit.map(({ sequence, atMs, actor, action, subject, detail }) => [
            ...[sequence, atMs, actor, action, subject, detail],
          ]),
        );
        await insert(
          tx,
          'operations (key, digest, result, at_ms)',
          batch.operations.map(({ key, digest, result, atMs }) => [key, digest, result, atMs]),
        );
        await insert(
          tx,
          'blobs (id, body)',
          batch.blobs.map(({ id, body }) => [id, body]),
        );
        await trim(tx, batch);
      });
    } catch (error) {
      if (!(error instanceof SqlRefusal)) throw error;
      throw new ControlError('conflict', `nothing was written: ${error.message}`, { cause: error });
    }
  }

  async events(after: number, limit: number): Promise<readonly StoredEvent[]> {
    const { rows } = await this.#sql.query(
      `SELECT sequence, at_ms, kind, id, version, body FROM events
       WHERE sequence > $1 ORDER BY sequence LIMIT $2`,
      [after, limit],
    );
    return rows.map((row) => ({
      sequence: Number(row.sequence),
      atMs: Number(row.at_ms),
      kind: String(row.kind),
      id: String(row.id),
      version: Number(row.version),
      body: row.body === null ? null : String(row.body),
    }));
  }

  async audit(after: number, limit: number): Promise<readonly AuditEntry[]> {
    const { rows } = await this.#sql.query(
      `SELECT sequence, at_ms, actor, action, subject, detail FROM audit
       WHERE sequence > $1 ORDER BY sequence LIMIT $2`,
      [after, limit],
    );
    return rows.map((row) => ({
      sequence: Number(row.sequence),
      atMs: Number(row.at_ms),
      actor: String(row.actor),
      action: String(row.action),
      subject: String(row.subject),
      detail: String(row.detail),
    }));
  }

  async operation(key: string): Promise<Operation | null> {
    const { rows } = await this.#sql.query(
      'SELECT digest, result, at_ms FROM operations WHERE key = $1',
      [key],
    );
    const row = rows[0];
    if (row === undefined) return null;
    const { digest, result, at_ms } = row;
    return { key, digest: String(digest), result: String(result), atMs: Number(at_ms) };
  }

  async blob(id: string): Promise<string | null> {
    const { rows } = await this.#sql.query('SELECT body FROM blobs WHERE id = $1', [id]);
    return rows[0] === undefined ? null : String(rows[0].body);
  }

  async close(): Promise<void> {
    await this.#sql.close();
  }
}

function leaseOf(row: SqlResult['rows'][number] | undefined): Lease | null {
  if (row === undefined) return null;
  const { holder, epoch, expires_ms: expiresMs } = row;
  return { holder: String(holder), epoch: Number(epoch), expiresMs: Number(expiresMs) };
}

/** Holds the lease's row until the end of the transaction: no other can begin to lead within it. */
async function checkFence(tx: SqlQuery, { holder, epoch }: Lease): Promise<void> {
  const { changes } = await tx.query(
    'UPDATE lease SET epoch = epoch WHERE name = $1 AND holder = $2 AND epoch = $3',
    ['leader', holder, epoch],
  );
  if (changes === 1) return;
  throw new ControlError('fenced', 'another control has led since: this one begins anew');
}

async function writeRows(tx: SqlQuery, changes: readonly RowChange[]): Promise<void> {
  await insert(
    tx,
    'objects (kind, id, version, body)',
    changes.flatMap(({ kind, id, from, body }) =>
      from === 0 && body !== null ? [[kind, id, 1, body]] : [],
    ),
  );
  const updates = changes.flatMap(({ kind, id, from, body }) =>
    from > 0 && body !== null ? [[kind, id, from + 1, body]] : [],
  );
  for (let start = 0; start < updates.length; start += ROWS_PER_STATEMENT) {
    const some = updates.slice(start, start + ROWS_PER_STATEMENT);
    const result = await tx.query(
      `UPDATE objects SET version = v.column3, body = v.column4
       FROM (VALUES ${places(some, ['TEXT', 'TEXT', 'BIGINT', 'TEXT'])}) AS v
       WHERE objects.kind = v.column1 AND objects.id = v.column2
         AND objects.version = v.column3 - 1`,
      some.flat(),
    );
    if (result.changes !== some.length) throw new SqlRefusal('a row has another version');
  }
  for (const { kind, id, from, body } of changes) {
    if (body !== null) continue;
    await expectOne(
      tx.query('DELETE FROM objects WHERE kind = $1 AND id = $2 AND version = $3', [
        ...[kind, id, from],
      ]),
      () => `${kind} ${id} has another version`,
    );
  }
}

async function expectOne(result: Promise<SqlResult>, message: () => string): Promise<void> {
  if ((await result).changes !== 1) throw new SqlRefusal(message());
}

async function insert(tx: SqlQuery, into: string, values: readonly SqlValue[][]): Promise<void> {
  for (let start = 0; start < values.length; start += ROWS_PER_STATEMENT) {
    const some = values.slice(start, start + ROWS_PER_STATEMENT);
    await tx.query(`INSERT INTO ${into} VALUES ${places(some)}`, some.flat());
  }
}

/** `($1, $2), ($3, $4)` for two rows of two; as `types`, where nothing else says what they are. */
function places(values: readonly SqlValue[][], types?: readonly string[]): string {
  let next = 0;
  return values
    .map((row) => {
      const names = row.map((_, column) => {
        next += 1;
        return types === undefined ? `$${next}` : `CAST($${next} AS ${types[column]})`;
      });
      return `(${names.join(', ')})`;
    })
    .join(', ');
}

/** Now and then, so that events do not grow without end. */
async function trim(tx: SqlQuery, { sequence, changes }: Batch): Promise<void> {
  const last = sequence + changes.length;
  const isDue = Math.floor(last / 1000) > Math.floor(sequence / 1000);
  if (!isDue) return;
  await tx.query('DELETE FROM events WHERE sequence <= $1', [last - EVENTS_KEPT]);
}
