import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import type { RequestListener } from 'node:http';
import { dirname } from 'node:path';
import {
  isSignedByLog,
  type NoteKey,
  readCheckpoint,
  readSignedNote,
} from '@bridgekeeper/attest/log';
import { FabricError } from '../errors.ts';
import type { NoteSigner } from './note.ts';
import { isConsistent } from './tree.ts';

const REQUEST_CHARACTERS_MAX = 64 * 1024;
const PATH_MAX = 63;

/** What a witness has cosigned last, by origin. */
export interface WitnessStore {
  read(origin: string): { readonly size: number; readonly root: string } | null;
  /**
   * `read` has it at once, so that the next request of the log goes on from it. Resolves once it is
   * durable: a witness that forgets can be shown two histories. If it rejects, `read` may go back.
   */
  write(origin: string, size: number, root: string): Promise<void>;
}

export interface WitnessAnswer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422 | 500;
  readonly type: 'text/plain' | 'text/x.tlog.size';
  readonly body: string;
}

/**
 * C2SP tlog-witness: cosigns a checkpoint of a log that it knows if it goes on from the one that it
 * cosigned last. Nothing is awaited between looking and writing, so no two requests are between.
 */
export class Witness {
  readonly #logs: readonly NoteKey[];
  readonly #signer: NoteSigner;
  readonly #store: WitnessStore;
  readonly #nowSeconds: () => number;

  constructor(
    logs: readonly NoteKey[],
    signer: NoteSigner,
    store: WitnessStore,
    nowSeconds: () => number,
  ) {
    this.#logs = logs;
    this.#signer = signer;
    this.#store = store;
    this.#nowSeconds = nowSeconds;
  }

  /** The body of POST /add-checkpoint; never throws. */
  async addCheckpoint(request: string): Promise<WitnessAnswer> {
    const answer = (status: WitnessAnswer['status'], body: string): WitnessAnswer => ({
      status,
      type: 'text/plain',
      body: `${body}\n`,
    });
    const read = readRequest(request);
    if (read === null) return answer(400, 'not old size, proof and checkpoint');
    const { old, path, note } = read;
    const { origin, size, root } = readCheckpoint(note);
    const log = this.#logs.find(({ name }) => name === origin);
    if (log === undefined) return answer(404, 'this log is not watched here');
    // A signature that does not hold throws, and one that is missing is false.
    const isSigned = await isSignedByLog(note, log).catch(() => false);
    if (!isSigned) return answer(403, 'the log did not sign it');
    if (old > size) return answer(400, 'the old size is beyond the new one');
    const known = this.#store.read(origin) ?? { size: 0, root: '' };
    if (old !== known.size) {
      return { status: 409, type: 'text/x.tlog.size', body: `${known.size}\n` };
    }
    const before = { size: known.size, root: Buffer.from(known.root, 'hex') };
    if (!isConsistent(before, { size, root: Buffer.from(root) }, path)) {
      return answer(422, 'it does not go on from what was cosigned');
    }
    try {
      await this.#store.write(origin, size, Buffer.from(root).toString('hex'));
    } catch {
      return answer(500, 'what was cosigned cannot be remembered, so nothing is');
    }
    const line = this.#signer.sign(note.text, this.#nowSeconds());
    return { status: 200, type: 'text/plain', body: line };
  }
}

function readRequest(request: string) {
  if (request.length > REQUEST_CHARACTERS_MAX) return null;
  const cut = request.indexOf('\n\n');
  const [first = '', ...lines] = request.slice(0, Math.max(0, cut)).split('\n');
  const old = /^old (0|[1-9]\d{0,14})$/.exec(first)?.[1];
  const path = lines.map((line) => Buffer.from(line, 'base64'));
  const isPath =
    lines.length <= PATH_MAX &&
    path.every((hash, i) => hash.length === 32 && hash.toString('base64') === lines[i]);
  if (old === undefined || !isPath) return null;
  try {
    const note = readSignedNote(request.slice(cut + 2), 'the checkpoint');
    readCheckpoint(note);
    return { old: Number(old), path, note };
  } catch {
    return null;
  }
}

