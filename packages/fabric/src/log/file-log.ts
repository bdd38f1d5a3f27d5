import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { canonicalBytes, readCheckpoint, readSignedNote } from '@bridgekeeper/attest/log';
import { FabricError } from '../errors.ts';
import type { LogEntry } from './entries.ts';
import type { FabricLog } from './log.ts';
import { checkpointText, type NoteSigner } from './note.ts';
import { demandEntry, type ReadLog } from './read-tiles.ts';
import { TILE_HASHES, type Tile, type TileSource } from './tiles.ts';
import { type Hash, leafHash, Tree } from './tree.ts';
import { witnessRequest } from './witness-request.ts';

/** The same bound as that of an entry in a tile of C2SP. */
const ENTRY_BYTES_MAX = 65_535;
const LENGTH_BYTES = 4;
const HASH_BYTES = 32;
const FILE_BYTES_MAX = 2 ** 31;

export interface FileLogOptions {
  readonly folder: string;
  readonly signer: NoteSigner;
  readonly nowSeconds: () => number;
}

/** What is on the disk: entries as they were signed for, and where each begins. */
interface Records {
  readonly leaves: Hash[];
  readonly starts: number[];
  readonly bytes: number;
}

/**
 * A host's log as two files. `entries` only grows: length, leaf hash and canonical JSON of each
 * entry, durable before it is acknowledged. `checkpoint` is signed afterwards, and replaced: one
 * that is missing or old is signed anew, one beyond the entries means that entries were taken away.
 * `cosigned` is the last checkpoint that witnesses have signed as well.
 */
export class FileLog implements FabricLog, TileSource {
  readonly #options: FileLogOptions;
  readonly #fd: number;
  readonly #starts: number[];
  readonly #tree = new Tree();
  #bytes: number;
  #failure: FabricError | null = null;
  #checkpoint = '';
  #cosigned: string | null = null;

  private constructor(options: FileLogOptions, fd: number, records: Records) {
    this.#options = options;
    this.#fd = fd;
    this.#starts = records.starts;
    this.#bytes = records.bytes;
    for (const leaf of records.leaves) this.#tree.add(leaf);
  }

  /** Throws FabricError 'log-broken' or 'log-unwritable'. The caller holds the host's lock. */
  static open(options: FileLogOptions): FileLog {
    const path = join(options.folder, 'entries');
    let fd: number;
    try {
      mkdirSync(options.folder, { recursive: true, mode: 0o700 });
      fd = openSync(path, 'a+', 0o600);
    } catch (cause) {
      throw unwritable(path, cause);
    }
    try {
      const records = readRecords(path);
      demandUncut(options, records);
      // A write that was cut off was acknowledged to nobody.
      if (fstatSync(fd).size > records.bytes) ftruncateSync(fd, records.bytes);
      const log = new FileLog(options, fd, records);
      // For readers, who must have it from elsewhere, too.
      writeFileSync(join(options.folder, 'vkey'), `${options.signer.vkey}\n`);
      log.#sign();
      log.#cosigned = readCosigned(options, log.#tree);
      return log;
    } catch (error) {
      closeSync(fd);
      throw error instanceof FabricError ? error : unwritable(path, error);
    }
  }

