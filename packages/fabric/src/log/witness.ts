import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { isSignedByLog, type NoteKey, readCheckpoint, readSignedNote } from '@bridgekeeper/attest';
import { z } from 'zod';
import { FabricError } from '../errors.ts';
import type { NoteSigner } from './note.ts';
import { type Hash, isConsistent } from './tree.ts';

const REQUEST_CHARACTERS_MAX = 64 * 1024;
const PATH_MAX = 63;

/** What a witness has cosigned last, by origin. */
export interface WitnessStore {
  read(): Readonly<Record<string, { readonly size: number; readonly root: string }>>;
  /** Durable when it returns: a witness that forgets can be shown two histories. */
  write(origin: string, size: number, root: string): void;
}

export interface WitnessAnswer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422 | 500;
  readonly type: 'text/plain' | 'text/x.tlog.size';
  readonly body: string;
}

/**
 * C2SP tlog-witness: cosigns a checkpoint of a log that it knows if it goes on from the one that it
 * cosigned last. It never blocks between looking and writing, so no two requests are between.
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
    const known = this.#store.read()[origin] ?? { size: 0, root: '' };
    if (old !== known.size) {
      return { status: 409, type: 'text/x.tlog.size', body: `${known.size}\n` };
    }
    const before = { size: known.size, root: Buffer.from(known.root, 'hex') };
    if (!isConsistent(before, { size, root: Buffer.from(root) }, path)) {
      return answer(422, 'it does not go on from what was cosigned');
    }
    try {
      this.#store.write(origin, size, Buffer.from(root).toString('hex'));
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

/** What a log sends to a witness that has cosigned `old` entries. */
export function witnessRequest(old: number, path: readonly Hash[], checkpoint: string): string {
  const lines = path.map((hash) => `${hash.toString('base64')}\n`).join('');
  return `old ${old}\n${lines}\n${checkpoint}`;
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

const storeSchema = z.record(
  z.string(),
  z.strictObject({ size: z.int().min(0), root: z.string().regex(/^[0-9a-f]{64}$/) }),
);

/** One JSON file, replaced by renaming. Throws FabricError 'state-broken' or what the disk says. */
export function witnessFile(path: string): WitnessStore {
  let known = readStore(path);
  return {
    read: () => known,
    write(origin, size, root) {
      const next = { ...known, [origin]: { size, root } };
      const fresh = `${path}.new`;
      writeFileSync(fresh, JSON.stringify(next), { mode: 0o600 });
      const fd = openSync(fresh, 'r');
      try {
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(fresh, path);
      known = next;
    },
  };
}

function readStore(path: string): z.infer<typeof storeSchema> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new FabricError('state-broken', `${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return storeSchema.parse(JSON.parse(text));
  } catch (cause) {
    const advice = 'restore it: a witness that forgets can be shown two histories';
    throw new FabricError('state-broken', `${path} is not a witness’s state; ${advice}`, { cause });
  }
}
