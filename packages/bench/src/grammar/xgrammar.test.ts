import { expect, test } from 'vitest';
import { byteFallbackTokens, madeUpVocabulary } from './made-up-vocabulary.ts';
import { xgrammarMasks } from './xgrammar.ts';

test('says which folder it needs', async () => {
  await expect(xgrammarMasks('/nowhere', 1000)).rejects.toMatchObject({ code: 'not-ready' });
});

test('the peer is given the bytes of the vocabulary of the device', () => {
  const { spans, bytes } = madeUpVocabulary(1000);
  const all = new Uint8Array(bytes.buffer);
  for (const [id, text] of byteFallbackTokens(1000).slice(0, 700).entries()) {
    const from = (spans[id]! >>> 8) * 4;
    const own = [...all.subarray(from, from + (spans[id]! & 255))];
    const byte = /^<0x(..)>$/.exec(text)?.[1];
    const theirs =
      byte === undefined ? new TextEncoder().encode(text) : [Number.parseInt(byte, 16)];
    // Bytes that occur in no text are no token of ours.
    expect(own).toEqual(id >= 0xf8 && id <= 0xff ? [] : [...theirs]);
  }
});
