import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { invariant } from '@bridgekeeper/bridge/threads';
import { ModelError } from '../models/errors.ts';
import { type ChunkedFile, chunkMismatch, chunkSpan } from './chunks.ts';
import { frame, SCHEMA } from './frame.ts';
import type { Seal, SealEncryption, SealedFile } from './manifest.ts';
import { SEAL_NAME } from './names.ts';

/** A user's key has this many bytes. */
export const USER_KEY_BYTES = 32;

const CIPHER = 'aes-256-gcm';
const TAG = { authTagLength: 16 };
/** Node returns each piece in memory of its own: large ones are slower, and add up. */
const PIECE_BYTES = 256 * 1024;

/** What chunks are decrypted with. Plain data, so that it can be posted to worker threads. */
export interface SealKey {
  readonly contentKey: Uint8Array;
  readonly salt: Uint8Array;
  readonly chunkBytes: number;
}

/** A key for one purpose, from the user's key and the salt of a sealing: HKDF-SHA-256. */
function derive(userKey: Uint8Array, salt: Uint8Array, purpose: string, bytes: number): Buffer {
  invariant(userKey.length === USER_KEY_BYTES, `a user's key has ${USER_KEY_BYTES} bytes`);
  return Buffer.from(hkdfSync('sha256', userKey, salt, `${SCHEMA} ${purpose}`, bytes));
}

function macOf(userKey: Uint8Array, salt: Uint8Array, root: string): Buffer {
  const key = derive(userKey, salt, 'manifest key', 32);
  return createHmac('sha256', key)
    .update(frame('mac', [Buffer.from(root, 'hex')]))
    .digest();
}

/** The encryption of a new sealing: its salt is fresh, so no key and nonce are ever used twice. */
export function newEncryption(
  userKey: Uint8Array,
  chunkBytes: number,
): { encryption: SealEncryption; key: SealKey; mac: (root: string) => string } {
  const salt = randomBytes(32);
  return {
    encryption: {
      algorithm: 'AES-256-GCM',
      salt: salt.toString('hex'),
      keyId: derive(userKey, salt, 'key id', 8).toString('hex'),
    },
    key: { contentKey: derive(userKey, salt, 'content key', 32), salt, chunkBytes },
    mac: (root) => macOf(userKey, salt, root).toString('hex'),
  };
}

/**
 * What `seal`'s chunks are decrypted with, if `userKey` (32 bytes) is its key and its manifest was
 * made with that key. Throws ModelError: `wrong-key`, or `seal-mismatch` for a manifest that is not
 * encrypted or that someone else made.
 */
export function openSealKey(seal: Seal, userKey: Uint8Array): SealKey {
  const { encryption, mac, root, chunkBytes } = seal;
  if (encryption === null || mac === null) {
    const message = `${SEAL_NAME} is of a model that is not encrypted, but a key for it is given`;
    throw new ModelError('seal-mismatch', message);
  }
  const salt = Buffer.from(encryption.salt, 'hex');
  const keyId = derive(userKey, salt, 'key id', 8);
  if (!timingSafeEqual(keyId, Buffer.from(encryption.keyId, 'hex'))) {
    throw new ModelError('wrong-key', `the model is encrypted with another key than the one given`);
  }
  if (!timingSafeEqual(macOf(userKey, salt, root), Buffer.from(mac, 'hex'))) {
    const message = `${SEAL_NAME} was not made with the given key: it was changed`;
    throw new ModelError('seal-mismatch', message);
  }
  return { contentKey: derive(userKey, salt, 'content key', 32), salt, chunkBytes };
}

/** Unique under a content key, which is used for one sealing only: u32 file, u64 chunk. */
function nonceOf(fileIndex: number, chunkIndex: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(fileIndex);
  nonce.writeBigUInt64BE(BigInt(chunkIndex), 4);
  return nonce;
}

/** What a tag binds besides the ciphertext: the model, by its salt, and the place in it. */
function contextOf({ salt, chunkBytes }: SealKey, file: ChunkedFile, chunkIndex: number): Buffer {
  const { bytes } = chunkSpan(chunkBytes, file.bytes, chunkIndex);
  return frame('chunk cipher', [salt, file.name, chunkIndex, bytes, file.bytes]);
}

/** Encrypts a chunk, which may lie at `into` itself; returns its tag, hex. */
export function encryptChunk(
  key: SealKey,
  file: ChunkedFile,
  fileIndex: number,
  chunkIndex: number,
  plaintext: Uint8Array,
  into: Uint8Array,
): string {
  const cipher = createCipheriv(CIPHER, key.contentKey, nonceOf(fileIndex, chunkIndex), TAG);
  cipher.setAAD(contextOf(key, file, chunkIndex));
  transform(cipher, plaintext, into);
  cipher.final();
  return cipher.getAuthTag().toString('hex');
}

/**
 * Decrypts a chunk of `file`, the seal's file `fileIndex`, into `into`, which must have its length
 * and may be `ciphertext` itself. Throws ModelError `seal-mismatch` with file, chunk and offset
 * where the bytes are not what was sealed in this place with this key; `into` is then all zeros.
 */
export function decryptChunk(
  key: SealKey,
  file: SealedFile,
  fileIndex: number,
  chunkIndex: number,
  ciphertext: Uint8Array,
  into: Uint8Array,
): void {
  const { bytes } = chunkSpan(key.chunkBytes, file.bytes, chunkIndex);
  const tag = file.chunks[chunkIndex]?.tag;
  invariant(tag !== undefined, 'every chunk of an encrypted model has a tag');
  invariant(ciphertext.length === bytes && into.length === bytes, 'a chunk is decrypted whole');
  const decipher = createDecipheriv(CIPHER, key.contentKey, nonceOf(fileIndex, chunkIndex), TAG);
  decipher.setAAD(contextOf(key, file, chunkIndex));
  decipher.setAuthTag(Buffer.from(tag, 'hex'));
  transform(decipher, ciphertext, into);
  try {
    decipher.final();
  } catch {
    into.fill(0);
    throw chunkMismatch(key.chunkBytes, file, chunkIndex);
  }
}

function transform(
  cipher: { update(piece: Uint8Array): Uint8Array },
  from: Uint8Array,
  into: Uint8Array,
): void {
  for (let at = 0; at < from.length; at += PIECE_BYTES) {
    into.set(cipher.update(from.subarray(at, at + PIECE_BYTES)), at);
  }
}
