import type { webcrypto } from 'node:crypto';
import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  encodeContent,
  encodeRequest,
  encodeResponseHead,
  RESPONSE_END,
  ResponseReader,
  readRequest,
} from './binary-http.ts';
import { type Bytes, concat, utf8 } from './bytes.ts';
import { EnvelopeError } from './errors.ts';
import {
  AEAD_AES_256_GCM,
  encodeKeyConfigs,
  KDF_SHA256,
  KEM_P256,
  KEM_X25519,
  type KeyConfig,
  readKeyConfig,
  readKeyConfigs,
} from './key-config.ts';
import { openRequest, type RecipientKey, sealRequest } from './request.ts';

const hex = (text: string): Bytes => new Uint8Array(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'none',
    (error: unknown) => (error instanceof EnvelopeError ? error.code : error),
  );

async function keyPair(
  kem: DhkemX25519HkdfSha256,
  secret: string,
): Promise<webcrypto.CryptoKeyPair> {
  const privateKey = await kem.deserializePrivateKey(hex(secret));
  const jwk = await crypto.subtle.exportKey('jwk', privateKey);
  const publicKey = await kem.deserializePublicKey(Buffer.from(jwk.x!, 'base64url'));
  return { privateKey, publicKey };
}

describe('published vectors', () => {
  test('RFC 9180, A.1.1: what is built on computes HPKE', async () => {
    const kem = new DhkemX25519HkdfSha256();
    const suite = new CipherSuite({ kem, kdf: new HkdfSha256(), aead: new Aes128Gcm() });
    const ephemeral = await keyPair(
      kem,
      '52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736',
    );
    const context = await suite.createSenderContext({
      recipientPublicKey: await kem.deserializePublicKey(
        hex('3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d'),
      ),
      info: hex('4f6465206f6e2061204772656369616e2055726e'),
      ekm: ephemeral,
    });
    const text = hex('4265617574792069732074727574682c20747275746820626561757479');
    expect(hexOf(new Uint8Array(await context.seal(text, utf8('Count-0'))))).toBe(
      'f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9' +
        '6d8770ac83d07bea87e13c512a',
    );
    expect(hexOf(new Uint8Array(await context.export(utf8('TestContext'), 32)))).toBe(
      'e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931',
    );
  });

  test('RFC 9458, appendix A: a key configuration', () => {
    const config = readKeyConfig(
      hex(`01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e798155
        00080001000100010003`),
    );
    expect(config).toMatchObject({ id: 1, kem: KEM_X25519 });
    expect(config!.algorithms).toEqual([
      { kdf: 1, aead: 1 },
      { kdf: 1, aead: 3 },
    ]);
  });

  // draft-ietf-ohai-chunked-ohttp-08, appendix A.
  const secret = '1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698';
  const config = readKeyConfig(
    hex(`010020668eb21aace159803974a4c67f08b4152d29bed10735fd08f98ccdd6fe
      09570800080001000100010003`),
  )!;
  const plain = '00034745540568747470730b6578616d706c652e636f6d012f';
  const enc = '8811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032';
  const sealedRequest = hex(`01002000010001 ${enc}
    1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f
    1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311
    001c6c1395d0ef7c1022297966307b8a7f`);
  const responseNonce = 'bcce7f4cb921309ba5d62edf1769ef09';
  const sealedResponse = `${responseNonce}
    1179bf1cc87fa0e2c02de4546945aa3d1e48
    12b348b5bd4c594c16b6170b07b475845d1f32
    00ed9d8a796617a5b27265f4d73247f639`;

  async function opened() {
    const keys = await keyPair(new DhkemX25519HkdfSha256(), secret);
    return openRequest(sealedRequest, (id) => (id === 1 ? { config, keys } : undefined));
  }

  test('the chunked draft: a request opens', async () => {
    const { request, enc: shown } = await opened();
    expect([hexOf(request), hexOf(shown)]).toEqual([plain, enc]);
  });

  test('the chunked draft: an answer is sealed, chunk by chunk', async () => {
    const { answer } = await opened();
    const parts = [
      await answer.seal(hex('01'), false, hex(responseNonce)),
      await answer.seal(hex('40c8'), false),
      await answer.seal(hex(''), true),
    ];
    expect(hexOf(concat(...parts))).toBe(sealedResponse.replace(/\s/g, ''));
  });

  test('the chunked draft: a client with its ephemeral key opens that answer', async () => {
    const ephemeral = await keyPair(
      new DhkemX25519HkdfSha256(),
      'b26d565f3f875ed480d1abced3d665159650c99174fd0b124ac4bda0c64ae324',
    );
    const { message, answer } = await sealRequest(config, hex(plain), ephemeral);
    expect(hexOf(message.slice(7, 39))).toBe(enc);
    const content = await answer.push(hex(sealedResponse));
    expect(hexOf(concat(content, await answer.end()))).toBe('0140c8');
  });
});

