import { readFileSync } from 'node:fs';
import { hash32 } from '@bridgekeeper/device';
import { describe, expect, test } from 'vitest';
import { sentencePieceTokenizer } from '../../testing/sentencepiece-json.ts';
import { characterMap } from '../testing/character-map.ts';
import { CHARACTERS, randomText } from '../testing/random-text.ts';
import { referenceTokenizer } from '../testing/reference-tokenizer.ts';
import { Tokenizer } from '../tokenizer.ts';
import { byteLevelText } from './steps.ts';

type Json = Record<string, unknown>;

const STORYTELLER = JSON.parse(
  readFileSync(
    new URL('../../../../../models/storyteller/tokenizer.json', import.meta.url),
    'utf8',
  ),
) as Json;

const TEXTS = Array.from({ length: 150 }, (_, seed) => randomText(seed));
/** Everything that a pipeline may make of the texts' characters, one by one. */
const ALL = [
  ...new Set(
    CHARACTERS.flatMap((character) =>
      ['NFC', 'NFD', 'NFKC', 'NFKD'].flatMap((form) => {
        const folded = [character, character.toLowerCase(), character.normalize(form)];
        return [...folded, character.normalize(form).toLowerCase()].flatMap((text) => [...text]);
      }),
    ),
  ),
  ...Array.from({ length: 256 }, (_, byte) => [...byteLevelText(String.fromCharCode(byte))]).flat(),
  ...Array.from({ length: 128 }, (_, byte) => String.fromCharCode(byte)),
  ...byteLevelText('éÿĀ߿ကￜ𐀀󰀀'),
].filter((character, at, list) => list.indexOf(character) === at);

function vocabulary(strings: readonly string[]): Record<string, number> {
  return Object.fromEntries([...new Set(strings)].map((string, id) => [string, id]));
}

/** A token for each character, another where it goes on: where pieces begin is seen in the ids. */
const PIECES = {
  type: 'WordPiece',
  unk_token: '<unk>',
  continuing_subword_prefix: '##',
  max_input_chars_per_word: 1000,
  vocab: vocabulary(['<unk>', '<s>', '</s>', ...ALL, ...ALL.map((character) => `##${character}`)]),
};

function added(content: string, id: number, options: Json = {}): Json {
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, ...plain, special: true, ...options };
}

/** tokenizer.json with what a test wants of it. */
function pipeline(parts: Json): Json {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: PIECES,
    ...parts,
  };
}

function ours(json: Json): Tokenizer {
  return new Tokenizer({ tokenizer: json, config: {}, templates: new Map() });
}

async function expectSameIds(json: Json, texts: readonly string[] = TEXTS): Promise<void> {
  const reference = referenceTokenizer(json);
  const tokenizer = ours(json);
  for (const addSpecialTokens of [true, false]) {
    for (const text of texts) {
      const expected = (await reference.encode(text, null, { addSpecialTokens })).getIds();
      const strings = (ids: Iterable<number>) =>
        [...ids].map((id) => tokenizer.decode([id], false));
      const found = tokenizer.encode(text, addSpecialTokens);
      const pair = [strings(found), strings(expected)] as const;
      expect([...found], `${JSON.stringify(text)}: ${JSON.stringify(pair)}`).toEqual(expected);
    }
  }
}

/** Of the kinds that SentencePiece's own maps have: compositions, folds, spaces, nothing. */
const REPLACEMENTS = {
  'e\u0301': '\u00e9',
  'e\u0302': '\u00ea',
  '\u00a0': ' ',
  '\u2003': ' ',
  '\t': ' ',
  '\r': '',
  '\n': ' ',
  '\u200b': ' ',
  '\u0007': '',
  '\ufb01': 'fi',
  '\u00bd': '1\u20442',
  '\u2167': 'VIII',
  Ｆ: 'F',
  '\u{20bb7}': '\u5409',
  '👍': ':)',
  '\u0e32': 'a',
};

const BEHAVIORS = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];
const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const metaspace = { type: 'Metaspace', replacement: '\u2581' };

