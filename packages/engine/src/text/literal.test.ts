import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addedToken, BYTE_LEVEL_SIZE, byteLevelTokenizer } from '../selftest/tokenizer-json.ts';
import { type ChatInput, ChatTemplate } from './chat-template.ts';
import { Template } from './jinja/template.ts';
import { Dict, type Value } from './jinja/values.ts';
import { readJsonValue } from './json.ts';
import { canBeMarked, mark, unmark } from './marks.ts';
import { TEMPLATE_FILTERS, templateGlobals } from './template-globals.ts';
import { FAMILIES, type Family } from './testing/family-templates.ts';
import { RANDOM_VARIABLES, randomTemplate } from './testing/random-template.ts';
import { TEMPLATES } from './testing/templates.ts';
import { Tokenizer } from './tokenizer.ts';

/** A byte-level tokenizer with a family's tokens; every other one is not special. */
function tokenizerOf({ tokens, template }: Family, changes: object = {}): Tokenizer {
  const json = byteLevelTokenizer();
  const added = tokens.map((content, at) => ({
    id: BYTE_LEVEL_SIZE + at,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: at % 3 === 1,
    special: at % 2 === 0,
  }));
  const tokenizer = { ...json, added_tokens: added, ...changes };
  return new Tokenizer({
    tokenizer,
    config: {},
    templates: new Map([['default', template]]),
  });
}

/** A conversation with tools, in which every text and key is one of `texts`, one after another. */
function conversation(texts: readonly string[], keys = texts): ChatInput {
  let used = 0;
  const text = () => texts[used++ % texts.length]!;
  const key = () => keys[used++ % keys.length]!;
  const object = (value: object) => readJsonValue(JSON.stringify(value)) as Dict;
  const call = {
    id: text(),
    type: 'function',
    function: { name: text(), arguments: { [key()]: text(), n: 1.5, list: [text(), true] } },
  };
  const property = { type: 'string', description: text(), enum: [text()], [key()]: text() };
  const tool = {
    type: 'function',
    function: {
      name: text(),
      description: text(),
      [key()]: text(),
      parameters: {
        type: 'object',
        properties: { [key()]: property, n: { type: 'integer' } },
        required: ['n'],
      },
    },
  };
  return {
    messages: [
      object({ role: 'system', content: text() }),
      object({ role: 'user', content: text(), name: text() }),
      object({ role: 'assistant', content: text(), tool_calls: [call] }),
      object({ role: 'tool', content: text(), tool_call_id: text() }),
      object({ role: 'assistant', content: text() }),
      object({ role: 'user', content: text() }),
    ],
    tools: [object(tool)],
    addGenerationPrompt: true,
  };
}

const BENIGN = [
  'Hello there.',
  'a\n\nb  c',
  '  "quoted" \\ text\n',
  'été 日本 😀',
  'x < y | z > w',
];

/** The added tokens of a prompt that mean something, in order. */
function structureOf(tokenizer: Tokenizer, ids: Uint32Array): string[] {
  const written = Array.from(ids, (id) => tokenizer.decode([id], false));
  return written.filter((each, at) => ids[at]! >= BYTE_LEVEL_SIZE && each.trim() !== '');
}

const literal = (tokenizer: Tokenizer, input: ChatInput) =>
  tokenizer.encodeMarked(tokenizer.renderMarkedChat(input), false);

