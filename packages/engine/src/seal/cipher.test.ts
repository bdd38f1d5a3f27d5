import { hashTreeOf } from '@bridgekeeper/device';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chunkCount, chunkSpan, digestOfChunk } from './chunks.ts';
import { decryptChunk, encryptChunk, newEncryption, openSealKey, type SealKey } from './cipher.ts';
import { parseSeal, rootOf, type Seal, sealText } from './manifest.ts';

const CHUNK_BYTES = 8192;

/** A model of two files, sealed in memory: its seal, and the chunks of each file encrypted. */
function sealed(userKey: Uint8Array, fill: number, bytes = 20_000) {
  const { encryption, key, mac } = newEncryption(userKey, CHUNK_BYTES);
  const ciphertexts: Uint8Array[][] = [];
  const files = ['a.safetensors', 'b.safetensors'].map((name, index) => {
    ciphertexts.push([]);
    const chunks = Array.from({ length: chunkCount(CHUNK_BYTES, bytes) }, (_, chunk) => {
      const plain = new Uint8Array(chunkSpan(CHUNK_BYTES, bytes, chunk).bytes).fill(fill);
      const digest = digestOfChunk(CHUNK_BYTES, { name, bytes }, chunk, hashTreeOf(plain, 8192));
      const tag = encryptChunk(key, { name, bytes }, index, chunk, plain, plain);
      ciphertexts[index]!.push(plain);
      return { digest, tag };
    });
    return { name, bytes, chunks };
  });
  const contents = { chunkBytes: CHUNK_BYTES, leafBytes: 8192, files, encryption };
  const root = rootOf(contents);
  return { seal: parseSeal(sealText(contents, root, mac(root))), ciphertexts };
}

const KEY = new Uint8Array(32).fill(1);
const OTHER_KEY = new Uint8Array(32).fill(2);
const model = sealed(KEY, 5);
const key = openSealKey(model.seal, KEY);

const failure = (code: string, words: string) =>
  expect.objectContaining({
    name: 'ModelError',
    code,
    message: expect.stringContaining(words) as string,
  });

/** Decrypts `ciphertext` as chunk `chunk` of file `file`; the error, or the plaintext. */
function decrypted(ciphertext: Uint8Array, file: number, chunk: number, with_: SealKey = key) {
  const into = new Uint8Array(ciphertext.length).fill(255);
  try {
    decryptChunk(with_, model.seal.files[file]!, file, chunk, ciphertext, into);
    return into;
  } catch (error) {
    expect(into.every((byte) => byte === 0)).toBe(true);
    return error;
  }
}

const MISMATCH = failure('seal-mismatch', 'is not what was sealed');

