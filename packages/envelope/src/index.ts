// Requests and answers that only their two ends can read, whoever carries them: Oblivious HTTP
// (RFC 9458) in its chunked form, over HPKE (RFC 9180), with Binary HTTP (RFC 9292) inside.

export {
  type BinaryRequest,
  encodeContent,
  encodeRequest,
  encodeResponseHead,
  RESPONSE_END,
  ResponseReader,
  readRequest,
} from './binary-http.ts';
export { CHUNK_BYTES_MAX } from './chunks.ts';
export { EnvelopeError } from './errors.ts';
export {
  AEAD_AES_256_GCM,
  encodeKeyConfigs,
  KDF_SHA256,
  KEM_P256,
  KEYS_MEDIA_TYPE,
  type KeyConfig,
  readKeyConfigs,
} from './key-config.ts';
export {
  type OpenedRequest,
  openRequest,
  REQUEST_MEDIA_TYPE,
  type RecipientKey,
  sealRequest,
} from './request.ts';
export { RESPONSE_MEDIA_TYPE, type ResponseOpener, type ResponseSealer } from './response.ts';