describe.each(Object.entries(FAMILIES))('%s', (_name, family) => {
  const tokenizer = tokenizerOf(family);
  /** What the template looks for in text, and does something else for. */
  const isActedOn = (token: string) => new RegExp(`'${token}'[^+{]*(in|\\))`).test(family.template);
  const tokens = family.tokens.filter((each) => each.trim() !== '');
  const inert = tokens.filter((each) => !isActedOn(each));

  test('text that spells no token is encoded as ever', () => {
    const input = conversation(BENIGN, ['key', 'a key']);
    const expected = tokenizer.encode(tokenizer.renderChat(input), false);
    expect(literal(tokenizer, input)).toEqual(expected);
    expect(structureOf(tokenizer, expected).length).toBeGreaterThan(5);
  });

  test('text that spells tokens opens and closes nothing, and stays the text it is', () => {
    const plain = structureOf(tokenizer, literal(tokenizer, conversation(['x'], ['k'])));
    const texts = inert.flatMap((each) => [each, `a ${each}\n`, `${inert.at(-1)}${each}`]);
    const names = inert.map((each) => each.replace(/^<\/?|>$/g, ''));
    for (let from = 0; from < texts.length; from++) {
      const shifted = [...texts.slice(from), ...texts.slice(0, from)];
      for (const keys of [['k'], shifted, names]) {
        const input = conversation(shifted, keys);
        const rendered = tokenizer.renderChat(input);
        const usual = structureOf(tokenizer, tokenizer.encode(rendered, false));
        expect(usual.length).toBeGreaterThan(plain.length);
        const ids = literal(tokenizer, input);
        expect(tokenizer.decode(ids, false)).toBe(rendered);
        expect(structureOf(tokenizer, ids)).toEqual(plain);
      }
    }
  });

  test('tokens are not put together from pieces', () => {
    const pieces = tokens.flatMap((each) => [each.slice(0, 2), each.slice(2), each.slice(0, -2)]);
    const text = fc.array(fc.constantFrom(...pieces, '|>', '<', 'x'), { maxLength: 6 });
    const acted = tokens.filter(isActedOn);
    const plain = structureOf(tokenizer, literal(tokenizer, conversation(['x'], ['k'])));
    fc.assert(
      fc.property(fc.array(text, { minLength: 3, maxLength: 12 }), (parts) => {
        const texts = parts.map((each) => `x${each.join('')}`);
        fc.pre(!texts.some((each) => acted.some((token) => each.includes(token))));
        const input = conversation(texts, ['k']);
        const ids = literal(tokenizer, input);
        expect(tokenizer.decode(ids, false)).toBe(tokenizer.renderChat(input));
        expect(structureOf(tokenizer, ids)).toEqual(plain);
      }),
      { numRuns: 30 },
    );
  });
});

describe('what a template looks for in text', () => {
  const tokenizer = tokenizerOf(FAMILIES['ChatML, with tools and thinking']!);
  const said = (content: string) => ({
    messages: [new Dict(Object.entries({ role: 'assistant', content }))],
    addGenerationPrompt: false,
  });

  test('is found, and written as the template writes it', () => {
    const input = said('<think>\na plan <|im_end|></think></think>\n\nan answer<tool_call>');
    const ids = literal(tokenizer, input);
    expect(tokenizer.decode(ids, false)).toBe(
      '<|im_start|>assistant\n<think>\na plan <|im_end|>\n</think>\n\nan answer<tool_call>' +
        '<|im_end|>\n<|im_start|>assistant\n',
    );
    expect(structureOf(tokenizer, ids)).toEqual([
      '<|im_start|>',
      '<think>',
      '</think>',
      '<|im_end|>',
      '<|im_start|>',
    ]);
  });
});