  async append(entry: LogEntry): Promise<number> {
    if (this.#failure !== null) throw this.#failure;
    const path = join(this.#options.folder, 'entries');
    const body = Buffer.from(canonicalBytes(entry));
    if (body.length > ENTRY_BYTES_MAX) {
      const message = `an entry of ${body.length} bytes: at most ${ENTRY_BYTES_MAX} are logged`;
      throw new FabricError('log-unwritable', message);
    }
    const leaf = leafHash(body);
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32BE(body.length);
    const record = Buffer.concat([length, leaf, body]);
    try {
      for (let at = 0; at < record.length; ) at += writeSync(this.#fd, record, at);
      fdatasyncSync(this.#fd);
    } catch (cause) {
      this.#undo(cause);
      throw unwritable(path, cause);
    }
    this.#starts.push(this.#bytes);
    this.#bytes += record.length;
    this.#tree.add(leaf);
    this.#sign();
    return this.#tree.size - 1;
  }

  async size(): Promise<number> {
    return this.#tree.size;
  }

  async read(start: number, max: number): Promise<readonly LogEntry[]> {
    const end = Math.min(this.#tree.size, start + max);
    const indices = Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
    return indices.map((index) => JSON.parse(this.#body(index).toString()) as LogEntry);
  }

  /** What readers are configured with. */
  get vkey(): string {
    return this.#options.signer.vkey;
  }

  /** The signed note over all entries. */
  checkpoint(): string {
    return this.#checkpoint;
  }

  /** For readers: seen by witnesses, once it was; before that, signed by the log alone. */
  published(): string {
    return this.#cosigned ?? this.#checkpoint;
  }

  /** Keeps a checkpoint of this log with the lines of witnesses. Throws 'log-unwritable'. */
  publish(cosigned: string): void {
    const path = join(this.#options.folder, 'cosigned');
    try {
      replaceFile(path, cosigned);
    } catch (cause) {
      throw unwritable(path, cause);
    }
    this.#cosigned = cosigned;
  }

  /**
   * That an entry is in the log, as a file that anybody can check (C2SP tlog-proof). Null: what is
   * published does not have it yet.
   */
  proof(index: number): string | null {
    const note = this.published();
    const { size } = readOwn(note, 'the published checkpoint');
    if (index >= size) return null;
    const path = this.#tree.inclusionPath(index, size).map((hash) => hash.toString('base64'));
    return `${['c2sp.org/tlog-proof@v1', `index ${index}`, ...path].join('\n')}\n\n${note}`;
  }

  /** What a witness that has cosigned `old` entries is sent. */
  witnessRequest(old: number): string {
    return witnessRequest(old, this.#tree.consistencyPath(old), this.#checkpoint);
  }

  tile({ level, index, width }: Tile): Buffer | null {
    const from = index * TILE_HASHES;
    const height = 8 * level;
    if ((from + width) * 2 ** height > this.#tree.size) return null;
    const hashes = Array.from({ length: width }, (_, i) => this.#tree.part(height, from + i));
    return Buffer.concat(hashes);
  }

  entries({ index, width }: Omit<Tile, 'level'>): Buffer | null {
    const from = index * TILE_HASHES;
    if (from + width > this.#tree.size) return null;
    const parts = Array.from({ length: width }, (_, i) => {
      const body = this.#body(from + i);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(body.length);
      return [length, body];
    });
    return Buffer.concat(parts.flat());
  }

  close(): void {
    closeSync(this.#fd);
  }

  #body(index: number): Buffer {
    const start = this.#starts[index]! + LENGTH_BYTES + HASH_BYTES;
    const body = Buffer.alloc((this.#starts[index + 1] ?? this.#bytes) - start);
    readSync(this.#fd, body, 0, body.length, start);
    if (leafHash(body).equals(this.#tree.part(0, index))) return body;
    throw new FabricError('log-broken', `entry ${index} of ${this.#options.folder} has changed`);
  }

  /** Half an entry must not be in front of the next one, or that would be lost with it. */
  #undo(cause: unknown): void {
    try {
      ftruncateSync(this.#fd, this.#bytes);
      fdatasyncSync(this.#fd);
    } catch {
      this.#failure = unwritable(join(this.#options.folder, 'entries'), cause);
    }
  }

  #sign(): void {
    const { folder, signer, nowSeconds } = this.#options;
    const text = checkpointText(signer.name, this.#tree.size, this.#tree.root());
    this.#checkpoint = `${text}\n${signer.sign(text, nowSeconds())}`;
    try {
      replaceFile(join(folder, 'checkpoint'), this.#checkpoint);
    } catch {
      // The entry is durable: the next checkpoint has it, and opening signs one.
    }
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Null: witnesses have signed nothing that this log is now. */
function readCosigned({ folder, signer }: FileLogOptions, tree: Tree): string | null {
  try {
    const text = readFileSync(join(folder, 'cosigned'), 'utf8');
    const { origin, size, root } = readOwn(text, 'cosigned');
    const isOwn =
      origin === signer.name && size <= tree.size && tree.root(size).equals(Buffer.from(root));
    return isOwn ? text : null;
  } catch {
    // It is made again with the next checkpoint.
    return null;
  }
}

/** What a reader is given: what witnesses saw, if they did. Throws FabricError 'log-broken'. */
export function readLogFolder(folder: string): ReadLog {
  const path = join(folder, 'entries');
  try {
    const { all, starts } = readRecords(path);
    const entries = starts.map((start, index) => {
      const from = start + LENGTH_BYTES + HASH_BYTES;
      const to = from + all.readUInt32BE(start);
      return demandEntry(all.subarray(from, to), index, path);
    });
    const seen = join(folder, 'cosigned');
    const checkpoint = existsSync(seen) ? seen : join(folder, 'checkpoint');
    return { entries, checkpoint: readFileSync(checkpoint, 'utf8') };
  } catch (cause) {
    if (cause instanceof FabricError) throw cause;
    throw new FabricError('log-broken', `${folder}: ${(cause as Error).message}`, { cause });
  }
}

/** Up to the first record that was cut off. One that was changed is no end: it breaks the log. */
function readRecords(path: string): Records & { readonly all: Buffer } {
  const found = statSync(path);
  // What a stranger gives out may be a pipe, which is read for ever.
  if (!found.isFile()) throw new FabricError('log-broken', `${path} is no file`);
  const { size } = found;
  if (size > FILE_BYTES_MAX) {
    throw new FabricError('log-broken', `${path} has ${size} bytes: begin a new log`);
  }
  const all = readFileSync(path);
  const leaves: Hash[] = [];
  const starts: number[] = [];
  let at = 0;
  while (at + LENGTH_BYTES + HASH_BYTES <= all.length) {
    const length = all.readUInt32BE(at);
    const body = at + LENGTH_BYTES + HASH_BYTES;
    const isCut = body + length > all.length;
    const leaf = all.subarray(at + LENGTH_BYTES, body);
    const isWhole = !isCut && leafHash(all.subarray(body, body + length)).equals(leaf);
    // A file may have grown before its bytes came: only what nothing follows was being written.
    const isUnwritten = !isWhole && all.subarray(at).every((byte) => byte === 0);
    if (isCut || isUnwritten || (!isWhole && body + length === all.length)) break;
    if (!isWhole)
      throw new FabricError('log-broken', `${path}: entry ${leaves.length} has changed`);
    starts.push(at);
    leaves.push(Buffer.from(leaf));
    at = body + length;
  }
  return { all, leaves, starts, bytes: at };
}

/** Whatever was signed must still be here: the log's own last checkpoint says how long it was. */
function demandUncut({ folder, signer }: FileLogOptions, { leaves }: Records): void {
  const path = join(folder, 'checkpoint');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw unwritable(path, cause);
  }
  // Written without waiting for the disk: after a loss of power it may be empty or old.
  if (text === '') return;
  const { origin, size, root } = readOwn(text, path);
  const isSame =
    origin === signer.name &&
    size <= leaves.length &&
    rootOf(leaves, size).equals(Buffer.from(root));
  if (isSame) return;
  const message = `${folder} is not the log that ${path} was signed for (${size} entries)`;
  throw new FabricError('log-broken', `${message}: restore it; never go on from an older copy`);
}

function rootOf(leaves: readonly Hash[], size: number): Hash {
  const tree = new Tree();
  for (const leaf of leaves.slice(0, size)) tree.add(leaf);
  return tree.root();
}

function readOwn(text: string, path: string) {
  try {
    return readCheckpoint(readSignedNote(text, path));
  } catch (cause) {
    throw new FabricError('log-broken', `${path}: ${(cause as Error).message}`, { cause });
  }
}

function unwritable(path: string, cause: unknown): FabricError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const advice = isFull ? 'make room: nothing is changed on the host until then' : message;
  return new FabricError('log-unwritable', `${path}: ${advice}`, { cause });
}
