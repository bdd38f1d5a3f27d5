import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeModelFolder } from '../selftest/model-folder.ts';
import { byteLevelTokenizer } from '../selftest/tokenizer-json.ts';
import { sentencePieceTokenizer } from '../testing/sentencepiece-json.ts';
import { openTokenizer, Tokenizer } from './tokenizer.ts';

const STORYTELLER = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));

interface Golden {
  readonly prompt: string;
  readonly ids: number[];
  readonly greedy: number[];
  readonly text: string;
}

let folder: string;
let storyteller: Tokenizer;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
  storyteller = await openTokenizer(STORYTELLER);
});
afterAll(() => rm(folder, { recursive: true }));

describe('the bundled model', () => {
  test('encodes and decodes as recorded with its weights', async () => {
    const golden: Golden[] = JSON.parse(await readFile(join(STORYTELLER, 'golden.json'), 'utf8'));
    expect(golden.length).toBeGreaterThan(0);
    for (const { prompt, ids, greedy, text } of golden) {
      expect([...storyteller.encode(prompt, true)]).toEqual(ids);
      expect(storyteller.decode([...ids, ...greedy], true)).toBe(text);
    }
  });

  test('says what it is', () => {
    expect(storyteller.vocabularySize).toBe(4096);
    expect(storyteller.specialTokens).toEqual({
      bos_token: '<|endoftext|>',
      eos_token: '<|endoftext|>',
    });
    expect(storyteller.tokenId('<|endoftext|>')).toBe(0);
    expect(storyteller.isSpecial(0)).toBe(true);
    expect(storyteller.isSpecial(1)).toBe(false);
    expect(storyteller.decode([0, 1], true)).toBe('!');
    expect(storyteller.decode([0, 1], false)).toBe('<|endoftext|>!');
  });

  test('bounds the bytes of a token', () => {
    const longest = Math.max(
      ...Array.from({ length: 4096 }, (_, id) => storyteller.tokenBytes(id).length),
    );
    expect(storyteller.maxTokenBytes).toBeGreaterThanOrEqual(longest);
    expect(storyteller.maxTokenBytes).toBeLessThan(100);
  });
});

function sentencePiece(): Tokenizer {
  return new Tokenizer({ tokenizer: sentencePieceTokenizer(), config: {}, templates: new Map() });
}

describe('round trips', () => {
  test.each([
    ['byte level', () => storyteller],
    ['sentencepiece', sentencePiece],
  ])('%s gives any text back', (_, make) => {
    const tokenizer = make();
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text, false), false)).toBe(text);
      }),
    );
  });

  test("tokens' bytes together are the text's", () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const ids = [...storyteller.encode(text, false)];
        const bytes = Buffer.concat(ids.map((id) => storyteller.tokenBytes(id)));
        expect(bytes.toString('utf8')).toBe(text);
      }),
    );
  });

  test('BOS comes where the post-processor puts it', () => {
    const tokenizer = sentencePiece();
    expect(tokenizer.encode('the', true)[0]).toBe(1);
    expect(tokenizer.encode('the', false)[0]).not.toBe(1);
    expect(tokenizer.decode(tokenizer.encode('the the', true), true)).toBe('the the');
  });
});

test('no token stands for more bytes than promised, NFC included', () => {
  const json = { ...byteLevelTokenizer(), normalizer: { type: 'NFC' } };
  const tokenizer = new Tokenizer({ tokenizer: json, config: {}, templates: new Map() });
  const marks = fc.string({ unit: fc.constantFrom('e', '\u0301', '\u03b9', '\u0308', '\u1fef') });
  fc.assert(
    fc.property(marks, (text) => {
      const limit = tokenizer.encode(text, false).length * tokenizer.maxTokenBytes;
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(limit);
    }),
  );
  const stripped = { ...byteLevelTokenizer(), normalizer: { type: 'Strip' } };
  const unbounded = new Tokenizer({ tokenizer: stripped, config: {}, templates: new Map() });
  expect(unbounded.maxTokenBytes).toBe(Number.POSITIVE_INFINITY);
});

test('composition never shrinks a character to less than a third of its bytes', () => {
  for (let code = 0; code <= 0x10ffff; code++) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const character = String.fromCodePoint(code);
    const composed = Buffer.byteLength(character.normalize('NFC'));
    const apart = Buffer.byteLength(character.normalize('NFD'));
    const most = Math.max(apart, Buffer.byteLength(character));
    if (most > 3 * composed) expect.fail(`U+${code.toString(16)} shrinks ${most} to ${composed}`);
  }
});

