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
    ['{"model":{"type":"Alien"}}', 'unsupported', 'tokenizer.json cannot be used'],
    ['{}', 'unsupported', 'tokenizer.json cannot be used'],
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
});
