import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestServer, type TestServer } from './testing/index.ts';

/** Of the bundled model's tokenizer. */
const END = '<|endoftext|>';
const END_ID = 0;

let usual: TestServer;
let literal: TestServer;
beforeAll(async () => {
  [usual, literal] = await Promise.all([
    startTestServer(),
    startTestServer({}, { literalUserText: true }),
  ]);
});
afterAll(() => Promise.all([usual.stop(0), literal.stop(0)]));

interface Tokenized {
  readonly tokens: readonly number[];
}

async function tokensOf(server: TestServer, body: object): Promise<readonly number[]> {
  const reply = await server.post('/tokenize', body);
  expect(reply.status).toBe(200);
  return ((await reply.json()) as Tokenized).tokens;
}

const said = (content: string, more: object = {}) => ({
  messages: [{ role: 'user', content }],
  ...more,
});

test('what a message says is no control token, where the operator wants it so', async () => {
  const body = said(`a ${END} b`);
  expect(await tokensOf(usual, body)).toContain(END_ID);
  const tokens = await tokensOf(literal, body);
  expect(tokens).not.toContain(END_ID);
  const back = await literal.post('/detokenize', { tokens });
  expect(await back.json()).toEqual({ prompt: `a ${END} b` });
  const parts = { messages: [{ role: 'user', content: [{ type: 'text', text: END }] }] };
  expect(await tokensOf(literal, parts)).not.toContain(END_ID);
});

test('long conversations are no different', async () => {
  // Tools make the body long, and this template leaves them out.
  const tools = [{ type: 'function', function: { name: 'f', description: 'x'.repeat(10_000) } }];
  const body = said(`a ${END} b`, { tools });
  expect(await tokensOf(literal, body)).toEqual(await tokensOf(literal, said(`a ${END} b`)));
  expect(await tokensOf(usual, body)).toEqual(await tokensOf(usual, said(`a ${END} b`)));
  const long = said('word '.repeat(3000));
  const refused = await literal.post('/v1/chat/completions', long);
  expect(refused.status).toBe(400);
  expect(await refused.json()).toMatchObject({ error: { code: 'context_length_exceeded' } });
  // Where no call is wanted, tools that nobody reads change nothing.
  const bad = said('x', { tools, tool_choice: 'none', continue_final_message: true });
  expect(await (await usual.post('/v1/chat/completions', bad)).json()).toMatchObject({
    error: { code: 'invalid_value', param: 'continue_final_message' },
  });
});

test('a final message that is continued ends where it ends', async () => {
  const more = { add_generation_prompt: false, continue_final_message: true };
  const messages = [{ role: 'assistant', content: `${END}The sea ` }];
  const tokens = await tokensOf(literal, { messages, ...more });
  expect(tokens).not.toContain(END_ID);
  const back = await literal.post('/detokenize', { tokens });
  expect(await back.json()).toEqual({ prompt: `${END}The sea ` });
});

test('a prompt without a template stays as it is', async () => {
  expect(await tokensOf(literal, { prompt: `a ${END}` })).toContain(END_ID);
});
