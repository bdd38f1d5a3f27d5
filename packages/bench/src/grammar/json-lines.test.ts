import {
  buildVocabulary,
  GrammarWalk,
  grammarFault,
  grammarPlace,
  hash32,
} from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { jsonLines } from './json-lines.ts';

const BYTES = buildVocabulary(256, (id) => Uint8Array.of(id), new Set());

/** Bytes that the grammar admits one after the other, drawn at random. */
function randomLines(words: Uint32Array, seed: number, length: number): string {
  const place = grammarPlace(words, BYTES, -1, []);
  const walk = new GrammarWalk(words, BYTES);
  const text = Array.from({ length }, (_, at) => {
    walk.begin(place);
    const admitted = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) =>
      walk.admits(byte),
    );
    // What ends or parts something comes more often than one letter of many.
    const marks = admitted.filter((byte) => '"\\,:]}\n'.includes(String.fromCharCode(byte)));
    const draw = (of: number) => (hash32(seed, of, at) >>> 0) / 2 ** 32;
    const from = marks.length > 0 && draw(1) < 0.4 ? marks : admitted;
    const byte = from[Math.floor(draw(2) * from.length)]!;
    expect(walk.advance(byte)).toBe('moved');
    return byte;
  });
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(text), { stream: true });
}

test.each(['flat', 'nested'] as const)('every %s line is JSON, and none is the last', (shape) => {
  const { words } = jsonLines(shape, 0);
  expect(grammarFault(words)).toBeNull();
  const kinds = new Set<string>();
  for (let seed = 0; seed < 15; seed++) {
    const lines = randomLines(words, seed, 400).split('\n').slice(0, -1);
    for (const line of lines) {
      const value: unknown = JSON.parse(line);
      kinds.add(Array.isArray(value) ? 'array' : typeof value);
    }
  }
  const all = ['array', 'boolean', 'number', 'object', 'string'];
  expect([...kinds].sort()).toEqual(shape === 'flat' ? ['object'] : all);
});