test('text that the vocabulary cannot express is refused without quoting it', () => {
  const model = { type: 'WordPiece', unk_token: '[UNK]', vocab: { a: 0 } };
  const decoder = { type: 'WordPiece', prefix: '##', cleanup: false };
  const json = { ...byteLevelTokenizer(), added_tokens: [], pre_tokenizer: null, decoder, model };
  const tokenizer = new Tokenizer({ tokenizer: json, config: {}, templates: new Map() });
  expect([...tokenizer.encode('a', false)]).toEqual([0]);
  expect(() => tokenizer.encode('secret', false)).toThrow(
    expect.objectContaining({
      code: 'unencodable',
      message: expect.not.stringContaining('secret') as string,
    }),
  );
});

describe('special tokens', () => {
  const withConfig = (config: Record<string, unknown>, tokenizer = sentencePieceTokenizer()) =>
    new Tokenizer({ tokenizer, config, templates: new Map() });
  const named = { bos_token: '<s>', eos_token: { content: '</s>' } };
  const ends = (tokenizer: Tokenizer) => {
    const framed = [...tokenizer.encode('the', true)];
    const inner = tokenizer.encode('the', false).length;
    const at = framed.indexOf(tokenizer.encode('the', false)[0]!);
    return [framed.slice(0, at), framed.slice(at + inner)];
  };

  test.each<[Record<string, unknown>, number[], number[]]>([
    [{}, [1], []],
    [{ add_bos_token: null }, [1], []],
    [{ add_bos_token: true, add_eos_token: true }, [1], [2]],
    [{ add_bos_token: false }, [], []],
    [{ add_bos_token: false, add_eos_token: true }, [], [2]],
    [{ add_eos_token: false }, [1], []],
  ])('%j is honoured', (config, before, after) => {
    expect(ends(withConfig({ ...named, ...config }))).toEqual([before, after]);
  });

  test('a space before the text is as tokenizer_config.json says', () => {
    const tokens = (config: Record<string, unknown>, tokenizer = byteLevelTokenizer()) => [
      ...withConfig(config, tokenizer).encode('the', false),
    ];
    const json = byteLevelTokenizer();
    const step = json.pre_tokenizer as object;
    const spaced = tokens({}, { ...json, pre_tokenizer: { ...step, add_prefix_space: true } });
    expect(spaced).toHaveLength(tokens({}).length + 1);
    expect(tokens({ add_prefix_space: true })).toEqual(spaced);
    expect(tokens({ add_prefix_space: false })).toEqual(tokens({}));
    // Where it is one of several steps, transformers leaves it.
    const sequence = { ...json, pre_tokenizer: { type: 'Sequence', pretokenizers: [step] } };
    expect(tokens({ add_prefix_space: true }, sequence)).toEqual(tokens({}));
  });

  test('a token that is to be added must be there', () => {
    const absent = expect.objectContaining({
      code: 'inconsistent',
      message: expect.stringContaining('add_eos_token') as string,
    });
    expect(() => withConfig({ add_eos_token: true })).toThrow(absent);
    expect(() => withConfig({ eos_token: '<end>', add_eos_token: true })).toThrow(absent);
    expect(ends(withConfig({ add_eos_token: false }))).toEqual([[1], []]);
    const fault = expect.objectContaining({ code: 'malformed' });
    expect(() => withConfig({ ...named, add_bos_token: 'yes' })).toThrow(fault);
  });

  test.each([
    ['additional_special_tokens', ['q']],
    ['extra_special_tokens', ['q', 'absent']],
    ['extra_special_tokens', { image_token: 'q' }],
    ['mask_token', 'q'],
  ])('%s %j is special, and found in text', (key, value) => {
    const tokenizer = withConfig({ [key]: value });
    const q = tokenizer.tokenId('q')!;
    expect(withConfig({}).isSpecial(q)).toBe(false);
    expect(tokenizer.isSpecial(q)).toBe(true);
    const ids = [...tokenizer.encode('aqa', false)];
    expect(ids).toContain(q);
    expect(tokenizer.decode(ids, true)).not.toContain('q');
    expect(tokenizer.decode([q], false)).toBe('q');
  });

  test('a name of its own is a variable of templates', () => {
    expect(withConfig({ extra_special_tokens: { image_token: 'q' } }).specialTokens).toEqual({
      image_token: 'q',
    });
  });
});

test.each<[Record<string, unknown>, string]>([
  [{ normalizer: { type: 'Alien' } }, 'Alien'],
  [{ pre_tokenizer: { type: 'UnicodeScripts' } }, 'UnicodeScripts'],
  [
    { pre_tokenizer: { type: 'Split', pattern: { Regex: '(?<' }, behavior: 'Isolated' } },
    'pattern',
  ],
  [{ pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'X' }] } }, 'pretokenizers'],
  [{ post_processor: { type: 'X' } }, 'post_processor'],
  [{ decoder: { type: 'DecodeStream' } }, 'DecodeStream'],
  [{ model: { type: 'BPE', vocab: {}, merges: [], dropout: 0.1 } }, 'dropout'],
])('%j is not implemented and refused by name', (parts, words) => {
  const tokenizer = { ...byteLevelTokenizer(), ...parts };
  const refused = expect.objectContaining({
    code: 'unsupported',
    message: expect.stringMatching(`^tokenizer.json.*${words}`) as string,
  });
  expect(() => new Tokenizer({ tokenizer, config: {}, templates: new Map() })).toThrow(refused);
});

