import { type Bytes, concatBytes, equalBytes, fromBase64, toHex, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { verifyEd25519 } from '../core/ed25519.ts';
import { AttestError, demand } from '../core/errors.ts';

const NOTE_CHARACTERS_MAX = 256 * 1024;
const SIGNATURES_MAX = 64;
const KEY_ID_BYTES = 4;
const ED25519_BYTES = 64;

/** Text with the signatures of several keys (C2SP signed-note). Nothing of it is verified yet. */
export interface SignedNote {
  /** With its last newline: what the signatures are over. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

export interface NoteSignature {
  readonly name: string;
  /** 4 bytes. */
  readonly keyId: Bytes;
  readonly signature: Bytes;
}

/** A log signs its checkpoints; a witness says when it saw one that goes on from those before. */
export type NoteKeyKind = 'log' | 'witness';

/** A public key that a verifier was configured with (a vkey). */
export interface NoteKey {
  readonly kind: NoteKeyKind;
  readonly name: string;
  readonly keyId: Bytes;
  /** Ed25519, 32 bytes in hexadecimal. */
  readonly publicKeyHex: string;
}

const KINDS: Readonly<Record<number, NoteKeyKind>> = { 1: 'log', 4: 'witness' };

/** Reads `name+id+base64`. Throws AttestError 'malformed' or 'unsupported-algorithm'. */
export async function readNoteKey(text: string): Promise<NoteKey> {
  const what = `the key ${JSON.stringify(text.slice(0, 80))}`;
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/.exec(text);
  demand(match !== null, 'malformed', `${what} is not name+id+key`);
  const [, name, id, encoded] = match as unknown as [string, string, string, string];
  const key = fromBase64(encoded, what);
  const kind = KINDS[key[0] ?? 0];
  demand(kind !== undefined, 'unsupported-algorithm', `${what} is of type ${key[0]}`);
  demand(key.length === 33, 'malformed', `${what} has ${key.length - 1} bytes, Ed25519 has 32`);
  const made = await digest('SHA-256', concatBytes(utf8(`${name}\n`), key));
  const keyId = made.slice(0, KEY_ID_BYTES);
  demand(toHex(keyId) === id, 'malformed', `${what} has an id that is not its own`);
  return { kind, name, keyId, publicKeyHex: toHex(key.subarray(1)) };
}

/** Reads a note. Throws AttestError 'malformed' or 'too-large'. */
export function readSignedNote(note: string, what: string): SignedNote {
  demand(note.length <= NOTE_CHARACTERS_MAX, 'too-large', `${what} has ${note.length} characters`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  demand(!/[\x00-\x09\x0b-\x1f]/.test(note), 'malformed', `${what} has control characters`);
  const cut = note.lastIndexOf('\n\n');
  demand(cut > 0 && note.endsWith('\n'), 'malformed', `${what} is no signed note`);
  const lines = note.slice(cut + 2, -1).split('\n');
  demand(lines.length <= SIGNATURES_MAX, 'too-large', `${what} has ${lines.length} signatures`);
  const signatures = lines.map((line) => {
    const match = /^\u2014 ([^+\s]+) (\S+)$/.exec(line);
    demand(match !== null, 'malformed', `${what} has a line that is no signature`);
    const bytes = fromBase64(match[2]!, `a signature of ${what}`);
    demand(bytes.length > KEY_ID_BYTES, 'malformed', `${what} has an empty signature`);
    return {
      name: match[1]!,
      keyId: bytes.slice(0, KEY_ID_BYTES),
      signature: bytes.slice(KEY_ID_BYTES),
    };
  });
  return { text: note.slice(0, cut + 1), signatures };
}

/** The note's signature of that key; null: there is none. */
function signatureOf({ signatures }: SignedNote, { name, keyId }: NoteKey): Bytes | null {
  const of = signatures.find((one) => one.name === name && equalBytes(one.keyId, keyId));
  return of?.signature ?? null;
}

/**
 * Whether the log with that key signed the note. Throws AttestError 'signature-invalid' for a
 * signature that does not hold.
 */
export async function isSignedByLog(note: SignedNote, key: NoteKey): Promise<boolean> {
  const signature = signatureOf(note, key);
  if (signature === null) return false;
  await demandSignature(key, signature, utf8(note.text));
  return true;
}

/**
 * When the witness with that key saw the note, in seconds since 1970; null: it did not sign it.
 * Throws AttestError 'signature-invalid' for a signature that does not hold.
 */
export async function seenByWitness(note: SignedNote, key: NoteKey): Promise<number | null> {
  const signature = signatureOf(note, key);
  if (signature === null) return null;
  demand(
    signature.length === 8 + ED25519_BYTES,
    'signature-invalid',
    `${key.name} signed with ${signature.length} bytes, a cosignature has 72`,
  );
  const seconds = Number(new DataView(signature.buffer).getBigUint64(0));
  const isTime = Number.isSafeInteger(seconds);
  demand(isTime, 'signature-invalid', `${key.name} signed at no time that there is`);
  const message = utf8(`cosignature/v1\ntime ${seconds}\n${note.text}`);
  await demandSignature(key, signature.subarray(8), message);
  return seconds;
}

async function demandSignature(key: NoteKey, signature: Bytes, message: Bytes): Promise<void> {
  const holds = await verifyEd25519(key.publicKeyHex, toHex(signature), message);
  if (holds) return;
  // Of a key that we know: who makes one that does not hold is up to something.
  throw new AttestError('signature-invalid', `the signature of ${key.name} does not hold`);
}
