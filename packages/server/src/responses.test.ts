import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from './testing/test-server.ts';
import { until } from './testing/until.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({}, { apiKey: ['sk-a', 'sk-b'] });
});
afterAll(() => server.stop(0));

// biome-ignore lint/suspicious/noExplicitAny: the tests look at whatever document came back
type Document = any;

const PATH = '/v1/responses';
const keyed = (key = 'sk-a') => ({ Authorization: `Bearer ${key}` });

async function create(body: object, key?: string): Promise<Document> {
  const fields = { input: 'Once upon a time', max_output_tokens: 5, ...body };
  return (await server.post(PATH, fields, keyed(key))).json();
}

async function call(method: string, path: string, key?: string): Promise<Document> {
  const response = await fetch(`${server.url}${PATH}/${path}`, { method, headers: keyed(key) });
  return { status: response.status, ...((await response.json()) as object) };
}

/** The documents of a stream's events. */
function eventsOf(text: string): Document[] {
  return text.split('\n\n').flatMap((event) => {
    const [, type, data] = /^event: (\S+)\ndata: (.*)$/.exec(event) ?? [];
    if (data === undefined) return [];
    expect(JSON.parse(data).type).toBe(type);
    return [JSON.parse(data)];
  });
}

describe('a response', () => {
  test('says what was asked, what came, and how it ended', async () => {
    const asked = {
      instructions: 'Tell.',
      metadata: { a: 'b' },
      temperature: 0,
      truncation: 'disabled',
      user: 'me',
    };
    const response = await create(asked);
    expect(response).toMatchObject({
      object: 'response',
      model: 'storyteller',
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      error: null,
      store: true,
      text: { format: { type: 'text' } },
      tool_choice: 'auto',
      ...asked,
    });
    const [message] = response.output;
    expect(message).toMatchObject({ type: 'message', role: 'assistant', status: 'incomplete' });
    const { input_tokens: input, output_tokens: output, total_tokens: total } = response.usage;
    expect([output, total]).toEqual([5, input + 5]);
  });

  test('is made from items, with what comes from the system first', async () => {
    const tokens = async (body: object) => (await create(body)).usage.input_tokens;
    const items = [
      { role: 'user', content: [{ type: 'input_text', text: 'Once' }] },
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'upon' }] },
      { role: 'user', content: 'a time' },
    ];
    const whole = await tokens({ input: items });
    expect(await tokens({ input: items, instructions: 'Be brief.' })).toBeGreaterThan(whole);
    const text = (await create({ input: items })).output[0].content[0].text;
    expect(text).toMatch(/^Once/);
  });

  test('fails in its stream by an event, and is not kept', async () => {
    const held = await startTestServer({ pace: 'by-hand' });
    try {
      const streamed = held.post(PATH, { input: 'Once', stream: true });
      await held.untilOpen(1);
      held.stub.step();
      held.stub.fail('the device was lost');
      const events = eventsOf(await (await streamed).text());
      const { response } = events.at(-1);
      expect(events.at(-1).type).toBe('response.failed');
      expect(response).toMatchObject({ status: 'failed', error: { code: 'server_error' } });
      const found = await fetch(`${held.url}${PATH}/${response.id}`);
      expect(found.status).toBe(404);
    } finally {
      await held.stop(0);
    }
  });

  test('begins its stream before there is any text', async () => {
    const held = await startTestServer({ pace: 'by-hand' });
    try {
      const { body } = await held.post(PATH, { input: 'Once', stream: true, store: false });
      const reader = body!.pipeThrough(new TextDecoderStream()).getReader();
      const { value } = await reader.read();
      expect(eventsOf(value!).map(({ type }) => type)).toEqual([
        'response.created',
        'response.in_progress',
      ]);
      await reader.cancel();
      await until('the answer is cancelled', () => held.stub.openIds.length === 0);
    } finally {
      await held.stop(0);
    }
  });
});

