import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';

const MAGIC = Buffer.from('d9d505f920a163d7', 'hex');
const HEADER_BYTES = 28;
/** In a database. */
const APPLICATION_AT = 68;
/** Of a header: all records up to the file's end. */
const TO_THE_END = 0xffffffff;
const PAGE_BYTES_LEAST = 512;
const PAGE_BYTES_MOST = 65_536;
const CHECKED_EVERY = 200;

/** What one part of a journal says of itself. */
interface Header {
  readonly records: number;
  readonly checksum: number;
  /** Pages of the database before the transaction. */
  readonly pages: number;
  readonly sectorBytes: number;
  readonly pageBytes: number;
}

/** Where SQLite keeps what a transaction overwrites, until it is committed. */
export const journalOf = (path: string) => `${path}-journal`;

/**
 * Takes back the transaction that a process left unfinished in the database at `path`, by its
 * rollback journal (https://www.sqlite.org/fileformat.html#the_rollback_journal), and removes that.
 * Nothing to do where there is none. SQLite itself does so when it opens a file, but not in this
 * build: it first looks whether another process writes, and takes its own lock for that one's. For
 * who owns the file. Done again, it does the same. Databases of another `application` are left
 * alone: somebody else may be writing to them. Where there is none, or an empty one, its journal is
 * of one that was moved away, and goes, as SQLite has it. Throws what files throw.
 */
export function rollBack(path: string, application: number): void {
  const journal = openIfThere(journalOf(path), constants.O_RDWR);
  if (journal === null) return;
  try {
    const first = headerAt(journal, 0, null);
    const isThere = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
    const isOthers =
      isThere &&
      !withFile(path, constants.O_RDWR, (database) => {
        // Where nothing was there before, nothing may be there yet that says whose it is.
        if (first?.pages !== 0 && applicationOf(database) !== application) return false;
        // What is put back from it has to be there to be put back again.
        fsyncSync(journal);
        // Without a whole header nothing of the database was written yet.
        if (first !== null) putBack(journal, first, database);
        return true;
      });
    if (isOthers) return;
  } finally {
    closeSync(journal);
  }
  rmSync(journalOf(path));
  withFile(dirname(path), constants.O_RDONLY, fsyncSync);
}

function putBack(journal: number, first: Header, database: number): void {
  const { pageBytes, sectorBytes, pages } = first;
  ftruncateSync(database, Math.min(fstatSync(database).size, pages * pageBytes));
  const record = Buffer.alloc(4 + pageBytes + 4);
  let header: Header | null = first;
  let at = 0;
  while (header !== null) {
    at += sectorBytes;
    for (let n = 0; header.records === TO_THE_END || n < header.records; n++) {
      // One that is not whole was never needed: the database is written to after its journal.
      if (!fill(journal, record, at)) break;
      const number = record.readUInt32BE(0);
      const page = record.subarray(4, 4 + pageBytes);
      if (number === 0 || record.readUInt32BE(4 + pageBytes) !== sumOf(page, header)) break;
      if (number <= pages) writeSync(database, page, 0, pageBytes, (number - 1) * pageBytes);
      at += record.length;
    }
    at = Math.ceil(at / sectorBytes) * sectorBytes;
    header = headerAt(journal, at, first);
  }
  fsyncSync(database);
}

/** null: there is none. Sizes are those of `first`, if there is one. */
function headerAt(journal: number, at: number, first: Header | null): Header | null {
  const bytes = Buffer.alloc(HEADER_BYTES);
  if (!fill(journal, bytes, at) || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const [records, checksum, pages] = [8, 12, 16].map((offset) => bytes.readUInt32BE(offset));
  const sectorBytes = first?.sectorBytes ?? bytes.readUInt32BE(20);
  const pageBytes = first?.pageBytes ?? bytes.readUInt32BE(24);
  if (!isSize(sectorBytes, 32) || !isSize(pageBytes, PAGE_BYTES_LEAST)) return null;
  return { records: records!, checksum: checksum!, pages: pages!, sectorBytes, pageBytes };
}

/** null: it is too short to say. */
function applicationOf(database: number): number | null {
  const bytes = Buffer.alloc(4);
  return fill(database, bytes, APPLICATION_AT) ? bytes.readUInt32BE(0) : null;
}

const isSize = (bytes: number, least: number) =>
  bytes >= least && bytes <= PAGE_BYTES_MOST && (bytes & (bytes - 1)) === 0;

function sumOf(page: Buffer, { checksum }: Header): number {
  let sum = checksum;
  for (let i = page.length - CHECKED_EVERY; i > 0; i -= CHECKED_EVERY) sum += page[i]!;
  return sum >>> 0;
}

/** Whether so much was there. */
function fill(fd: number, into: Buffer, at: number): boolean {
  let count = 0;
  while (count < into.length) {
    const read = readSync(fd, into, count, into.length - count, at + count);
    if (read === 0) return false;
    count += read;
  }
  return true;
}

function openIfThere(path: string, flags: number): number | null {
  try {
    return openSync(path, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function withFile<T>(path: string, flags: number, action: (fd: number) => T): T {
  const fd = openSync(path, flags);
  try {
    return action(fd);
  } finally {
    closeSync(fd);
  }
}
