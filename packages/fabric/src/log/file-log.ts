import {
  closeSync,
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
import { canonicalBytes, readCheckpoint, readSignedNote } from '@bridgekeeper/attest';
import { FabricError } from '../errors.ts';
import { type LogEntry, readLogEntry } from './entries.ts';
import type { FabricLog } from './log.ts';
import { checkpointText, type NoteSigner } from './note.ts';
import { consistencyPath, Frontier, type Hash, inclusionPath, leafHash, rootOf } from './tree.ts';
import { witnessRequest } from './witness.ts';

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
 */
export class FileLog implements FabricLog {
  readonly #options: FileLogOptions;
  readonly #fd: number;
  readonly #records: Records;
  readonly #tree = new Frontier();
  #bytes: number;
  #failure: FabricError | null = null;
  #checkpoint = '';

  private constructor(options: FileLogOptions, fd: number, records: Records) {
    this.#options = options;
    this.#fd = fd;
    this.#records = records;
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
    this.#records.starts.push(this.#bytes);
    this.#records.leaves.push(leaf);
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

  /** The signed note over all entries. */
  checkpoint(): string {
    return this.#checkpoint;
  }

  /** That an entry is in the log, as a file that anybody can check (C2SP tlog-proof). */
  proof(index: number): string {
    const path = inclusionPath(index, this.#records.leaves).map((hash) => hash.toString('base64'));
    const head = ['c2sp.org/tlog-proof@v1', `index ${index}`, ...path].join('\n');
    return `${head}\n\n${this.#checkpoint}`;
  }

  /** What a witness that has cosigned `old` entries is sent. */
  witnessRequest(old: number): string {
    return witnessRequest(old, consistencyPath(old, this.#records.leaves), this.#checkpoint);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #body(index: number): Buffer {
    const start = this.#records.starts[index]! + LENGTH_BYTES + HASH_BYTES;
    const body = Buffer.alloc((this.#records.starts[index + 1] ?? this.#bytes) - start);
    readSync(this.#fd, body, 0, body.length, start);
    if (leafHash(body).equals(this.#records.leaves[index]!)) return body;
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
      const fresh = join(folder, 'checkpoint.new');
      writeFileSync(fresh, this.#checkpoint, { mode: 0o600 });
      renameSync(fresh, join(folder, 'checkpoint'));
    } catch {
      // The entry is durable: the next checkpoint has it, and opening signs one.
    }
  }
}

/** What a reader is given: the two files. Throws FabricError 'log-broken'. */
export function readLogFolder(folder: string): {
  readonly entries: readonly LogEntry[];
  readonly checkpoint: string;
} {
  const path = join(folder, 'entries');
  try {
    const { all, starts } = readRecords(path);
    const entries = starts.map((start, index) => {
      const from = start + LENGTH_BYTES + HASH_BYTES;
      const to = from + all.readUInt32BE(start);
      const entry = readLogEntry(all.toString('utf8', from, to));
      // That these bytes were signed for is `verifyEntries`' to say.
      if (entry !== null) return entry;
      throw new FabricError('log-broken', `${path}: entry ${index} is none that is known here`);
    });
    return { entries, checkpoint: readFileSync(join(folder, 'checkpoint'), 'utf8') };
  } catch (cause) {
    if (cause instanceof FabricError) throw cause;
    throw new FabricError('log-broken', `${folder}: ${(cause as Error).message}`, { cause });
  }
}

/** Up to the first record that was cut off. One that was changed is no end: it breaks the log. */
function readRecords(path: string): Records & { readonly all: Buffer } {
  const { size } = statSync(path);
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
    rootOf(leaves.slice(0, size)).equals(Buffer.from(root));
  if (isSame) return;
  const message = `${folder} is not the log that ${path} was signed for (${size} entries)`;
  throw new FabricError('log-broken', `${message}: restore it; never go on from an older copy`);
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
