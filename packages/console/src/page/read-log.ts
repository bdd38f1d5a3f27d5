/// <reference lib="dom" />
import {
  readCheckpoint,
  readLogProof,
  readNoteKey,
  readSignedNote,
  verifyLogProof,
} from '@bridgekeeper/attest/log';

/** One who signed a checkpoint, as it says: nothing of it is verified. */
export interface Signer {
  readonly name: string;
  readonly keyId: string;
  /** When it saw it, in ms since 1970; null: it is the log itself. */
  readonly seenMs: number | null;
}

export interface Head {
  readonly origin: string;
  readonly size: number;
  readonly rootHex: string;
  readonly signers: readonly Signer[];
}

const hex = (bytes: Uint8Array) =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
const COSIGNATURE_BYTES = 72;

/** Reads a checkpoint, or the one in a proof. Throws Error. */
export function headOf(text: string): Head {
  const note = text.startsWith('c2sp.org/tlog-proof@')
    ? readLogProof(text).note
    : readSignedNote(text, 'the checkpoint');
  const { origin, size, root } = readCheckpoint(note);
  const signers = note.signatures.map(({ name, keyId, signature }) => {
    const isWitness = signature.length === COSIGNATURE_BYTES;
    const view = new DataView(signature.buffer, signature.byteOffset);
    const seenMs = isWitness ? Number(view.getBigUint64(0)) * 1000 : null;
    return { name, keyId: hex(keyId), seenMs };
  });
  return { origin, size, rootHex: hex(root), signers };
}

/** Which entry a proof is of; null: it is no proof. */
export function indexOf(text: string): number | null {
  return text.startsWith('c2sp.org/tlog-proof@') ? readLogProof(text).index : null;
}

/** Verifies here that an entry is in the log with that key. Throws Error that says why not. */
export async function verifyHere(
  entry: Uint8Array<ArrayBuffer>,
  proof: string,
  keys: readonly string[],
): Promise<string> {
  const read = await Promise.all(keys.map(readNoteKey));
  const log = read.find(({ kind }) => kind === 'log');
  if (log === undefined) throw new Error('Give the key of the log (name+id+key).');
  const witnesses = read.filter(({ kind }) => kind === 'witness');
  const trust = { log, witnesses, witnessesMin: witnesses.length };
  const { index, size, witnesses: seen } = await verifyLogProof(entry, readLogProof(proof), trust);
  const by = seen.map(({ name }) => name).join(', ');
  return `Entry ${index} is in the log of ${size}${by === '' ? '' : `, seen by ${by}`}.`;
}

const LENGTH_BYTES = 2;

/** The entries of a bundle, as they were logged. Throws Error for one that is cut off. */
export function entriesOf(bundle: Uint8Array<ArrayBuffer>): readonly Uint8Array<ArrayBuffer>[] {
  const entries: Uint8Array<ArrayBuffer>[] = [];
  let at = 0;
  while (at < bundle.length) {
    if (at + LENGTH_BYTES > bundle.length) throw new Error('The entries are cut off.');
    const length = (bundle[at]! << 8) | bundle[at + 1]!;
    at += LENGTH_BYTES;
    if (at + length > bundle.length) throw new Error('The entries are cut off.');
    entries.push(bundle.slice(at, at + length));
    at += length;
  }
  return entries;
}