describe('pre-tokenizers split as the reference does', () => {
  test.each<[string, Json]>([
    ...[true, false].flatMap((splits): [string, Json][] =>
      ['always', 'first', 'never'].map((scheme) => [
        `Metaspace ${scheme}, split ${splits}`,
        { ...metaspace, prepend_scheme: scheme, split: splits },
      ]),
    ),
    ...[true, false].flatMap((invert): [string, Json][] =>
      BEHAVIORS.flatMap((behavior): [string, Json][] => [
        [
          `Split by an expression, ${behavior}, invert ${invert}`,
          { type: 'Split', pattern: { Regex: '\\s+|[0-9]' }, behavior, invert },
        ],
        [
          `Split by a text, ${behavior}, invert ${invert}`,
          { type: 'Split', pattern: { String: '.' }, behavior, invert },
        ],
      ]),
    ),
    ...BEHAVIORS.map((behavior): [string, Json] => [
      `Punctuation, ${behavior}`,
      { type: 'Punctuation', behavior },
    ]),
    ['Punctuation', { type: 'Punctuation' }],
    ['Digits, each', { type: 'Digits', individual_digits: true }],
    ['Digits, together', { type: 'Digits', individual_digits: false }],
    ['Whitespace', { type: 'Whitespace' }],
    ['WhitespaceSplit', { type: 'WhitespaceSplit' }],
    ['BertPreTokenizer', { type: 'BertPreTokenizer' }],
    ['CharDelimiterSplit', { type: 'CharDelimiterSplit', delimiter: ' ' }],
    ['FixedLength', { type: 'FixedLength', length: 3 }],
    [
      'ByteLevel',
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    ],
    [
      'ByteLevel, space in front',
      { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    ],
    [
      'ByteLevel, whole',
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
    [
      "Llama 3's",
      {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Split', pattern: { Regex: LLAMA3 }, behavior: 'Isolated', invert: false },
          { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
        ],
      },
    ],
    [
      'a sequence',
      {
        type: 'Sequence',
        pretokenizers: [
          { type: 'WhitespaceSplit' },
          { ...metaspace, prepend_scheme: 'first', split: true },
          { type: 'Digits', individual_digits: true },
          { type: 'Punctuation', behavior: 'Contiguous' },
        ],
      },
    ],
  ])('%s', (_, pre_tokenizer) => expectSameIds(pipeline({ pre_tokenizer })));
});

describe('normalizers change text as the reference does', () => {
  test.each<[string, Json]>([
    ...['NFC', 'NFD', 'NFKC', 'NFKD', 'StripAccents', 'Lowercase', 'Nmt', 'ByteLevel'].map(
      (type): [string, Json] => [type, { type }],
    ),
    ['Strip', { type: 'Strip', strip_left: true, strip_right: true }],
    ['Strip, left', { type: 'Strip', strip_left: true, strip_right: false }],
    ['Strip, right', { type: 'Strip', strip_left: false, strip_right: true }],
    ['Prepend', { type: 'Prepend', prepend: '\u2581' }],
    ['Replace a text', { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' }],
    ['Replace an expression', { type: 'Replace', pattern: { Regex: ' {2,}|\\d' }, content: '$1' }],
    ...[true, false].flatMap((lowercase): [string, Json][] =>
      [true, false, null].map((strip_accents) => [
        `BertNormalizer, lowercase ${lowercase}, strip_accents ${strip_accents}`,
        {
          type: 'BertNormalizer',
          clean_text: true,
          handle_chinese_chars: true,
          strip_accents,
          lowercase,
        },
      ]),
    ),
    ['Precompiled', { type: 'Precompiled', precompiled_charsmap: characterMap(REPLACEMENTS) }],
    [
      'a sequence',
      {
        type: 'Sequence',
        normalizers: [
          { type: 'NFKC' },
          { type: 'Strip', strip_left: false, strip_right: true },
          { type: 'Prepend', prepend: '\u2581' },
          { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
        ],
      },
    ],
  ])('%s', (_, normalizer) => expectSameIds(pipeline({ normalizer })));
});

describe('added tokens are found as the reference finds them', () => {
  const size = Object.keys(PIECES.vocab).length;
  const contents = ['[MASK]', '<mark>', 'whole', 'Norm', '<s>', ' the', 'the quick'];
  const tokens = (options: Json) =>
    contents.map((content, at) => added(content, size + at, options));
  const options = [
    { single_word: true },
    { lstrip: true },
    { rstrip: true },
    { lstrip: true, rstrip: true, single_word: true },
    { normalized: true },
    { normalized: true, special: false, rstrip: true },
  ];
  test.each(options)('%j', async (option) => {
    // A token of the vocabulary keeps its id.
    const added_tokens = tokens(option).filter(({ content }) => content !== '<s>');
    for (const [at, token] of added_tokens.entries()) token.id = size + at;
    await expectSameIds(pipeline({ added_tokens }));
    await expectSameIds(
      pipeline({
        added_tokens,
        normalizer: { type: 'Lowercase' },
        pre_tokenizer: { ...metaspace, prepend_scheme: 'first', split: true },
      }),
    );
  });
});

/** Merges of the pairs that are most frequent in the texts, one after the other. */
function trained(words: readonly string[], count: number): [string, string][] {
  const parts = words.map((word) => [...word]);
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const counts = new Map<string, number>();
    for (const word of parts) {
      for (let i = 1; i < word.length; i++) {
        const pair = JSON.stringify([word[i - 1], word[i]]);
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const [best] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a));
    const [left, right] = JSON.parse(best) as [string, string];
    merges.push([left, right]);
    for (const word of parts) {
      for (let i = 1; i < word.length; i++) {
        if (word[i - 1] === left && word[i] === right) word.splice(i - 1, 2, left + right);
      }
    }
  }
  return merges;
}

const MERGES = trained(TEXTS, 300);
const BYTES = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
);
/** Half of the characters, so that some are unknown. */
const KNOWN = ALL.filter((character) => hash32(1, 5, character.codePointAt(0)!) % 2 === 0);

function bytePairs(options: Json, characters: readonly string[] = ALL): Json {
  const whole = MERGES.filter((pair) => pair.every((part) => [...part].every(isIn(characters))));
  const merged = whole.map((pair) => pair.join(''));
  const strings = ['<unk>', '<s>', '</s>', ...(options.byte_fallback ? BYTES : [])];
  return {
    type: 'BPE',
    dropout: null,
    unk_token: '<unk>',
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: vocabulary([...strings, ...characters, ...merged]),
    merges: whole,
    ...options,
  };
}

function isIn(characters: readonly string[]) {
  const set = new Set(characters);
  return (character: string) => set.has(character);
}

function unigram(options: Json, characters: readonly string[]): Json {
  const parts = TEXTS.flatMap((text) =>
    [...text].map((_, at, all) => all.slice(at, at + 1 + ((hash32(2, 6, at) >>> 0) % 4)).join('')),
  );
  const strings = ['<unk>', '<s>', '</s>', ...(options.byte_fallback ? BYTES : [])];
  const known = parts.filter((part) => [...part].every(isIn(characters)));
  const list = [...new Set([...strings, ...characters, ...known])];
  const vocab = list.map((string, at) => [string, -1 - ((hash32(3, 7, at) >>> 0) % 1000) / 100]);
  return { type: 'Unigram', unk_id: 0, byte_fallback: false, vocab, ...options };
}

describe('models make the tokens that the reference makes', () => {
  test.each<[string, Json]>([
    ['BPE', bytePairs({})],
    ['BPE, unknown characters', bytePairs({}, KNOWN)],
    ['BPE, unknown characters fused', bytePairs({ fuse_unk: true }, KNOWN)],
    ['BPE, unknown characters left out', bytePairs({ unk_token: null }, KNOWN)],
    ['BPE, bytes for unknown characters', bytePairs({ byte_fallback: true }, KNOWN)],
    ['BPE, whole pieces first', bytePairs({ ignore_merges: true })],
    [
      'WordPiece, unknown words',
      { ...PIECES, vocab: vocabulary(['<unk>', ...KNOWN, 'the', '##er']) },
    ],
    ['WordPiece, long words', { ...PIECES, max_input_chars_per_word: 4 }],
    [
      'WordLevel',
      { type: 'WordLevel', unk_token: '<unk>', vocab: vocabulary(['<unk>', 'the', '.']) },
    ],
    ['Unigram', unigram({}, ALL)],
    ['Unigram, unknown characters', unigram({}, KNOWN)],
    ['Unigram, bytes for unknown characters', unigram({ byte_fallback: true }, KNOWN)],
  ])('%s', async (_, model) => {
    await expectSameIds(pipeline({ model, pre_tokenizer: { type: 'Whitespace' } }));
    await expectSameIds(pipeline({ model }));
  });

  test('BPE with a suffix for the ends of words', async () => {
    const ends = ALL.map((character) => `${character}</w>`);
    const merges = [
      ['e', 'r</w>'],
      ['t', 'h'],
      ['th', 'e</w>'],
    ];
    const vocab = vocabulary(['<unk>', ...ALL, ...ends, 'er</w>', 'th', 'the</w>']);
    const model = { ...bytePairs({}), end_of_word_suffix: '</w>', vocab, merges };
    await expectSameIds(pipeline({ model, pre_tokenizer: { type: 'Whitespace' } }));
  });

  test('the bundled model, and one as converted from SentencePiece', async () => {
    await expectSameIds(STORYTELLER);
    await expectSameIds(sentencePieceTokenizer());
  });

  test('a long piece', async () => {
    const text = TEXTS.join('').repeat(2);
    await expectSameIds(pipeline({ model: bytePairs({}) }), [text]);
    await expectSameIds(pipeline({ model: unigram({}, ALL) }), [text]);
  });
});

describe('post-processors put the tokens around a text that the reference puts', () => {
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const text = { Sequence: { id: 'A', type_id: 0 } };
  const template = {
    type: 'TemplateProcessing',
    single: [special('<s>'), text, special('</s>'), special('</s>')],
    pair: [text, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: {
      '<s>': { id: '<s>', ids: [1, 1], tokens: ['<s>', '<s>'] },
      '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] },
    },
  };
  const bert = { type: 'BertProcessing', sep: ['</s>', 2], cls: ['<s>', 1] };
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: true,
    trim_offsets: false,
    use_regex: true,
  };
  test.each<[string, Json]>([
    ['TemplateProcessing', template],
    ['BertProcessing', bert],
    [
      'RobertaProcessing',
      { ...bert, type: 'RobertaProcessing', trim_offsets: true, add_prefix_space: true },
    ],
    ['ByteLevel', byteLevel],
    ['a sequence', { type: 'Sequence', processors: [byteLevel, template] }],
  ])('%s', (_, post_processor) => expectSameIds(pipeline({ post_processor }), TEXTS.slice(0, 10)));
});

describe('decoders give the text that the reference gives', () => {
  const replace = { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' };
  // At both ends at once, the reference fails on a token that is all to be stripped.
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  const stripEnd = { ...strip, start: 0, stop: 2 };
  const chain = (...decoders: Json[]) => ({ type: 'Sequence', decoders });
  const marked = bytePairs({});
  const words = {
    ...PIECES,
    vocab: vocabulary([
      '<unk>',
      'a',
      '##b',
      '.',
      "'",
      'do',
      'not',
      "n't",
      'x</w>',
      '<pad>',
      '|',
      '\u2581',
      '\u2581c',
    ]),
  };
  test.each<[string, Json | null, Json]>([
    ['none', null, words],
    ['WordPiece', { type: 'WordPiece', prefix: '##', cleanup: true }, words],
    ['WordPiece, as it is', { type: 'WordPiece', prefix: '##', cleanup: false }, words],
    ['BPEDecoder', { type: 'BPEDecoder', suffix: '</w>' }, words],
    ['CTC', { type: 'CTC', pad_token: '<pad>', word_delimiter_token: '|', cleanup: true }, words],
    ['Fuse', { type: 'Fuse' }, words],
    ['Strip', strip, marked],
    ['Strip, at the end', chain({ type: 'Fuse' }, stripEnd), marked],
    ['Replace', replace, words],
    ['Replace by an expression', { ...replace, pattern: { Regex: '[\u2581.]' } }, words],
    ['ByteFallback', { type: 'ByteFallback' }, words],
    ['Metaspace, never', { ...metaspace, prepend_scheme: 'never', split: true }, words],
    ['a sequence', chain(replace, { type: 'Fuse' }, strip), words],
    ['another', chain(strip, replace, { type: 'ByteFallback' }, { type: 'Fuse' }), words],
  ])('%s', async (_, decoder, model) => {
    const json = pipeline({ decoder, model, added_tokens: [added('<end>', 100_000)] });
    const reference = referenceTokenizer(json);
    const tokenizer = ours(json);
    const size = Object.keys(model.vocab as Json).length;
    for (let seed = 0; seed < 200; seed++) {
      const draw = (counter: number, below: number) => (hash32(seed, 8, counter) >>> 0) % below;
      const ids = Array.from({ length: 1 + draw(0, 8) }, (_, at) => draw(at + 1, size));
      const expected = await reference.decode(ids, false);
      expect(tokenizer.decode(ids, false), JSON.stringify(ids)).toBe(expected);
    }
  });

  test.each<[string, Json]>([
    ['the bundled model', STORYTELLER],
    ['as converted from SentencePiece', sentencePieceTokenizer()],
    [
      'Metaspace',
      pipeline({
        model: bytePairs({}),
        pre_tokenizer: { ...metaspace, prepend_scheme: 'always', split: true },
        decoder: { ...metaspace, prepend_scheme: 'always', split: true },
      }),
    ],
  ])('%s, of its own tokens', async (_, json) => {
    const reference = referenceTokenizer(json);
    const tokenizer = ours(json);
    for (const text of TEXTS.filter((each) => !/^[\s\u2581]/.test(each))) {
      const ids = [...tokenizer.encode(text, false)];
      for (const skips of [true, false]) {
        const expected = await reference.decode(ids, skips);
        expect(tokenizer.decode(ids, skips), JSON.stringify(text)).toBe(expected);
      }
    }
  });
});
