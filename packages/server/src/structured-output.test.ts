import { Ajv } from 'ajv';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from './start.ts';
import { startBundledModel } from './testing/bundled-model.ts';

// The bundled model, which knows nothing of JSON, on the cpu device: what it writes is held to
// something by the grammar alone.

let server: RunningServer;

beforeAll(async () => {
  server = await startBundledModel({ receipts: 'memory' });
});
afterAll(() => server.stop(0));

// biome-ignore lint/suspicious/noExplicitAny: the tests look at whatever document came back
type Document = any;

async function post(path: string, body: object): Promise<Document> {
  const response = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const document = (await response.json()) as object;
  return { receipt: response.headers.get('x-receipt-id'), ...document };
}

const completion = (fields: object) =>
  post('/v1/completions', { prompt: 'Once upon a time', max_tokens: 200, seed: 1, ...fields });
const chat = (fields: object) =>
  post('/v1/chat/completions', {
    messages: [{ role: 'user', content: 'Tell me about a cat' }],
    max_tokens: 200,
    seed: 1,
    ...fields,
  });

/** The text of an answer that ended because it was complete. */
function textOf({ choices, error }: Document): string {
  expect(error).toBeUndefined();
  const [choice] = choices;
  expect(choice.finish_reason).toBe('stop');
  return choice.text ?? choice.message.content;
}

const SCHEMA = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 12 },
    legs: { type: 'integer', minimum: 2, maximum: 4 },
    colours: { type: 'array', items: { enum: ['black', 'white'] }, maxItems: 2 },
    friend: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/friend' }] },
  },
  required: ['name', 'legs', 'colours', 'friend'],
  additionalProperties: false,
  $defs: {
    friend: {
      type: 'object',
      properties: { kind: { enum: ['dog', 'bird'] } },
      required: ['kind'],
      additionalProperties: false,
    },
  },
};

describe('an answer is held to', () => {
  const validate = new Ajv().compile(SCHEMA);
  test.each([
    ['response_format', { type: 'json_schema', json_schema: { name: 'cat', schema: SCHEMA } }],
    ['response_format', { type: 'json_object', schema: SCHEMA }],
    ['structured_outputs', { json: SCHEMA }],
    ['structured_outputs', { json: JSON.stringify(SCHEMA), property_order: 'free' }],
    ['guided_json', SCHEMA],
    ['json_schema', JSON.stringify(SCHEMA)],
  ])('a schema: %s %#', async (field, value) => {
    const written = textOf(await (field === 'guided_json' ? completion : chat)({ [field]: value }));
    expect(validate(JSON.parse(written)), written).toBe(true);
  });

  test('any object', async () => {
    const fields = { response_format: { type: 'json_object' }, temperature: 0, max_tokens: 100 };
    const { choices } = await chat(fields);
    const [{ message, finish_reason: reason }] = choices;
    if (reason === 'stop') expect(JSON.parse(message.content)).toBeTypeOf('object');
    expect(message.content[0]).toBe('{');
  });

  test.each([
    ['guided_regex', '[A-Z][a-z]{2,8} (was|is) \\d{1,3}'],
    ['regex', '^[A-Z][a-z]{2,8} (was|is) \\d{1,3}$'],
    ['structured_outputs', { regex: '[A-Z][a-z]{2,8} (was|is) \\d{1,3}' }],
  ])('a regular expression: %s', async (field, value) => {
    expect(textOf(await chat({ [field]: value }))).toMatch(/^[A-Z][a-z]{2,8} (was|is) \d{1,3}$/);
  });

  test.each([
    ['guided_choice', ['cat', 'dog', 'a small bird']],
    ['structured_outputs', { choice: ['cat', 'dog', 'a small bird'] }],
  ])('choices: %s', async (field, value) => {
    const answer = await completion({ [field]: value, n: 4 });
    for (const { text } of answer.choices) expect(['cat', 'dog', 'a small bird']).toContain(text);
  });

  test('that is complete before min_tokens, which gives way', async () => {
    const choices = ['cat', 'dog'];
    const answer = await completion({ guided_choice: choices, min_tokens: 50 });
    expect(choices).toContain(textOf(answer));
    expect(answer.usage.completion_tokens).toBeLessThan(50);
  });

  test.each([
    ['grammar', 'root ::= "[" n ("," n){1,3} "]"\nn ::= [0-9] | root'],
    ['ebnf', 'root ::= "[" n ("," n){1,3} "]"\nn ::= [0-9] | root'],
    ['guided_grammar', 'start: "[" n ("," n)~1..3 "]"\nn: /[0-9]/ | start'],
  ])('a grammar: %s', async (field, value) => {
    // Nested lists without end would not fit: nine times out of ten a number is likelier.
    const answer = await completion({ [field]: value, temperature: 0.5 });
    const [{ text, finish_reason: reason }] = answer.choices;
    if (reason === 'stop') expect(JSON.parse(text).length).toBeGreaterThan(1);
    expect(text).toMatch(/^[[\],0-9]+$/);
  });

  test('structures that begin with a trigger', async () => {
    const structural_tag = {
      type: 'structural_tag',
      triggers: ['Once'],
      structures: [{ begin: 'Once=', schema: { enum: [1, 2] }, end: ';' }],
    };
    const answer = await completion({ prompt: '.\n\n', structural_tag, temperature: 0 });
    const text: string = answer.choices[0].text;
    for (const found of text.matchAll(/Once.{0,3}/g)) expect(found[0]).toMatch(/^Once=[12];/);
  });
});

