import { chmodSync, rmSync } from 'node:fs';
import {
  type ChainHead,
  readSignedReceipt,
  type SealedReceipt,
  type SignedReceipt,
} from '@bridgekeeper/attest';
import sqlite from 'node-sqlite3-wasm';
import { ReceiptsError } from './errors.ts';
import { rollBack } from './journal.ts';
import { fileAt, isSameFile } from './owner.ts';

type Database = InstanceType<typeof sqlite.Database>;
type Statement = ReturnType<Database['prepare']>;
type Values = NonNullable<Parameters<Statement['all']>[0]>;

/** Marks the file as ours, and the shape of its tables. */
const APPLICATION = 0x42_4b_52_31;
const SHAPE = 2;
/** Receipts had the time of the clock, and there was no signed head. */
const SHAPE_BEFORE = 1;

const TABLES = `
  CREATE TABLE receipts (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    served INTEGER NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL
  );
  CREATE TABLE chain (sequence INTEGER NOT NULL, hash TEXT, served INTEGER NOT NULL DEFAULT 0);
  INSERT INTO chain VALUES (0, NULL, 0);
  PRAGMA application_id = ${APPLICATION};
  PRAGMA user_version = ${SHAPE};
`;

const UPGRADE = `
  DROP INDEX receipts_created;
  ALTER TABLE receipts RENAME COLUMN created TO served;
  UPDATE receipts SET served = 0;
  ALTER TABLE chain ADD COLUMN served INTEGER NOT NULL DEFAULT 0;
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
  /** Of a server's running, counted by `age`. */
  readonly secondsMax: number;
}

/** A piece of the chain. */
export interface StoredLinks {
  readonly previous: string | null;
  readonly first: number;
  readonly digests: string[];
}

/**
 * Receipts in SQLite, in a file or in memory. Everything is synchronous: it has its own thread.
 *
 * What is deleted is always a prefix of the chain, so that what is kept is one piece of it. No time
 * of the clock decides: the host can set it. `served` counts the seconds that servers of this file
 * have run, and a receipt's age is what was counted since it was written.
 */
export class ReceiptStore {
  /** null: in memory. */
  readonly path: string | null;
  #database: Database;
  /** A transaction failed, and so did taking it back: that is done before anything else. */
  #isTorn = false;
  readonly #file: ReturnType<typeof fileAt>;
  /** By their text: most come with every batch, and parsing them costs more than they do. */
  readonly #statements = new Map<string, Statement>();
  #shape = SHAPE;

  /**
   * `path` null: in memory. What opens a file owns it (`own`). Throws ReceiptsError 'bad-file'.
   */
  constructor(path: string | null) {
    this.path = path;
    try {
      // SQLite locks by this folder. Its owner is the only one to lock, so one that is there is
      // left from a process that was killed.
      if (path !== null) rmSync(`${path}.lock`, { recursive: true, force: true });
      if (path !== null) rollBack(path, APPLICATION);
      this.#database = path === null ? new sqlite.Database() : new sqlite.Database(path);
      try {
        if (this.#pragma('page_count') === 0) this.#database.exec(`BEGIN; ${TABLES} COMMIT;`);
        this.#shape = this.#readShape();
        if (path !== null) chmodSync(path, 0o600);
      } catch (error) {
        this.#database.close();
        throw error;
      }
      this.#file = path === null ? undefined : fileAt(path);
    } catch (cause) {
      if (cause instanceof ReceiptsError) throw cause;
      const { message } = cause as Error;
      throw new ReceiptsError('bad-file', `cannot open ${path}: ${message}`, { cause });
    }
  }

  #pragma(name: string): unknown {
    return Object.values(this.#database.get(`PRAGMA ${name}`)!)[0];
  }

  #readShape(): number {
    const shape = this.#pragma('user_version');
    const isOurs = this.#pragma('application_id') === APPLICATION;
    if (isOurs && (shape === SHAPE || shape === SHAPE_BEFORE)) return shape;
    throw new ReceiptsError('bad-file', `${this.path} is no file of receipts of this version`);
  }

  /** Whether a signed head belongs to it: not to files of earlier versions until `upgrade`. */
  get hasHeads(): boolean {
    return this.#shape === SHAPE;
  }

  /** Brings a file of an earlier version to this one; its receipts begin to age now. */
  upgrade(): void {
    if (this.hasHeads) return;
    this.#transaction(() => this.#database.exec(UPGRADE));
    this.#shape = SHAPE;
  }

  /** Throws where the file is not the one that was opened: what is written would be lost. */
  check(): void {
    if (this.#file === undefined || isSameFile(this.#file, fileAt(this.path!))) return;
    throw new Error(`${this.path} was moved, deleted or replaced`);
  }

  /** Where the chain ends. */
  head(): ChainHead {
    const row = this.#get('SELECT sequence, hash FROM chain') as unknown as ChainHead;
    return { sequence: Number(row.sequence), hash: row.hash };
  }

  /** Writes all of them behind the chain's end or, where it throws, none. */
  append(rows: readonly ReceiptRow[]): void {
    const [first] = rows;
    if (first === undefined) return;
    this.#transaction(() => {
      for (const { sealed, tenant } of rows) {
        const { receipt } = sealed.signed;
        this.#run('INSERT INTO receipts VALUES (?, ?, ?, (SELECT served FROM chain), ?, ?)', [
          receipt.sequence,
          receipt.id,
          tenant,
          sealed.digest,
          JSON.stringify(sealed.signed),
        ]);
      }
      const { previous } = first.sealed.signed.receipt;
      const { sequence, hash } = rows.at(-1)!.sealed.head;
      const sql = 'UPDATE chain SET sequence = ?, hash = ? WHERE hash IS ?';
      const { changes } = this.#run(sql, [sequence, hash, previous]);
      if (changes !== 1) throw new Error(`something else wrote to ${this.path}`);
    });
  }

  /** Counts that many seconds of running. */
  age(seconds: number): void {
    this.#run('UPDATE chain SET served = served + ?', [seconds]);
  }

  /** Deletes the beginning of the chain as far as it need not be kept. */
  prune({ countMax, secondsMax }: Retention): void {
    const sql =
      'SELECT sequence FROM receipts WHERE served >= (SELECT served FROM chain) - ? ' +
      'ORDER BY sequence LIMIT 1';
    const { sequence } = this.head();
    // In the order of the chain: behind the first that is kept, all are.
    const young = this.#get(sql, [secondsMax]);
    const firstYoung = young === null ? sequence + 1 : Number(young.sequence);
    const first = Math.max(firstYoung, sequence - countMax + 1);
    this.#run('DELETE FROM receipts WHERE sequence < ?', [first]);
  }

  /** Whether a receipt of this id is kept, whosever it is. */
  has(id: string): boolean {
    return this.#get('SELECT 1 FROM receipts WHERE id = ?', [id]) !== null;
  }

  /** All that are kept, in the order of the chain. */
  *all(): Generator<{ readonly signed: SignedReceipt; readonly tenant: string }> {
    const sql =
      'SELECT sequence, document, tenant FROM receipts WHERE sequence > ? ' +
      'ORDER BY sequence LIMIT 256';
    let last = 0;
    for (;;) {
      const rows = this.#all(sql, [last]);
      for (const { document, tenant } of rows) {
        yield { signed: readSignedReceipt(document as string), tenant: tenant as string };
      }
      if (rows.length === 0) return;
      last = Number(rows.at(-1)!.sequence);
    }
  }

  /** A tenant's own receipt, as JSON text; null: there is none, or it is somebody else's. */
  find(id: string, tenant: string): string | null {
    const sql = 'SELECT document FROM receipts WHERE id = ? AND tenant = ?';
    const row = this.#get(sql, [id, tenant]);
    return row === null ? null : (row.document as string);
  }

  /**
   * Up to `count` links from `first` on, as far as they are kept and one follows the other: earlier
   * versions could delete some from the middle.
   */
  links(first: number, count: number): StoredLinks {
    const sql =
      'SELECT sequence, digest, document FROM receipts ' +
      'WHERE sequence >= ? ORDER BY sequence LIMIT ?';
    const rows = this.#all(sql, [first, count]);
    const [earliest] = rows;
    if (earliest === undefined) {
      const { sequence, hash } = this.head();
      return { previous: hash, first: sequence + 1, digests: [] };
    }
    const start = Number(earliest.sequence);
    const end = rows.findIndex(({ sequence }, i) => Number(sequence) !== start + i);
    const { receipt } = readSignedReceipt(earliest.document as string);
    const digests = rows.map(({ digest }) => digest as string);
    return {
      previous: receipt.previous,
      first: start,
      digests: end === -1 ? digests : digests.slice(0, end),
    };
  }

  /** The same with the receipts. */
  piece(
    first: number,
    count: number,
  ): { readonly links: StoredLinks; readonly receipts: SignedReceipt[] } {
    const links = this.links(first, count);
    const sql =
      'SELECT document FROM receipts WHERE sequence >= ? AND sequence < ? ORDER BY sequence';
    const rows = this.#all(sql, [links.first, links.first + links.digests.length]);
    return { links, receipts: rows.map(({ document }) => readSignedReceipt(document as string)) };
  }

  close(): void {
    for (const statement of this.#statements.values()) statement.finalize();
    this.#statements.clear();
    if (this.#database.isOpen) this.#database.close();
  }

  /** Throws what files throw, and is tried again then. */
  #mend(): void {
    if (!this.#isTorn) return;
    this.close();
    rollBack(this.path!, APPLICATION);
    this.#database = new sqlite.Database(this.path!);
    this.#isTorn = false;
  }

  /**
   * What failed outside of a transaction was one by itself. Whether it left a journal is looked at
   * when it is taken back: a disk that fails may say that there is none.
   */
  #failed(): void {
    if (this.path !== null && !this.#database.inTransaction) this.#isTorn = true;
  }

  #run(sql: string, values: Values) {
    return this.#use(sql, (statement) => statement.run(values));
  }

  /** To the last row: one that has rows left would keep its lock. */
  #all(sql: string, values?: Values) {
    return this.#use(sql, (statement) => statement.all(values));
  }

  /** The first row; null: there is none. */
  #get(sql: string, values?: Values) {
    return this.#all(sql, values)[0] ?? null;
  }

  /** A statement that failed is not used again. */
  #use<T>(sql: string, action: (statement: Statement) => T): T {
    this.#mend();
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    try {
      return action(statement);
    } catch (error) {
      this.#statements.delete(sql);
      try {
        statement.finalize();
      } catch {
        // It says again why it failed.
      }
      this.#failed();
      throw error;
    }
  }

  #transaction(action: () => void): void {
    this.#mend();
    this.#database.exec('BEGIN');
    try {
      action();
      this.#database.exec('COMMIT');
    } catch (error) {
      try {
        if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
      } finally {
        this.#failed();
      }
      throw error;
    }
  }
}
