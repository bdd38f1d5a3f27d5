import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sentencePieceTokenizer } from '../testing/sentencepiece-json.ts';
import type { Detokenizer } from './detokenizer.ts';
import { Tokenizer } from './tokenizer.ts';
import { incompleteTail } from './utf8.ts';

const STORYTELLER = new URL('../../../../models/storyteller/tokenizer.json', import.meta.url);
const storyteller = JSON.parse(await readFile(fileURLToPath(STORYTELLER), 'utf8'));

const PLAIN = { clean_up_tokenization_spaces: false };

/** WordPiece joins tokens by what follows: it has no table. */
const wordPiece = {
  ...sentencePieceTokenizer(),
  added_tokens: [],
  normalizer: null,
  post_processor: null,
  decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    vocab: { '[UNK]': 0, story: 1, '##tell': 2, '##er': 3, once: 4 },
  },
};

const metaspace = {
  ...sentencePieceTokenizer(),
  decoder: { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always' },
};

const CASES = [
  { name: 'byte level', json: storyteller, size: 4096 },
  { name: 'sentencepiece', json: sentencePieceTokenizer(), size: 322 },
  { name: 'metaspace', json: metaspace, size: 322 },
  { name: 'wordpiece, by windows', json: wordPiece, size: 5 },
];

function ours(json: Record<string, unknown>): Tokenizer {
  return new Tokenizer({ tokenizer: json, config: {}, templates: new Map() });
}

function inPieces(detokenizer: Detokenizer, ids: readonly number[], cuts: readonly number[]) {
  let text = '';
  let at = 0;
  for (const cut of [...cuts, ids.length]) {
    text += detokenizer.push(ids.slice(at, at + cut));
    at += cut;
  }
  return text + detokenizer.push(ids.slice(at)) + detokenizer.finish();
}

describe.each(CASES)('$name', ({ json, size }) => {
  const tokenizer = ours(json);
  const library = new HuggingFaceTokenizer(json, PLAIN);
  const sequence = fc.array(fc.nat(size - 1), { minLength: 1, maxLength: 60 });
  const cuts = fc.array(fc.nat(3), { maxLength: 30 });

  test('any ids, cut anyhow, give what the library gives for the whole', () => {
    fc.assert(
      fc.property(sequence, cuts, fc.boolean(), (ids, pieces, skipSpecialTokens) => {
        const known = ids.filter((id) => library.id_to_token(id) !== undefined);
        const expected =
          known.length === 0
            ? ''
            : library.decode(known, { skip_special_tokens: skipSpecialTokens });
        const detokenizer = tokenizer.detokenizer({ skipSpecialTokens });
        expect(inPieces(detokenizer, ids, pieces)).toBe(expected);
        expect(tokenizer.decode(ids, skipSpecialTokens)).toBe(expected);
      }),
      { numRuns: 300 },
    );
  });
});

describe('byte tokens', () => {
  const tokenizer = ours(sentencePieceTokenizer());
  const byte = (value: number) => 3 + value;

  test('any bytes, one token each, give what a decoder gives for the whole', () => {
    const interesting = fc.constantFrom(
      ...[0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc1, 0xc3, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xf5],
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(interesting, fc.nat(255)), { maxLength: 12 }), (bytes) => {
        const detokenizer = tokenizer.detokenizer({ after: [] });
        const text = inPieces(
          detokenizer,
          bytes.map(byte),
          bytes.map(() => 1),
        );
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
        expect(text).toBe(whole);
      }),
      { numRuns: 1000 },
    );
  });

  test('a character is never shown in part', () => {
    const detokenizer = tokenizer.detokenizer({ after: [] });
    const emoji = [...Buffer.from('🙂')].map(byte);
    expect(emoji.map((id) => detokenizer.push([id]))).toEqual(['', '', '', '🙂']);
    expect(detokenizer.push([byte(0xe2)])).toBe('');
    expect(detokenizer.finish()).toBe('\uFFFD');
  });

  test('a character that the tokens before begin is the first of the text', () => {
    const [first, ...more] = [...Buffer.from('🙂')].map(byte);
    const prompt = [byte(0x41), first!, more[0]!];
    const detokenizer = tokenizer.detokenizer({ after: prompt });
    expect(detokenizer.push(more.slice(1, 2))).toBe('');
    expect(detokenizer.push(more.slice(2))).toBe('🙂');
    expect(detokenizer.finish()).toBe('');
  });

  test.each([
    ['another character', [...Buffer.from('é')], 'é'],
    ['a byte that cannot go on', [0x41, 0x42], 'AB'],
    ['bytes that go on, but not to an end', [0x99, 0x41], '�A'],
    ['nothing', [], ''],
  ])('a character that the tokens before begin and %s follows', (_, bytes, expected) => {
    const after = [byte(0x41), byte(0xf0), byte(0x9f)];
    const detokenizer = tokenizer.detokenizer({ after });
    expect(detokenizer.push(bytes.map(byte)) + detokenizer.finish()).toBe(expected);
  });

  test('a continuation keeps the space that a whole text loses', () => {
    const the = tokenizer.tokenId('\u2581the')!;
    expect(tokenizer.detokenizer().push([the, the])).toBe('the the');
    expect(tokenizer.detokenizer({ after: [] }).push([the, the])).toBe(' the the');
    const late = tokenizer.detokenizer({ skipSpecialTokens: true });
    expect(late.push([1])).toBe('');
    expect(late.push([the])).toBe('the');
  });
});