describe('encrypted chunks', () => {
  test('come back, in place and in shared memory too', () => {
    for (const file of [0, 1]) {
      for (const chunk of [0, 1, 2]) {
        const bytes = chunk < 2 ? 8192 : 3616;
        const ciphertext = model.ciphertexts[file]![chunk]!;
        expect(decrypted(ciphertext, file, chunk)).toEqual(new Uint8Array(bytes).fill(5));
        const shared = new Uint8Array(new SharedArrayBuffer(bytes));
        shared.set(ciphertext);
        decryptChunk(key, model.seal.files[file]!, file, chunk, shared, shared);
        expect(shared.every((byte) => byte === 5)).toBe(true);
      }
    }
  });

  test('of any length come back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 600_000 }), (plain) => {
        const file = { name: 'x.safetensors', bytes: plain.length };
        const { key } = newEncryption(KEY, 2 ** 20);
        const stored = new Uint8Array(plain.length);
        const tag = encryptChunk(key, file, 3, 0, plain, stored);
        const into = new Uint8Array(plain.length);
        decryptChunk(key, { ...file, chunks: [{ digest: '', tag }] }, 3, 0, stored, into);
        expect(Buffer.compare(into, plain)).toBe(0);
      }),
      { numRuns: 20 },
    );
  });

  test('with one bit changed are refused, wherever it is', () => {
    fc.assert(
      fc.property(fc.nat(8191), fc.nat(7), (byte, bit) => {
        const changed = Uint8Array.from(model.ciphertexts[0]![1]!);
        changed[byte]! ^= 1 << bit;
        expect(decrypted(changed, 0, 1)).toEqual(MISMATCH);
      }),
    );
    const wrong = Uint8Array.from(model.ciphertexts[0]![1]!).fill(0, 8191);
    const text = 'a.safetensors: chunk 1 (8192 bytes from 8192) is not what was sealed';
    expect(decrypted(wrong, 0, 1)).toEqual(failure('seal-mismatch', text));
  });

  test('in the place of others are refused, even with their tags', () => {
    const moved = (from: [number, number], to: [number, number]) => {
      const { tag } = model.seal.files[from[0]]!.chunks[from[1]]!;
      const target = model.seal.files[to[0]]!;
      const chunks = target.chunks.map((chunk, at) => (at === to[1] ? { ...chunk, tag } : chunk));
      const ciphertext = model.ciphertexts[from[0]]![from[1]]!;
      const into = new Uint8Array(ciphertext.length);
      return () => decryptChunk(key, { ...target, chunks }, to[0], to[1], ciphertext, into);
    };
    expect(moved([0, 1], [0, 1])).not.toThrow();
    expect(moved([0, 0], [0, 1])).toThrow(MISMATCH);
    expect(moved([0, 1], [1, 1])).toThrow(MISMATCH);
  });

  test('of a file of another length are refused, even with their tags', () => {
    const [file] = model.seal.files;
    const stored = model.ciphertexts[0]![0]!;
    const shorter = { ...file!, bytes: 16_384 };
    expect(() => decryptChunk(key, shorter, 0, 0, stored, new Uint8Array(8192))).toThrow(MISMATCH);
  });

  test('of another model under the same key are refused', () => {
    const other = sealed(KEY, 5);
    expect(decrypted(other.ciphertexts[0]![0]!, 0, 0)).toEqual(MISMATCH);
    const otherKey = openSealKey(other.seal, KEY);
    expect(decrypted(model.ciphertexts[0]![0]!, 0, 0, otherKey)).toEqual(MISMATCH);
    expect(Buffer.compare(otherKey.contentKey, key.contentKey)).not.toBe(0);
  });

  test('are decrypted whole or not at all', () => {
    const part = new Uint8Array(100);
    const decrypt = () => decryptChunk(key, model.seal.files[0]!, 0, 0, part, part);
    expect(decrypt).toThrow('a chunk is decrypted whole');
  });
});

describe('the key of a seal', () => {
  const open = (seal: Seal, userKey: Uint8Array) => () => openSealKey(seal, userKey);

  test('is the one it was made with', () => {
    expect(open(model.seal, OTHER_KEY)).toThrow(failure('wrong-key', 'another key'));
    const keyIds = [sealed(KEY, 5), sealed(KEY, 5)].map(({ seal }) => seal.encryption!.keyId);
    expect(new Set(keyIds).size).toBe(2);
  });

  test('vouches for the manifest', () => {
    const { encryption, files } = model.seal;
    const fewer = { ...model.seal, files: files.slice(1), encryption };
    const root = rootOf(fewer);
    const forged = parseSeal(sealText(fewer, root, model.seal.mac));
    expect(open(forged, KEY)).toThrow(failure('seal-mismatch', 'was not made with the given key'));
    // With the tags, the salt and the key id of the model, but made with another key.
    const mac = newEncryption(OTHER_KEY, CHUNK_BYTES).mac(root);
    expect(open(parseSeal(sealText(fewer, root, mac)), KEY)).toThrow(
      failure('seal-mismatch', 'was not made with the given key'),
    );
  });

  test('is not accepted for a model that is not encrypted', () => {
    const files = model.seal.files.map((file) => {
      return { ...file, chunks: file.chunks.map(({ digest }) => ({ digest })) };
    });
    const contents = { ...model.seal, files, encryption: null };
    const plain = parseSeal(sealText(contents, rootOf(contents), null));
    expect(open(plain, KEY)).toThrow(failure('seal-mismatch', 'not encrypted'));
  });

  test('can be posted to a thread', () => {
    const copy = structuredClone({ key, file: model.seal.files[0]! });
    const into = new Uint8Array(8192);
    decryptChunk(copy.key, copy.file, 0, 0, model.ciphertexts[0]![0]!, into);
    expect(into[0]).toBe(5);
  });
});