/** POST /add-checkpoint, and nothing else. */
export function witnessListener(witness: Pick<Witness, 'addCheckpoint'>): RequestListener {
  return async (request, response) => {
    const end = (status: number, type: string, body: string) => {
      response.writeHead(status, { 'content-type': type }).end(body);
    };
    if (request.url !== '/add-checkpoint' || request.method !== 'POST') {
      end(404, 'text/plain', 'POST /add-checkpoint\n');
      return;
    }
    const pieces: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const piece of request) {
        bytes += (piece as Buffer).length;
        if (bytes > REQUEST_CHARACTERS_MAX) {
          end(413, 'text/plain', 'too large\n');
          return;
        }
        pieces.push(piece as Buffer);
      }
      const { status, type, body } = await witness.addCheckpoint(Buffer.concat(pieces).toString());
      end(status, type, body);
    } catch {
      // The client left, or its bytes broke off: nobody is there to be answered.
      response.destroy();
    }
  };
}

const LINE = /^(\S+) (0|[1-9]\d{0,14}) ([0-9a-f]{64})$/;
/** From here on, lines that later ones replaced are left out. */
const JOURNAL_BYTES_MAX = 2 ** 20;

interface Cosigned {
  readonly size: number;
  readonly root: string;
}

/**
 * What was cosigned, as a file of lines `origin size root`; the last one of an origin counts.
 * Requests that came while the disk was busy share the next sync. Throws FabricError
 * 'state-broken'.
 */
export function witnessFile(path: string): WitnessStore {
  const durable = readJournal(path);
  const known = new Map(durable);
  let waiting: { origin: string; line: Cosigned; settle: (error?: Error) => void }[] = [];
  let fd: number | null = null;
  let bytes = Number.POSITIVE_INFINITY;

  const append = (lines: Buffer) => {
    if (fd === null || bytes > JOURNAL_BYTES_MAX) {
      if (fd !== null) closeSync(fd);
      fd = null;
      bytes = rewriteJournal(path, durable);
      fd = openSync(path, 'a');
    }
    for (let at = 0; at < lines.length; ) at += writeSync(fd, lines, at);
    fdatasyncSync(fd);
    bytes += lines.length;
  };
  const flush = () => {
    const batch = waiting;
    waiting = [];
    try {
      append(Buffer.from(batch.map(({ origin, line }) => textOf(origin, line)).join('')));
      for (const { origin, line } of batch) durable.set(origin, line);
      for (const { settle } of batch) settle();
    } catch (error) {
      // Half a line may be there: the next batch begins with what is known to be durable.
      bytes = Number.POSITIVE_INFINITY;
      for (const { origin } of batch) {
        const before = durable.get(origin);
        if (before === undefined) known.delete(origin);
        else known.set(origin, before);
      }
      for (const { settle } of batch) settle(error as Error);
    }
  };
  return {
    read: (origin) => known.get(origin) ?? null,
    write: (origin, size, root) =>
      new Promise((resolve, reject) => {
        const line = { size, root };
        known.set(origin, line);
        const settle = (error?: Error) => (error === undefined ? resolve() : reject(error));
        waiting.push({ origin, line, settle });
        // Behind all requests that are there by now. A sync on a pool thread takes longer than one
        // here: two changes of threads, for a disk that takes one at a time all the same.
        if (waiting.length === 1) setImmediate(flush);
      }),
  };
}

const textOf = (origin: string, { size, root }: Cosigned) => `${origin} ${size} ${root}\n`;

/** Resolves to its bytes. */
function rewriteJournal(path: string, durable: ReadonlyMap<string, Cosigned>): number {
  const text = [...durable].map(([origin, line]) => textOf(origin, line)).join('');
  const fresh = `${path}.new`;
  writeFileSync(fresh, text, { mode: 0o600 });
  syncPath(fresh);
  renameSync(fresh, path);
  syncPath(dirname(path));
  return Buffer.byteLength(text);
}

function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A last line that was cut off was acknowledged to nobody. */
function readJournal(path: string): Map<string, Cosigned> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw new FabricError('state-broken', `${path}: ${(cause as Error).message}`, { cause });
  }
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const lines = whole.split('\n').slice(0, -1);
  const cosigned = new Map<string, Cosigned>();
  for (const line of lines) {
    const match = LINE.exec(line);
    if (match === null) {
      const advice = 'restore it: a witness that forgets can be shown two histories';
      throw new FabricError('state-broken', `${path} is not a witness’s state; ${advice}`);
    }
    cosigned.set(match[1]!, { size: Number(match[2]), root: match[3]! });
  }
  return cosigned;
}