describe('decoders whose tokens depend on their neighbours', () => {
  test('a word after a prompt keeps the space before it', () => {
    const tokenizer = ours(wordPiece);
    const [first, second] = [1, 2];
    const whole = tokenizer.decode([first, second], true);
    const prompt = tokenizer.decode([first], true);
    const text = tokenizer.detokenizer({ after: [first] }).push([second]);
    expect(prompt + text).toBe(whole);
  });

  test('a character that the tokens before begin is the first of the text', () => {
    const { decoder: steps, ...rest } = sentencePieceTokenizer();
    const { decoders } = steps as { readonly decoders: readonly unknown[] };
    // Two fallbacks are no table.
    const decoder = { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, ...decoders] };
    const tokenizer = ours({ ...rest, decoder });
    const letter = tokenizer.tokenId('a')!;
    const [first, second, third] = [...Buffer.from('\u20ac')].map((value) => 3 + value);
    const detokenizer = tokenizer.detokenizer({ after: [letter, first!, second!] });
    expect(detokenizer.push([third!])).toBe('\u20ac');
    expect(detokenizer.push([letter]) + detokenizer.finish()).toBe('a');
  });
});

test('ids outside the vocabulary are nothing and take no memory', () => {
  const tokenizer = ours(storyteller);
  expect(tokenizer.decode([47, 4_000_000_000, 1e6, -1, 47], true)).toBe(
    tokenizer.decode([47, 47], true),
  );
  expect(tokenizer.tokenBytes(4_000_000_000).length).toBe(0);
});

test('an incomplete tail is one that some bytes complete to one character', () => {
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const isCharacter = (bytes: readonly number[]) => {
    try {
      return [...strict.decode(Uint8Array.from(bytes))].length === 1;
    } catch {
      return false;
    }
  };
  const completable = (start: readonly number[]): boolean =>
    start.length < 4 &&
    [0x80, 0x90, 0xa0, 0xbf].some((next) => {
      const longer = [...start, next];
      return isCharacter(longer) || completable(longer);
    });
  const bytes = fc.oneof(fc.nat(255), fc.integer({ min: 0x80, max: 0xf5 }));
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 3 }), (tail) => {
      const isTail = incompleteTail(Uint8Array.from(tail)) === tail.length;
      expect(isTail).toBe(!isCharacter(tail) && completable(tail));
    }),
    { numRuns: 3000 },
  );
});
