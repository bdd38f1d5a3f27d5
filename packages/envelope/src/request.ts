import type { webcrypto } from 'node:crypto';
import type { RecipientContext, SenderContext } from '@hpke/core';
import { ByteReader, type Bytes, concat } from './bytes.ts';
import { ChunkSplitter, cutIntoChunks, FINAL, framed, NOT_FINAL } from './chunks.ts';
import { EnvelopeError } from './errors.ts';
import { KEY_BYTES, type KeyConfig } from './key-config.ts';
import { type ResponseKeys, ResponseOpener, ResponseSealer } from './response.ts';
import { headerOf, isSpoken, openSuite, requestInfo, type SuiteId } from './suite.ts';

export const REQUEST_MEDIA_TYPE = 'message/ohttp-chunked-req';

/** A request in its envelope, and what opens the answer to it. */
export interface SealedRequest {
  readonly message: Bytes;
  readonly answer: ResponseOpener;
}

/**
 * Encrypts a request to a key: RFC 9458 and its chunked form, HPKE in base mode. `ephemeral` is for
 * published vectors; everybody else gets a fresh one. Throws EnvelopeError 'unsupported'.
 */
export async function sealRequest(
  config: KeyConfig,
  request: Uint8Array,
  ephemeral?: webcrypto.CryptoKeyPair,
): Promise<SealedRequest> {
  const algorithms = config.algorithms.find(isSpoken);
  if (algorithms === undefined) {
    throw new EnvelopeError('unsupported', 'the key is for no AEAD that is spoken here');
  }
  const suiteId = { kem: config.kem, ...algorithms };
  const suite = openSuite(suiteId);
  const header = headerOf(config.id, suiteId);
  const recipientPublicKey = await suite.kem.deserializePublicKey(config.publicKey);
  const info = requestInfo(header);
  const ekm = ephemeral === undefined ? {} : { ekm: ephemeral };
  const context = await suite.createSenderContext({ recipientPublicKey, info, ...ekm });
  const parts: Bytes[] = [];
  for (const [chunk, isFinal] of cutIntoChunks(request)) {
    const aad = isFinal ? FINAL : NOT_FINAL;
    parts.push(framed(new Uint8Array(await context.seal(chunk, aad)), isFinal));
  }
  const enc = new Uint8Array(context.enc);
  const message = concat(header, enc, ...parts);
  return { message, answer: new ResponseOpener(responseKeys(context, enc, suiteId)) };
}

/** A request out of its envelope. */
export interface OpenedRequest {
  readonly request: Bytes;
  /** What tells this envelope from every other one: its encapsulated key. */
  readonly enc: Bytes;
  readonly answer: ResponseSealer;
}

/** A key that requests are encrypted to, with its secret half. */
export interface RecipientKey {
  readonly config: KeyConfig;
  readonly keys: webcrypto.CryptoKeyPair;
}

/** Opens an envelope with the key that it names. Throws EnvelopeError. */
export async function openRequest(
  message: Uint8Array,
  keyOf: (id: number) => RecipientKey | undefined,
): Promise<OpenedRequest> {
  const reader = new ByteReader(message);
  const id = reader.u8();
  const suiteId = { kem: reader.u16(), kdf: reader.u16(), aead: reader.u16() };
  const key = keyOf(id);
  if (key === undefined || !isOffered(key.config, suiteId)) {
    throw new EnvelopeError('unsupported', 'it is to no key of this server');
  }
  const enc = reader.take(KEY_BYTES.get(suiteId.kem)!);
  const context = await setUp(key, suiteId, enc);
  const request = await openChunks(context, reader.take(reader.rest));
  return { request, enc, answer: new ResponseSealer(responseKeys(context, enc, suiteId)) };
}

function isOffered({ kem, algorithms }: KeyConfig, suite: SuiteId): boolean {
  const isOne = algorithms.some(({ kdf, aead }) => kdf === suite.kdf && aead === suite.aead);
  return kem === suite.kem && isOne;
}

async function setUp({ config, keys }: RecipientKey, suiteId: SuiteId, enc: Bytes) {
  const info = requestInfo(headerOf(config.id, suiteId));
  try {
    return await openSuite(suiteId).createRecipientContext({ recipientKey: keys, enc, info });
  } catch (cause) {
    throw new EnvelopeError('not-genuine', 'its key is none', { cause });
  }
}

async function openChunks(context: RecipientContext, bytes: Bytes): Promise<Bytes> {
  const splitter = new ChunkSplitter();
  const opened: Bytes[] = [];
  const open = async (sealed: Bytes, aad: Bytes) => {
    try {
      opened.push(new Uint8Array(await context.open(sealed, aad)));
    } catch (cause) {
      throw new EnvelopeError('not-genuine', 'a part of it was not sealed with its key', { cause });
    }
  };
  for (const { sealed } of splitter.push(bytes)) await open(sealed, NOT_FINAL);
  await open(splitter.end().sealed, FINAL);
  return concat(...opened);
}

function responseKeys(
  context: SenderContext | RecipientContext,
  enc: Bytes,
  suite: SuiteId,
): ResponseKeys {
  return { enc, suite, exportSecret: (label, bytes) => context.export(label, bytes) };
}
