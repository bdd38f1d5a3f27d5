import {
  AttestError,
  canonicalBytes,
  isSignedByLog,
  type NoteKey,
  readCheckpoint,
  readLogProof,
  readSignedNote,
  seenByWitness,
  verifyLogProof,
} from '@bridgekeeper/attest/log';
import { FabricError } from '../errors.ts';
import type { LogEntry } from './entries.ts';
import { Frontier, leafHash } from './tree.ts';

/** Whom a reader trusts for one log. */
export interface ReaderTrust {
  readonly log: NoteKey;
  readonly witnesses: readonly NoteKey[];
  readonly witnessesMin: number;
}

export interface SeenCheckpoint {
  readonly size: number;
  readonly witnesses: readonly { readonly name: string; readonly seenAtSeconds: number }[];
}

/**
 * That these are the entries of the log from its first on, as its checkpoint says, and that each
 * earlier checkpoint, or proof of an entry, which the reader kept was of the same log. Throws
 * FabricError 'log-broken'.
 */
export async function verifyEntries(
  entries: readonly LogEntry[],
  checkpoint: string,
  earlier: readonly string[],
  trust: ReaderTrust,
): Promise<SeenCheckpoint> {
  const known = await Promise.all(earlier.map((kept) => readKept(kept, entries, trust)));
  const last = await readSigned(checkpoint, trust);
  if (last.size > entries.length) {
    throw broken(`${entries.length} entries of the ${last.size} that were signed for`);
  }
  const bySize = new Map<number, string[]>();
  for (const { size, root } of [...known, last]) {
    bySize.set(size, [...(bySize.get(size) ?? []), root]);
  }
  const tree = new Frontier();
  const check = () => {
    for (const root of bySize.get(tree.size) ?? []) {
      if (root === tree.root().toString('hex')) continue;
      throw broken(`the first ${tree.size} entries are not those that were signed for`);
    }
  };
  check();
  for (const entry of entries.slice(0, last.size)) {
    tree.add(leafHash(canonicalBytes(entry)));
    check();
  }
  const longest = known.find(({ size }) => size > last.size);
  if (longest !== undefined) throw broken(`it had ${longest.size} entries, and has ${last.size}`);
  if (last.witnesses.length < trust.witnessesMin) {
    throw broken(`${last.witnesses.length} witnesses saw it, ${trust.witnessesMin} must have`);
  }
  return { size: last.size, witnesses: last.witnesses };
}

const PROOF = 'c2sp.org/tlog-proof@';

/** A checkpoint, or the one in a proof, whose entry must then be the one at its place. */
async function readKept(kept: string, entries: readonly LogEntry[], trust: ReaderTrust) {
  if (!kept.startsWith(PROOF)) return readSigned(kept, trust);
  try {
    const proof = readLogProof(kept);
    const entry = entries[proof.index];
    if (entry === undefined)
      throw broken(`it has no entry ${proof.index}, of which you have proof`);
    await verifyLogProof(canonicalBytes(entry), proof, {
      ...trust,
      witnesses: [],
      witnessesMin: 0,
    });
    return await readSigned(kept.slice(kept.indexOf('\n\n') + 2), trust);
  } catch (cause) {
    if (!(cause instanceof AttestError)) throw cause;
    throw new FabricError('log-broken', `the log: a proof that you kept: ${cause.message}`, {
      cause,
    });
  }
}

async function readSigned(note: string, { log, witnesses }: ReaderTrust) {
  try {
    const signed = readSignedNote(note, 'the checkpoint');
    const { origin, size, root } = readCheckpoint(signed);
    if (origin !== log.name) throw broken(`it is of ${JSON.stringify(origin)}, not ${log.name}`);
    if (!(await isSignedByLog(signed, log))) throw broken(`${log.name} did not sign it`);
    const seen = new Map<string, { name: string; seenAtSeconds: number }>();
    for (const key of witnesses) {
      const seenAtSeconds = await seenByWitness(signed, key);
      if (seenAtSeconds === null) continue;
      seen.set(key.publicKeyHex, { name: key.name, seenAtSeconds });
    }
    return { size, root: Buffer.from(root).toString('hex'), witnesses: [...seen.values()] };
  } catch (cause) {
    if (cause instanceof FabricError) throw cause;
    throw new FabricError('log-broken', `the checkpoint: ${(cause as Error).message}`, { cause });
  }
}

function broken(why: string): FabricError {
  return new FabricError('log-broken', `the log: ${why}`);
}