async function makeKey(id = 7): Promise<RecipientKey> {
  const algorithm = { name: 'ECDH', namedCurve: 'P-256' };
  const keys = await crypto.subtle.generateKey(algorithm, false, ['deriveBits']);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey));
  const algorithms = [{ kdf: KDF_SHA256, aead: AEAD_AES_256_GCM }];
  return { config: { id, kem: KEM_P256, publicKey, algorithms }, keys };
}

describe('an envelope', () => {
  test('carries requests and answers of any size, cut anywhere', async () => {
    const key = await makeKey();
    const sizes = fc.nat(50_000);
    await fc.assert(
      fc.asyncProperty(sizes, sizes, fc.integer({ min: 1, max: 20_000 }), async (a, b, step) => {
        const request = crypto.getRandomValues(new Uint8Array(a));
        const sealed = await sealRequest(key.config, request);
        const opened = await openRequest(sealed.message, () => key);
        expect(Buffer.compare(opened.request, request)).toBe(0);
        const content = crypto.getRandomValues(new Uint8Array(b));
        const parts: Bytes[] = [];
        for (let at = 0; at < b; at += 16_384) {
          parts.push(await opened.answer.seal(content.slice(at, at + 16_384), false));
        }
        parts.push(await opened.answer.seal(new Uint8Array(), true));
        const stream = concat(...parts);
        const got: Bytes[] = [];
        for (let at = 0; at < stream.length; at += step) {
          got.push(await sealed.answer.push(stream.slice(at, at + step)));
        }
        got.push(await sealed.answer.end());
        expect(Buffer.compare(concat(...got), content)).toBe(0);
      }),
      { numRuns: 20 },
    );
  });

  test('opens to nothing once a single byte of it was changed, cut or added', async () => {
    const key = await makeKey();
    const { message } = await sealRequest(key.config, utf8('the very secret'));
    const open = (bytes: Uint8Array) =>
      codeOf(openRequest(bytes, (id) => (id === 7 ? key : undefined)));
    expect(await open(message)).toBe('none');
    for (let at = 0; at < message.length; at += 1) {
      const changed = message.slice();
      changed[at]! ^= 1;
      expect([at, await open(changed)]).not.toEqual([at, 'none']);
      expect(await open(message.slice(0, at))).not.toBe('none');
    }
    expect(await open(concat(message, utf8('x')))).toBe('not-genuine');
    expect(await codeOf(openRequest(message, () => undefined))).toBe('unsupported');
  });

  test('is for its own key alone', async () => {
    const [one, two] = [await makeKey(), await makeKey()];
    const { message } = await sealRequest(one.config, utf8('secret'));
    expect(await codeOf(openRequest(message, () => two))).toBe('not-genuine');
  });

  test('shows an answer whose parts are missing, swapped, repeated or changed', async () => {
    const key = await makeKey();
    async function exchange() {
      const { message, answer } = await sealRequest(key.config, utf8('question'));
      const opened = await openRequest(message, () => key);
      const seal = (text: string, isFinal = false) => opened.answer.seal(utf8(text), isFinal);
      const [head, one, two, end] = [
        await seal('0'),
        await seal('1'),
        await seal('2'),
        await seal('', true),
      ];
      const read = async (...parts: Bytes[]) => {
        const text = Buffer.from(await answer.push(concat(...parts))).toString();
        return text + Buffer.from(await answer.end()).toString();
      };
      return { head, one, two, end, read };
    }
    const good = await exchange();
    expect(await good.read(good.head, good.one, good.two, good.end)).toBe('012');
    type Parts = Awaited<ReturnType<typeof exchange>>;
    const flip = (bytes: Bytes) =>
      bytes.map((byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte));
    const cases: [(parts: Parts) => Bytes[], string][] = [
      [({ head, one, two }) => [head, one, two], 'truncated'],
      [({ head }) => [head], 'truncated'],
      [() => [], 'truncated'],
      [({ head, one, end }) => [head, one, end], 'not-genuine'],
      [({ head, one, two, end }) => [head, two, one, end], 'not-genuine'],
      [({ head, one, two, end }) => [head, one, one, two, end], 'not-genuine'],
      [({ head, one, two, end }) => [head, one, flip(two), end], 'not-genuine'],
      [({ head, one, two, end }) => [head, one, two, flip(end)], 'not-genuine'],
      // A part that was not the last, made to look as if it were.
      [({ head, one, two }) => [head, one, concat(Uint8Array.of(0), two.slice(1))], 'not-genuine'],
      [() => [good.head, good.one, good.two, good.end], 'not-genuine'],
    ];
    for (const [tamper, code] of cases) {
      const parts = await exchange();
      expect([tamper.toString(), await codeOf(parts.read(...tamper(parts)))]).toEqual([
        tamper.toString(),
        code,
      ]);
    }
  });

  test('is refused where a part of it claims to be large', async () => {
    const key = await makeKey();
    const { message } = await sealRequest(key.config, utf8('x'));
    const large = concat(
      message.slice(0, 72),
      Uint8Array.of(0x80, 1, 0, 0),
      new Uint8Array(70_000),
    );
    expect(await codeOf(openRequest(large, () => key))).toBe('too-large');
  });
});