describe('what a grammar costs', () => {
  test('is one crossing, and none when it is on the device: the receipts say so', async () => {
    const fields = { guided_choice: ['one of its own', 'another'] };
    const purposes = async ({ receipt }: Document) => {
      for (;;) {
        const response = await fetch(`${server.url}/v1/receipts/${receipt}`);
        const document: Document = await response.json();
        if (response.status === 200) {
          const { entries } = document.receipt.crossings;
          return entries.filter(({ purpose }: Document) => purpose === 'grammar');
        }
      }
    };
    const bridge = async () => {
      const document: Document = await (await fetch(`${server.url}/v1/bridge`)).json();
      return document.grammars;
    };
    const before = await bridge();
    expect(await purposes(await completion(fields))).toMatchObject([
      { direction: 'h2d', crossings: 1 },
    ]);
    expect(await purposes(await completion(fields))).toEqual([]);
    const after = await bridge();
    expect(after.compiled - before.compiled).toBe(1);
    expect(after.found_compiled - before.found_compiled).toBe(1);
    expect(after.uploads - before.uploads).toBe(1);
    expect(after.found_on_device - before.found_on_device).toBe(1);
    expect(after.on_device_bytes).toBeGreaterThan(before.on_device_bytes);
  });
});

describe('what cannot be done is refused, naming what and where', () => {
  test.each([
    [{ guided_json: { properties: { a: { type: 'text' } } } }, /#\/properties\/a\/type/],
    [{ guided_json: { type: 'string', enum: [1] } }, /guided_json/],
    [{ guided_json: '{' }, /JSON/],
    [{ guided_regex: '(?=a)b' }, /lookahead/],
    [{ guided_regex: '(' }, /group/],
    [{ guided_grammar: 'root ::= missing' }, /missing/],
    [{ grammar: 'root ::= root "a"' }, /begin with itself/],
    [{ guided_regex: '(a|b)*a(a|b){30}' }, /too|more than/],
    [{ guided_regex: 'a', guided_choice: ['a'] }, /cannot both/],
    [{ structured_outputs: {} }, /one of/],
    [{ structured_outputs: { regex: 'a', whitespace: ' ' } }, /whitespace/],
    [{ response_format: { type: 'xml' } }, /types/],
    [{ response_format: { type: 'json_schema' } }, /schema is missing/],
    [{ structural_tag: { format: {} } }, /format/],
    [{ guided_choice: [] }, /guided_choice/],
    [{ guided_whitespace_pattern: ' ' }, /guided_whitespace_pattern/],
  ])('%j', async (fields, message) => {
    const { error } = await completion(fields);
    expect(error.type).toBe('invalid_request_error');
    expect(error.message).toMatch(message);
    expect(error.param).not.toBe(null);
  });
});