describe('what is kept', () => {
  test('goes on with what was said, for its own key alone', async () => {
    const first = await create({});
    const next = { input: 'And then', previous_response_id: first.id };
    const second = await create(next);
    expect(second.previous_response_id).toBe(first.id);
    expect(second.usage.input_tokens).toBeGreaterThan(first.usage.input_tokens + 5);
    const { error } = await create(next, 'sk-b');
    expect(error).toMatchObject({ code: 'response_not_found', param: 'previous_response_id' });
    expect(await call('GET', first.id)).toMatchObject({ status: 'incomplete', id: first.id });
    expect((await call('GET', first.id, 'sk-b')).status).toBe(404);
    expect((await call('DELETE', first.id, 'sk-b')).status).toBe(404);
    expect(await call('DELETE', first.id)).toMatchObject({ id: first.id, deleted: true });
    expect((await call('GET', first.id)).status).toBe(404);
    // Whoever goes on from the second needs the first no more.
    const third = await create({ input: 'So', previous_response_id: second.id });
    expect(third.usage.input_tokens).toBeGreaterThan(second.usage.input_tokens);
  });

  test('is nothing where the client says so', async () => {
    const response = await create({ store: false });
    expect(response.store).toBe(false);
    expect((await call('GET', response.id)).status).toBe(404);
  });

  test('is nothing on a server without memory for it', async () => {
    const bare = await startTestServer({}, { responseStoreBytes: 0 });
    try {
      const response: Document = await (await bare.post(PATH, { input: 'Once' })).json();
      expect(response.store).toBe(false);
      expect((await fetch(`${bare.url}${PATH}/${response.id}`)).status).toBe(404);
    } finally {
      await bare.stop(0);
    }
  });

  test('has its items listed, the latest first, and referred to', async () => {
    const input = ['a', 'b', 'c'].map((content) => ({ role: 'user', content }));
    const { id, output } = await create({ input });
    const list = await call('GET', `${id}/input_items?limit=2`);
    expect(list.data.map(({ content }: Document) => content)).toEqual(['c', 'b']);
    expect(list).toMatchObject({ has_more: true, last_id: list.data[1].id });
    const rest = await call('GET', `${id}/input_items?after=${list.last_id}`);
    expect(rest).toMatchObject({ data: [{ content: 'a', role: 'user' }], has_more: false });
    const ascending = await call('GET', `${id}/input_items?order=asc`);
    expect(ascending.data.map(({ content }: Document) => content)).toEqual(['a', 'b', 'c']);
    const reference = { type: 'item_reference', id: output[0].id };
    const referring = await create({ input: [input[0], reference, input[1]] });
    expect(referring.status).toBe('incomplete');
    const unknown = await create({ input: [{ type: 'item_reference', id: 'msg_1' }] });
    expect(unknown.error.param).toBe('input.0.id');
    expect((await call('GET', `${id}/input_items?after=x`)).error.param).toBe('after');
  });

  test('has ended, so that nothing of it can be cancelled', async () => {
    const { id } = await create({});
    expect((await call('POST', `${id}/cancel`)).status).toBe(400);
    expect((await call('POST', 'resp_1/cancel')).status).toBe(404);
    expect((await call('GET', `${id}?stream=true`)).error.param).toBe('stream');
  });
});

test('a conversation that is too long loses its first turns where that is asked for', async () => {
  const turns = Array.from({ length: 61 }, (_, at) => ({
    role: at % 2 === 0 ? 'user' : 'assistant',
    content: `Turn ${at} is here and there for all of us to read.`,
  }));
  const { error } = await create({ input: turns });
  expect(error).toMatchObject({ code: 'context_length_exceeded', param: 'input' });
  const cut = await create({ input: turns, truncation: 'auto', instructions: 'Begin here.' });
  expect(cut.usage.input_tokens).toBeGreaterThan(400);
  expect(cut.usage.input_tokens).toBeLessThan(512);
  expect(cut.output[0].content[0].text).toMatch(/^Be/);
  const long = { role: 'user', content: turns.map(({ content }) => content).join(' ') };
  const never = await create({ input: [long], truncation: 'auto' });
  expect(never.error.code).toBe('context_length_exceeded');
});

test.each([
  [{ input: undefined }, 'input'],
  [{ input: [] }, 'input'],
  [{ input: [{ type: 'web_search_call' }] }, 'input.0.type'],
  [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input.0.content.0.type'],
  [{ input: [{ role: 'critic', content: 'x' }] }, 'input.0.role'],
  [{ input: [{ role: 'user' }] }, 'input.0.content'],
  [{ input: [{ type: 'function_call', call_id: 'a', name: 'f' }] }, 'input.0.arguments'],
  [
    { input: [{ type: 'function_call', call_id: 'a', name: 'f', arguments: '[]' }] },
    'input.0.arguments',
  ],
  [
    { input: [{ type: 'reasoning', summary: [], encrypted_content: 'abc' }] },
    'input.0.encrypted_content',
  ],
  [{ tools: [{ type: 'web_search' }] }, 'tools.0.type'],
  [{ tool_choice: { type: 'file_search' } }, 'tool_choice.type'],
  [{ background: true }, 'background'],
  [{ conversation: 'conv_1' }, 'conversation'],
  [{ include: ['everything'] }, 'include.0'],
  [{ reasoning: { effort: 'low' } }, 'reasoning.effort'],
  [{ truncation: 'some' }, 'truncation'],
  [{ messages: [] }, 'messages'],
  [{ max_output_tokens: 0 }, 'max_output_tokens'],
  [{ metadata: { a: 1 } }, 'metadata.a'],
  [{ top_logprobs: 3 }, 'top_logprobs'],
  [{ temperature: -1 }, 'temperature'],
])('%j is refused by name', async (body, param) => {
  const { error } = await create(body);
  expect(error).toMatchObject({ param });
  expect(error.message).toContain(param.split('.').at(-1));
});
