import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from './testing/test-server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({}, { apiKey: ['sk-a'] });
});
afterAll(() => server.stop(0));

// biome-ignore lint/suspicious/noExplicitAny: the tests look at whatever document came back
type Document = any;

const KEY = { 'x-api-key': 'sk-a', 'anthropic-version': '2023-06-01' };
const USER = { role: 'user', content: 'Once upon a time' };

async function send(body: object, path = '/v1/messages', headers: object = KEY): Promise<Document> {
  const response = await server.post(path, { messages: [USER], ...body }, { ...headers });
  return { status: response.status, ...((await response.json()) as object) };
}

const create = (body: object) => send({ max_tokens: 5, ...body });

describe('a message', () => {
  test('has blocks, a reason, and usage', async () => {
    expect(await create({})).toMatchObject({
      status: 200,
      id: expect.stringMatching(/^msg_[0-9a-f]{32}$/),
      type: 'message',
      role: 'assistant',
      model: 'storyteller',
      content: [{ type: 'text', text: 'Once upon a time' }],
      stop_reason: 'max_tokens',
      stop_sequence: null,
      usage: { input_tokens: 5, cache_read_input_tokens: 0, output_tokens: 5 },
    });
  });

  test('ends before a stop sequence, and says which', async () => {
    const message = await create({ stop_sequences: [' a', 'zzz'] });
    expect(message).toMatchObject({ stop_reason: 'stop_sequence', stop_sequence: ' a' });
    expect(message.content[0].text).toBe('Once upon');
  });

  test('goes on with what the assistant has begun', async () => {
    const begun = [USER, { role: 'assistant', content: 'There was' }];
    const count = async (messages: object[]) =>
      (await send({ messages }, '/v1/messages/count_tokens')).input_tokens;
    const { usage } = await create({ messages: begun });
    expect(usage.input_tokens).toBe(await count(begun));
    expect(await count(begun)).toBeGreaterThan(await count([USER]));
  });

  test('reads blocks, results of tools, and a system of several texts', async () => {
    const call = { type: 'tool_use', id: 'toolu_1', name: 'f', input: { a: 1 } };
    const result = { type: 'tool_result', tool_use_id: 'toolu_1', is_error: true };
    const message = await create({
      system: [
        { type: 'text', text: 'Once', cache_control: { type: 'ephemeral' } },
        { type: 'text', text: 'more' },
      ],
      messages: [
        USER,
        { role: 'assistant', content: [{ type: 'thinking', thinking: 'hm', signature: '' }, call] },
        { role: 'user', content: [result, { type: 'text', text: 'Go on.' }] },
      ],
    });
    expect(message.status).toBe(200);
    expect(message.content[0].text).toMatch(/^Once\nmore/);
  });
});

describe('errors', () => {
  test('are of Anthropic’s shape, with its types', async () => {
    const unknown = await send({ model: 'none', max_tokens: 1 });
    expect(unknown).toMatchObject({
      status: 404,
      type: 'error',
      error: { type: 'not_found_error' },
      request_id: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    const body = { max_tokens: 1 };
    expect(await send(body, '/v1/messages', {})).toMatchObject({
      status: 401,
      error: { type: 'authentication_error' },
    });
    expect(await send(body, '/v1/messages', { 'x-api-key': 'sk-b' })).toMatchObject({
      status: 401,
    });
    expect(await send(body, '/v1/messages/batches')).toMatchObject({
      status: 404,
      error: { type: 'not_found_error' },
    });
    const bearer = { Authorization: 'Bearer sk-a', 'x-api-key': 'sk-b' };
    expect(await send(body, '/v1/messages', bearer)).toMatchObject({ status: 200 });
  });

  test('within a stream are an event', async () => {
    const held = await startTestServer({ pace: 'by-hand' });
    try {
      const body = { messages: [USER], max_tokens: 5, stream: true };
      const streamed = held.post('/v1/messages', body);
      await held.untilOpen(1);
      held.stub.fail('the device was lost');
      const last = (await (await streamed).text()).trimEnd().split('\n\n').at(-1)!;
      const [, data] = /^event: error\ndata: (.*)$/.exec(last)!;
      expect(JSON.parse(data!)).toMatchObject({ type: 'error', error: { type: 'api_error' } });
    } finally {
      await held.stop(0);
    }
  });
});

const block = (content: object) => ({ messages: [{ role: 'user', content: [content] }] });

test.each([
  [{ max_tokens: undefined }, 'max_tokens'],
  [{ messages: [] }, 'messages'],
  [{ messages: [{ role: 'critic', content: 'x' }] }, 'messages.0.role'],
  [block({ type: 'image', source: {} }), 'messages.0.content.0.type'],
  [block({ type: 'text' }), 'messages.0.content.0.text'],
  [block({ type: 'tool_result', content: 'x' }), 'messages.0.content.0.tool_use_id'],
  [
    { messages: [USER, { role: 'assistant', content: [{ type: 'redacted_thinking' }] }] },
    'messages.1.content.0.type',
  ],
  [{ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 'tools.0.type'],
  [{ tools: [{ name: 'f' }] }, 'tools.0.input_schema'],
  [{ tool_choice: { type: 'any' } }, 'tool_choice'],
  [{ tool_choice: { type: 'tool' } }, 'tool_choice.name'],
  [{ thinking: { type: 'enabled' } }, 'thinking.budget_tokens'],
  [{ output_config: { effort: 'low' } }, 'output_config.effort'],
  [{ container: 'x' }, 'container'],
  [{ mcp_servers: [{}] }, 'mcp_servers'],
  [{ min_p: 0.1 }, 'min_p'],
  [{ stop_sequences: new Array(65).fill('x') }, 'stop_sequences'],
  [{ stop_sequences: ['x'.repeat(5000)] }, 'stop_sequences'],
])('%j is refused by name', async (body, name) => {
  const { status, error } = await create(body);
  expect(status).toBe(400);
  expect(error.type).toBe('invalid_request_error');
  expect(error.message).toContain(name);
});