test('any value under any key of tokenizer.json gives a tokenizer or a ModelError', () => {
  const keys = [
    'normalizer',
    'pre_tokenizer',
    'post_processor',
    'decoder',
    'model',
    'added_tokens',
  ];
  const types = [
    'BPE',
    'Unigram',
    'WordPiece',
    'Sequence',
    'Split',
    'TemplateProcessing',
    'Replace',
  ];
  const typed = fc.tuple(fc.constantFrom(...types), fc.jsonValue()).map(([type, value]) => ({
    type,
    vocab: value,
    merges: value,
    normalizers: value,
    pattern: value,
    single: value,
  }));
  fc.assert(
    fc.property(fc.constantFrom(...keys), fc.oneof(fc.jsonValue(), typed), (key, value) => {
      const tokenizer = { ...byteLevelTokenizer(), [key]: value };
      try {
        new Tokenizer({ tokenizer, config: {}, templates: new Map() }).encode('the end', true);
      } catch (error) {
        expect((error as Error).name).toMatch(/^(?:ModelError|TextError)$/);
      }
    }),
    { numRuns: 1000 },
  );
});

describe('files', () => {
  const rejection = (code: string, words: string) =>
    expect.objectContaining({
      name: 'ModelError',
      code,
      message: expect.stringContaining(words) as string,
    });

  test('a missing tokenizer.json is named', async () => {
    await writeModelFolder(join(folder, 'none'), { tokenizer: 'none' });
    await expect(openTokenizer(join(folder, 'none'))).rejects.toEqual(
      rejection('missing-file', 'tokenizer.json'),
    );
  });

  test.each([
    ['{', 'malformed', 'not valid JSON'],
    ['[]', 'malformed', 'JSON object'],
    ['{"model":{"type":"Alien"}}', 'unsupported', 'Alien'],
    ['{}', 'malformed', 'model'],
  ])('tokenizer.json of %s is refused', async (text, code, words) => {
    const path = join(folder, 'broken');
    await writeModelFolder(path);
    await writeFile(join(path, 'tokenizer.json'), text);
    await expect(openTokenizer(path)).rejects.toEqual(rejection(code, words));
  });

  test('chat templates come from files and from the configuration', async () => {
    const path = join(folder, 'templates');
    await writeModelFolder(path);
    const config = {
      chat_template: [
        { name: 'default', template: 'D' },
        { name: 'tool_use', template: 'T' },
      ],
    };
    await writeFile(join(path, 'tokenizer_config.json'), JSON.stringify(config));
    const chat = { messages: [], addGenerationPrompt: true };
    let tokenizer = await openTokenizer(path);
    expect(tokenizer.renderChat(chat)).toBe('D');
    expect(tokenizer.renderChat({ ...chat, tools: [] })).toBe('T');
    await writeFile(join(path, 'chat_template.jinja'), 'F');
    tokenizer = await openTokenizer(path);
    expect(tokenizer.renderChat(chat)).toBe('F');
    await writeFile(join(path, 'tokenizer_config.json'), '{"chat_template": 3}');
    await expect(openTokenizer(path)).rejects.toEqual(rejection('malformed', 'chat_template'));
  });

  test('chat_template.json wins over the configuration, chat_template.jinja over it', async () => {
    const path = join(folder, 'processor');
    await writeModelFolder(path);
    const chat = { messages: [], addGenerationPrompt: true };
    await writeFile(join(path, 'tokenizer_config.json'), '{"chat_template": "C"}');
    await writeFile(join(path, 'chat_template.json'), '{"chat_template": "J"}');
    expect((await openTokenizer(path)).renderChat(chat)).toBe('J');
    await writeFile(join(path, 'chat_template.jinja'), 'F');
    expect((await openTokenizer(path)).renderChat(chat)).toBe('F');
    await writeFile(join(path, 'chat_template.json'), '{"chat_template": 3}');
    await expect(openTokenizer(path)).rejects.toEqual(rejection('malformed', 'chat_template.json'));
  });

  test('special_tokens_map.json says what the configuration leaves out', async () => {
    const path = join(folder, 'map');
    await writeModelFolder(path);
    const map = { bos_token: '<|im_start|>', eos_token: { content: '<|im_end|>' } };
    await writeFile(join(path, 'special_tokens_map.json'), JSON.stringify(map));
    await writeFile(join(path, 'tokenizer_config.json'), '{"bos_token": "<|endoftext|>"}');
    const { specialTokens } = await openTokenizer(path);
    expect(specialTokens).toEqual({ bos_token: '<|endoftext|>', eos_token: '<|im_end|>' });
  });
});