describe('key configurations', () => {
  const config: KeyConfig = {
    id: 3,
    kem: KEM_P256,
    publicKey: new Uint8Array(65).fill(4),
    algorithms: [{ kdf: 1, aead: 2 }],
  };

  test('are read as they were written; those of other KEMs are left out', () => {
    const other = concat(Uint8Array.of(0, 5, 9, 0x11, 0x11, 0, 0));
    expect(readKeyConfigs(concat(other, encodeKeyConfigs([config])))).toEqual([config]);
  });

  test('are refused where they break off or go on', () => {
    const bytes = encodeKeyConfigs([config]);
    expect(() => readKeyConfigs(bytes.slice(0, -1))).toThrow(EnvelopeError);
    expect(() => readKeyConfigs(concat(bytes, Uint8Array.of(0)))).toThrow(EnvelopeError);
    expect(() => readKeyConfigs(new Uint8Array(70_000))).toThrow(EnvelopeError);
  });
});

describe('binary HTTP', () => {
  test('a request is read as it was written, with its padding', () => {
    const request = {
      method: 'POST',
      authority: 'server',
      path: '/v1/completions?a=b',
      headers: [['content-type', 'application/json']] as const,
      body: utf8('{"prompt":"ä"}'),
    };
    const padded = encodeRequest(request, 1024);
    expect(padded).toHaveLength(1024);
    expect(readRequest(padded)).toEqual(request);
    padded[1023] = 1;
    expect(() => readRequest(padded)).toThrow('no padding');
  });

  test('RFC 9458’s request is one', () => {
    expect(readRequest(hex('00034745540568747470730b6578616d706c652e636f6d012f00'))).toMatchObject({
      method: 'GET',
      authority: 'example.com',
      path: '/',
      headers: [],
    });
  });

  test('an answer is read byte by byte, and shows when it breaks off', () => {
    const message = concat(
      encodeResponseHead(200, [['x-a', 'b']]),
      encodeContent(utf8('one')),
      encodeContent(utf8('')),
      encodeContent(utf8('two')),
      RESPONSE_END,
    );
    const reader = new ResponseReader();
    let text = '';
    for (const byte of message) {
      expect(() => reader.end()).toThrow('breaks off');
      text += Buffer.from(reader.push(Uint8Array.of(byte))).toString();
    }
    reader.end();
    expect(reader.head).toEqual({ status: 200, headers: [['x-a', 'b']] });
    expect(text).toBe('onetwo');
    expect(() => reader.push(Uint8Array.of(1))).toThrow('no padding');
  });

  test('headers without an end are bounded', () => {
    const reader = new ResponseReader();
    reader.push(Uint8Array.of(3, 0x40, 200));
    const line = concat(Uint8Array.of(1, 97, 0x7f, 0xff), new Uint8Array(0x3fff).fill(98));
    expect(() => {
      for (let i = 0; i < 6; i += 1) reader.push(line);
    }).toThrow('headers over');
  });
});
