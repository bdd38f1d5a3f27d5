import { chmodSync, existsSync, rmSync } from 'node:fs';
import type { ChainHead, SealedReceipt, SignedReceipt } from '@bridgekeeper/attest';
import sqlite from 'node-sqlite3-wasm';
import { ReceiptsError } from './errors.ts';

/** Marks the file as ours, and the shape of its tables. */
const APPLICATION = 0x42_4b_52_31;
const SHAPE = 1;

const TABLES = `
  CREATE TABLE receipts (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    created INTEGER NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL
  );
  CREATE INDEX receipts_created ON receipts (created);
  CREATE TABLE chain (sequence INTEGER NOT NULL, hash TEXT);
  INSERT INTO chain VALUES (0, NULL);
  PRAGMA application_id = ${APPLICATION};
  PRAGMA user_version = ${SHAPE};
`;

/** A receipt on its way to the disk, with whose it is. */
export interface ReceiptRow {
  readonly sealed: SealedReceipt;
  readonly tenant: string;
}

/** What is kept. */
export interface Retention {
  readonly countMax: number;
  readonly secondsMax: number;
}

/** A piece of the chain. */
export interface StoredLinks {
  readonly previous: string | null;
  readonly first: number;
  readonly digests: string[];
}

/** Receipts in SQLite, in a file or in memory. Everything is synchronous: it has its own thread. */
export class ReceiptStore {
  readonly #database: InstanceType<typeof sqlite.Database>;

  /**
   * `path` null: in memory. What opens a file owns it (`own`). Throws ReceiptsError 'bad-file'.
   */
  constructor(path: string | null) {
    try {
      // SQLite locks by this folder. Its owner is the only one to lock, so one that is there is
      // left from a process that was killed.
      if (path !== null) rmSync(`${path}.lock`, { recursive: true, force: true });
      const isNew = path === null || !existsSync(path);
      this.#database = path === null ? new sqlite.Database() : new sqlite.Database(path);
      if (isNew) this.#database.exec(`BEGIN; ${TABLES} COMMIT;`);
      if (path !== null) chmodSync(path, 0o600);
      this.#check(path);
    } catch (cause) {
      if (cause instanceof ReceiptsError) throw cause;
      const { message } = cause as Error;
      throw new ReceiptsError('bad-file', `cannot open ${path}: ${message}`, { cause });
    }
  }

  #check(path: string | null): void {
    const pragma = (name: string) => Object.values(this.#database.get(`PRAGMA ${name}`) ?? {})[0];
    if (pragma('application_id') === APPLICATION && pragma('user_version') === SHAPE) return;
    this.#database.close();
    throw new ReceiptsError('bad-file', `${path} is no file of receipts of this version`);
  }

  /** Where the chain ends. */
  head(): ChainHead {
    const row = this.#database.get('SELECT sequence, hash FROM chain') as unknown as ChainHead;
    return { sequence: Number(row.sequence), hash: row.hash };
  }

  /** Writes all of them or, where it throws, none. */
  append(rows: readonly ReceiptRow[]): void {
    const last = rows.at(-1);
    if (last === undefined) return;
    this.#transaction(() => {
      for (const { sealed, tenant } of rows) {
        const { receipt } = sealed.signed;
        this.#database.run('INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?)', [
          ...[receipt.sequence, receipt.id, tenant, receipt.createdAt],
          ...[sealed.digest, JSON.stringify(sealed.signed)],
        ]);
      }
      const { sequence, hash } = last.sealed.head;
      this.#database.run('UPDATE chain SET sequence = ?, hash = ?', [sequence, hash]);
    });
  }

  /** Deletes what need not be kept; the chain goes on from where it was. */
  prune({ countMax, secondsMax }: Retention, nowSeconds: number): void {
    this.#database.run('DELETE FROM receipts WHERE sequence <= ? OR created < ?', [
      this.head().sequence - countMax,
      nowSeconds - secondsMax,
    ]);
  }

  /** A tenant's own receipt, as JSON text; null: there is none, or it is somebody else's. */
  find(id: string, tenant: string): string | null {
    const sql = 'SELECT document FROM receipts WHERE id = ? AND tenant = ?';
    const row = this.#database.get(sql, [id, tenant]);
    return row === null ? null : (row.document as string);
  }

  /** Up to `count` links from `first` on, as far as they are kept. */
  links(first: number, count: number): StoredLinks {
    const sql =
      'SELECT sequence, digest, document FROM receipts ' +
      'WHERE sequence >= ? ORDER BY sequence LIMIT ?';
    const rows = this.#database.all(sql, [first, count]);
    const [earliest] = rows;
    if (earliest === undefined) {
      const { sequence, hash } = this.head();
      return { previous: hash, first: sequence + 1, digests: [] };
    }
    const { receipt } = JSON.parse(earliest.document as string) as SignedReceipt;
    const digests = rows.map(({ digest }) => digest as string);
    return { previous: receipt.previous, first: Number(earliest.sequence), digests };
  }

  close(): void {
    this.#database.close();
  }

  #transaction(action: () => void): void {
    this.#database.exec('BEGIN');
    try {
      action();
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}
