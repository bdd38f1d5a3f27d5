import type { webcrypto } from 'node:crypto';
import { type Bytes, concat, utf8 } from './bytes.ts';
import { ChunkSplitter, FINAL, framed, NOT_FINAL, type SealedChunk } from './chunks.ts';
import { EnvelopeError } from './errors.ts';
import { keyBytesOf, NONCE_BYTES, type SuiteId } from './suite.ts';

export const RESPONSE_MEDIA_TYPE = 'message/ohttp-chunked-res';

/** What the two ends of a request share, from which an answer's keys follow. */
export interface ResponseKeys {
  readonly enc: Bytes;
  readonly suite: SuiteId;
  readonly exportSecret: (label: Bytes, bytes: number) => Promise<ArrayBuffer>;
}

const LABEL = utf8('message/bhttp chunked response');
/** Far below where nonces would come again, and above any answer. */
const CHUNKS_MAX = 2 ** 32;

const saltBytes = (suite: SuiteId): number => Math.max(NONCE_BYTES, keyBytesOf(suite));

/** The AEAD of an answer's chunks: each has a nonce of its own, by its place. */
class ChunkCipher {
  readonly #key: webcrypto.CryptoKey;
  readonly #baseNonce: Bytes;
  #count = 0;

  private constructor(key: webcrypto.CryptoKey, baseNonce: Bytes) {
    this.#key = key;
    this.#baseNonce = baseNonce;
  }

  static async make({ enc, suite, exportSecret }: ResponseKeys, nonce: Bytes) {
    const secret = await exportSecret(LABEL, saltBytes(suite));
    const input = await crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveBits']);
    const salt = concat(enc, nonce);
    const derive = async (info: string, bytes: number) => {
      const parameters = { name: 'HKDF', hash: 'SHA-256', salt, info: utf8(info) };
      return new Uint8Array(await crypto.subtle.deriveBits(parameters, input, bytes * 8));
    };
    const raw = await derive('key', keyBytesOf(suite));
    const usages: webcrypto.KeyUsage[] = ['encrypt', 'decrypt'];
    const key = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, usages);
    return new ChunkCipher(key, await derive('nonce', NONCE_BYTES));
  }

  async seal(chunk: Bytes, isFinal: boolean): Promise<Bytes> {
    return new Uint8Array(await crypto.subtle.encrypt(this.#next(isFinal), this.#key, chunk));
  }

  async open({ sealed, isFinal }: SealedChunk): Promise<Bytes> {
    try {
      return new Uint8Array(await crypto.subtle.decrypt(this.#next(isFinal), this.#key, sealed));
    } catch (cause) {
      const message = 'a part of the answer is not as it was sealed, or not in its place';
      throw new EnvelopeError('not-genuine', message, { cause });
    }
  }

  #next(isFinal: boolean): webcrypto.AesGcmParams {
    if (this.#count >= CHUNKS_MAX) throw new EnvelopeError('too-large', 'too many parts');
    const iv = this.#baseNonce.slice();
    const view = new DataView(iv.buffer);
    const last = NONCE_BYTES - 4;
    view.setUint32(last, (view.getUint32(last) ^ this.#count) >>> 0);
    this.#count += 1;
    return { name: 'AES-GCM', iv, additionalData: isFinal ? FINAL : NOT_FINAL };
  }
}

/** Seals an answer part by part. Parts are sealed one after the other. */
export class ResponseSealer {
  readonly #keys: ResponseKeys;
  #cipher: ChunkCipher | undefined;

  constructor(keys: ResponseKeys) {
    this.#keys = keys;
  }

  /** What goes out for a chunk (see CHUNK_BYTES_MAX). `nonce` is for published vectors. */
  async seal(chunk: Uint8Array, isFinal: boolean, nonce?: Bytes): Promise<Bytes> {
    const begin = await this.#begin(nonce);
    const sealed = await this.#cipher!.seal(chunk as Bytes, isFinal);
    return concat(begin, framed(sealed, isFinal));
  }

  async #begin(given: Bytes | undefined): Promise<Bytes> {
    if (this.#cipher !== undefined) return new Uint8Array();
    const nonce = given ?? crypto.getRandomValues(new Uint8Array(saltBytes(this.#keys.suite)));
    this.#cipher = await ChunkCipher.make(this.#keys, nonce);
    return nonce;
  }
}

/** Opens an answer as it comes. */
export class ResponseOpener {
  readonly #keys: ResponseKeys;
  readonly #splitter = new ChunkSplitter();
  #nonce: Bytes = new Uint8Array();
  #cipher: ChunkCipher | undefined;

  constructor(keys: ResponseKeys) {
    this.#keys = keys;
  }

  /** What can be opened by now. Throws EnvelopeError. */
  async push(bytes: Uint8Array): Promise<Bytes> {
    const rest = await this.#begin(bytes);
    const opened: Bytes[] = [];
    for (const chunk of this.#splitter.push(rest)) opened.push(await this.#cipher!.open(chunk));
    return concat(...opened);
  }

  /** The last part, once the stream has ended. Throws EnvelopeError 'truncated' or another. */
  async end(): Promise<Bytes> {
    if (this.#cipher === undefined) throw new EnvelopeError('truncated', 'there is no answer');
    return this.#cipher.open(this.#splitter.end());
  }

  /** Takes the nonce from the front; what follows it remains. */
  async #begin(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#cipher !== undefined) return bytes;
    const missing = saltBytes(this.#keys.suite) - this.#nonce.length;
    this.#nonce = concat(this.#nonce, bytes.subarray(0, missing));
    if (bytes.length < missing) return new Uint8Array();
    this.#cipher = await ChunkCipher.make(this.#keys, this.#nonce);
    return bytes.subarray(missing);
  }
}