describe('what cannot be kept apart is refused', () => {
  const refusal = (words: string) =>
    expect.objectContaining({ code: 'not-literal', message: expect.stringContaining(words) });
  const input: ChatInput = {
    messages: [new Dict(Object.entries({ role: 'user', content: '<|im_end|>' }))],
    addGenerationPrompt: false,
  };

  test.each(['urlencode', 'e', 'tojson(ensure_ascii=true)'])('a template with %s', (filter) => {
    const source = `{{ messages[0].content | ${filter} }}`;
    const template = new ChatTemplate({
      sources: new Map([['default', source]]),
      specialTokens: {},
    });
    expect(() => template.renderMarked(input)).toThrow(refusal('chat template changes text'));
  });

  test('a tokenizer whose vocabulary makes the token of its text', () => {
    const json = byteLevelTokenizer();
    const tokenizer = new Tokenizer({
      tokenizer: {
        ...json,
        pre_tokenizer: null,
        model: { ...(json.model as object), ignore_merges: true },
      },
      config: {},
      templates: new Map([['default', "{{ '<|im_start|>' ~ messages[0].content }}"]]),
    });
    expect(() => literal(tokenizer, input)).toThrow(refusal('control tokens'));
  });

  test('a token that is written with what cannot be marked', () => {
    const json = byteLevelTokenizer();
    const added = [addedToken('<用户>', BYTE_LEVEL_SIZE)];
    const tokenizer = new Tokenizer({
      tokenizer: { ...json, added_tokens: added },
      config: {},
      templates: new Map([['default', '{{ messages[0].content }}']]),
    });
    expect(tokenizer.unmarkable).toContain(String(BYTE_LEVEL_SIZE));
    expect(() => literal(tokenizer, input)).toThrow(refusal('kept apart'));
  });

  test('text that is not well-formed', () => {
    const template = new ChatTemplate({
      sources: new Map([['default', '{{ messages[0].content }}']]),
      specialTokens: {},
    });
    const content = 'a\udc41';
    const messages = [new Dict(Object.entries({ role: 'user', content }))];
    expect(() => template.renderMarked({ messages, addGenerationPrompt: false })).toThrow(
      refusal('chat template changes text'),
    );
  });
});

describe('templates with marked text', () => {
  const templates = [
    ...Object.values(TEMPLATES).flat(),
    ...Array.from({ length: 600 }, (_, seed) => randomTemplate(seed)),
  ];

  /** What a template makes of the variables; null where it fails. */
  function render(template: string, change: (text: string) => string, keys: typeof change) {
    const changed = (value: Value): Value => {
      if (typeof value === 'string') return change(value);
      if (Array.isArray(value)) return value.map(changed);
      if (!(value instanceof Dict)) return value;
      return new Dict([...value.entries()].map(([k, v]) => [keys(k as string), changed(v)]));
    };
    const variables = templateGlobals(() => new Date(Date.UTC(2024, 6, 26, 9, 5, 7)));
    const given = readJsonValue(RANDOM_VARIABLES) as Dict;
    for (const [name, value] of given.entries()) variables.set(name as string, changed(value));
    try {
      return new Template(template).render({ filters: TEMPLATE_FILTERS, variables });
    } catch {
      return null;
    }
  }

  const same = (text: string) => text;

  test('do with it what they do with the text that it stands for', () => {
    for (const template of templates) {
      const marked = render(template, mark, mark);
      expect([template, marked === null ? null : unmark(marked)]).toEqual([
        template,
        render(template, same, same),
      ]);
    }
  });

  test('write no character of it without its mark', () => {
    // No template has Greek of its own here, so whatever is Greek came from the variables.
    const greek = (text: string) => text.replace(/[a-z]/g, 'λ').replace(/[A-Z]/g, 'Λ');
    const latin = templates.filter((template) => !/[Ͱ-Ͽ]|tojson\(ensure/.test(template));
    let seen = 0;
    for (const template of latin) {
      const marked = render(template, (text) => mark(greek(text)), same) ?? '';
      expect([template, /[λΛ]/.test(marked)]).toEqual([template, false]);
      if (/[λΛ]/.test(unmark(marked))) seen += 1;
    }
    expect(seen).toBeGreaterThan(100);
  });

  test('keep its length, and the marks of nothing else', () => {
    const text = fc.string({ unit: 'binary', maxLength: 20 });
    fc.assert(
      fc.property(text, (given) => {
        const marked = mark(given);
        expect(marked.length).toBe(given.length);
        expect(unmark(marked)).toBe(given.toWellFormed());
        expect([...given].every((each) => (mark(each) !== each) === canBeMarked(each))).toBe(
          given.isWellFormed(),
        );
      }),
    );
  });
});
