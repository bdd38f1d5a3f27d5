import { type Bytes, concatBytes, equalBytes, fromBase64 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import {
  isSignedByLog,
  type NoteKey,
  readSignedNote,
  type SignedNote,
  seenByWitness,
} from './signed-note.ts';

/** That something is in a transparency log (C2SP tlog-proof). Nothing of it is verified yet. */
export interface LogProof {
  readonly index: number;
  /** Hashes from the entry's sibling up to a child of the root. */
  readonly path: readonly Bytes[];
  readonly note: SignedNote;
  readonly checkpoint: Checkpoint;
}

/** How long a log is, and what it holds (C2SP tlog-checkpoint). */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Bytes;
}

/** Whom a verifier trusts: one log, and enough of these witnesses that it shows all the same. */
export interface LogTrust {
  readonly log: NoteKey;
  readonly witnesses: readonly NoteKey[];
  readonly witnessesMin: number;
}

/** What follows from a proof that holds. */
export interface LoggedEntry {
  readonly origin: string;
  readonly index: number;
  readonly size: number;
  readonly witnesses: readonly { readonly name: string; readonly seenAtSeconds: number }[];
}

const HEADER = 'c2sp.org/tlog-proof@v1';
const HASH_BYTES = 32;
const PATH_MAX = 63;
const WHAT = 'the proof';

/** Reads a proof. Throws AttestError 'malformed', 'too-large' or 'unsupported-version'. */
export function readLogProof(text: string): LogProof {
  const cut = text.indexOf('\n\n');
  demand(cut > 0, 'malformed', `${WHAT} has no checkpoint`);
  const lines = text.slice(0, cut).split('\n');
  demand(lines.shift() === HEADER, 'unsupported-version', `${WHAT} does not begin with ${HEADER}`);
  // Nothing vouches for the extra data, and nothing here has a use for it.
  if (lines[0]?.startsWith('extra ')) fromBase64(lines.shift()!.slice(6), `${WHAT}'s extra data`);
  const index = /^index (0|[1-9]\d*)$/.exec(lines.shift() ?? '')?.[1];
  demand(index !== undefined, 'malformed', `${WHAT} has no index`);
  demand(lines.length <= PATH_MAX, 'too-large', `${WHAT} has ${lines.length} hashes`);
  const path = lines.map((line) => hashOf(line, `a hash of ${WHAT}`));
  const note = readSignedNote(text.slice(cut + 2), `${WHAT}'s checkpoint`);
  return { index: exact(index, 'index'), path, note, checkpoint: readCheckpoint(note) };
}

/** What a log signed, or a witness. Throws AttestError 'malformed' or 'too-large'. */
export function readCheckpoint({ text }: SignedNote): Checkpoint {
  // Lines of the log's own may follow: no promise is made about them.
  const [origin, size, root] = text.split('\n');
  const isWhole = origin !== undefined && origin !== '' && root !== undefined;
  demand(isWhole, 'malformed', `${WHAT}'s checkpoint is not origin, size and root`);
  demand(/^(0|[1-9]\d*)$/.test(size!), 'malformed', `${WHAT}'s checkpoint has no size`);
  return { origin, size: exact(size!, 'size'), root: hashOf(root, `the root of ${WHAT}`) };
}

function exact(digits: string, name: string): number {
  const value = Number(digits);
  demand(Number.isSafeInteger(value), 'too-large', `${WHAT} has the ${name} ${digits}`);
  return value;
}

function hashOf(text: string, what: string): Bytes {
  const bytes = fromBase64(text, what);
  demand(bytes.length === HASH_BYTES, 'malformed', `${what} has ${bytes.length} bytes, not 32`);
  return bytes;
}

/**
 * Verifies, without asking anybody, that `entry` is in the log that is trusted and that enough of
 * the witnesses saw the log so. Throws AttestError: 'identity-mismatch' for another log,
 * 'signature-invalid', 'set-incomplete' for too few witnesses, 'binding-mismatch' for another
 * entry.
 */
export async function verifyLogProof(
  entry: Bytes,
  { index, path, note, checkpoint }: LogProof,
  { log, witnesses, witnessesMin }: LogTrust,
): Promise<LoggedEntry> {
  const { origin, size, root } = checkpoint;
  demand(log.kind === 'log', 'malformed', `the key of ${log.name} is not that of a log`);
  demand(
    origin === log.name,
    'identity-mismatch',
    `${WHAT} is of the log ${JSON.stringify(origin)}, trusted is ${JSON.stringify(log.name)}`,
  );
  const isSigned = await isSignedByLog(note, log);
  demand(isSigned, 'signature-invalid', `${log.name} did not sign the checkpoint`);
  const seen = await witnessesOf(note, witnesses);
  demand(
    seen.length >= witnessesMin,
    'set-incomplete',
    `${seen.length} of the witnesses that are trusted saw the log so, ${witnessesMin} must have`,
  );
  const isThere = index < size;
  demand(isThere, 'binding-mismatch', `entry ${index} is beyond the ${size} of the checkpoint`);
  const computed = await rootOf(await leafHash(entry), index, size, path);
  const isSame = computed !== null && equalBytes(computed, root);
  demand(isSame, 'binding-mismatch', `entry ${index} of ${origin} is another one`);
  return { origin, index, size, witnesses: seen };
}

/** Each once, whatever the same key is called. */
async function witnessesOf(note: SignedNote, witnesses: readonly NoteKey[]) {
  const seen: { name: string; seenAtSeconds: number }[] = [];
  const counted = new Set<string>();
  for (const key of witnesses) {
    demand(key.kind === 'witness', 'malformed', `the key of ${key.name} is not that of a witness`);
    const seenAtSeconds = await seenByWitness(note, key);
    if (seenAtSeconds === null || counted.has(key.publicKeyHex)) continue;
    counted.add(key.publicKeyHex);
    seen.push({ name: key.name, seenAtSeconds });
  }
  return seen;
}

/** RFC 6962, section 2.1: leaves and nodes cannot be taken for each other. */
const leafHash = (entry: Bytes) => digest('SHA-256', concatBytes(Uint8Array.of(0), entry));
const nodeHash = (left: Bytes, right: Bytes) =>
  digest('SHA-256', concatBytes(Uint8Array.of(1), left, right));

/**
 * The root of a tree of `size` in which `leaf` is at `index`, along its path (RFC 9162, section
 * 2.1.3.2); null: the path is not as long as it must be.
 */
async function rootOf(
  leaf: Bytes,
  index: number,
  size: number,
  path: readonly Bytes[],
): Promise<Bytes | null> {
  let hash = leaf;
  // Positions of the node and of the last one on its level. They may have more than 32 bits.
  let node = BigInt(index);
  let last = BigInt(size - 1);
  for (const sibling of path) {
    if (last === 0n) return null;
    if ((node & 1n) === 1n || node === last) {
      hash = await nodeHash(sibling, hash);
      // On the right edge of an incomplete level the node goes up alone until it has a sibling.
      while ((node & 1n) === 0n && node !== 0n) {
        node >>= 1n;
        last >>= 1n;
      }
    } else {
      hash = await nodeHash(hash, sibling);
    }
    node >>= 1n;
    last >>= 1n;
  }
  return last === 0n ? hash : null;
}
