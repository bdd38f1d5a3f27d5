import fs, {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sqlite from 'node-sqlite3-wasm';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { journalOf, rollBack } from './journal.ts';

const APPLICATION = 77;
const ROWS = 30;
let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'journal-'));
  file = join(folder, 'a.sqlite');
  quicken();
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

/** No power is lost here: SQLite need not wait for the disk. */
const quicken = () => vi.spyOn(fs, 'fsyncSync').mockImplementation(() => {});

/** A database of some pages, all of which `UPDATE` changes. */
function make(application = APPLICATION): Buffer {
  const database = new sqlite.Database(file);
  database.exec(
    `PRAGMA application_id = ${application}; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)`,
  );
  database.exec('BEGIN');
  for (let n = 0; n < ROWS; n++) {
    database.run('INSERT INTO t VALUES (?, ?)', [n, `${n}`.repeat(500)]);
  }
  database.exec('COMMIT');
  database.close();
  return readFileSync(file);
}

const UPDATE = `UPDATE t SET b = b || 'x'; INSERT INTO t VALUES (100, hex(zeroblob(9000)))`;

type IsEnd = (nth: number, args: readonly unknown[]) => boolean;
const at = (end: number): IsEnd => {
  return (nth) => nth === end;
};
/** The first page that is written to the database: where those of its journal are, none can be. */
const atDatabase: IsEnd = (_, [, , , bytes, position]) =>
  bytes === 4096 && Number(position) % 4096 === 0;

/**
 * What a process leaves that ends before it changes the disk so (for the `nth` time). false: it was
 * done before. `cachePages`: with few, pages are written before the end, and the journal has many
 * parts.
 */
function endBefore(isEnd: IsEnd, sql: string, cachePages: number): boolean {
  const database = new sqlite.Database(file);
  database.exec(`PRAGMA cache_size = ${cachePages}`);
  let nth = 0;
  let hasEnded = false;
  const ends = (name: 'writeSync' | 'ftruncateSync' | 'unlinkSync') => {
    const action = fs[name] as (...args: unknown[]) => unknown;
    vi.spyOn(fs, name).mockImplementation(((...args: unknown[]) => {
      nth += 1;
      hasEnded ||= isEnd(nth, args);
      if (hasEnded) throw new Error('the process has ended');
      return action(...args);
    }) as never);
  };
  for (const name of ['writeSync', 'ftruncateSync', 'unlinkSync'] as const) ends(name);
  try {
    database.exec(`BEGIN; ${sql}; COMMIT`);
    return false;
  } catch {
    return true;
  } finally {
    vi.restoreAllMocks();
    quicken();
    database.close();
    rmSync(`${file}.lock`, { recursive: true, force: true });
  }
}

const MAGIC = Buffer.from('d9d505f920a163d7', 'hex');

/** How many headers a journal has; 0: there is none. */
function partsOf(path: string): number {
  if (!existsSync(path)) return 0;
  const bytes = readFileSync(path);
  let count = 0;
  for (let at = bytes.indexOf(MAGIC); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) count += 1;
  return count;
}

describe('a transaction that was left unfinished', () => {
  it.each([
    { parts: 1, cachePages: 500, step: 4 },
    { parts: 2, cachePages: 4, step: 11 },
  ])('is taken back wherever it ended: a journal of $parts', ({ parts, cachePages, step }) => {
    const before = make();
    const saved = join(folder, 'saved');
    mkdirSync(saved);
    cpSync(file, join(saved, 'a.sqlite'));
    let changed = 0;
    let partsMost = 0;
    for (let nth = 1; endBefore(at(nth), UPDATE, cachePages); nth += step) {
      if (!readFileSync(file).equals(before)) changed += 1;
      partsMost = Math.max(partsMost, partsOf(journalOf(file)));
      rollBack(file, APPLICATION);
      expect(readFileSync(file).equals(before), `before change ${nth}`).toBe(true);
      expect(existsSync(journalOf(file))).toBe(false);
      cpSync(join(saved, 'a.sqlite'), file);
    }
    // Most had written to the database, which SQLite alone leaves as it is.
    expect(changed).toBeGreaterThan(2);
    expect(Math.min(partsMost, 2)).toBe(parts);
    rollBack(file, APPLICATION);
    const database = new sqlite.Database(file);
    expect(database.get('SELECT count(*) AS n FROM t')).toEqual({ n: ROWS + 1 });
    database.close();
  });

  it('leaves nothing where nothing was before', () => {
    writeFileSync(file, '');
    const sql = `CREATE TABLE t (a, b); INSERT INTO t VALUES (1, hex(zeroblob(9000)))`;
    let nth = 1;
    for (; endBefore(at(nth), sql, 500); nth += 1) {
      rollBack(file, APPLICATION);
      expect(readFileSync(file), `before change ${nth}`).toHaveLength(0);
    }
    expect(nth).toBeGreaterThan(3);
  });

  it('is taken back as far as its journal is whole: what follows was not needed yet', () => {
    const before = make();
    expect(endBefore(atDatabase, UPDATE, 500)).toBe(true);
    const journal = readFileSync(journalOf(file));
    journal.write('torn', 512 + 3 * (4096 + 8) + 4 + 96, 'latin1');
    writeFileSync(journalOf(file), journal);
    rollBack(file, APPLICATION);
    expect(existsSync(journalOf(file))).toBe(false);
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it('goes where its database was moved away, or is empty', () => {
    make();
    expect(endBefore(at(50), UPDATE, 4)).toBe(true);
    const journal = readFileSync(journalOf(file));
    rmSync(file);
    rollBack(file, APPLICATION);
    expect([file, journalOf(file)].map((path) => existsSync(path))).toEqual([false, false]);
    writeFileSync(file, '');
    writeFileSync(journalOf(file), journal);
    rollBack(file, APPLICATION);
    expect(readFileSync(file)).toHaveLength(0);
    expect(existsSync(journalOf(file))).toBe(false);
  });

  it('is left alone in a database of somebody else', () => {
    make(APPLICATION + 1);
    expect(endBefore(at(50), UPDATE, 4)).toBe(true);
    const [database, journal] = [readFileSync(file), readFileSync(journalOf(file))];
    rollBack(file, APPLICATION);
    expect(readFileSync(file).equals(database)).toBe(true);
    expect(readFileSync(journalOf(file)).equals(journal)).toBe(true);
  });
});
