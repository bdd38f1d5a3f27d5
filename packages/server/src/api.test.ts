import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from './testing/test-server.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop(0));

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: the tests look at whatever document came back
  readonly body: any;
}

async function post(path: string, body: unknown, headers = {}): Promise<Answer> {
  const response = await server.post(path, body, headers);
  return { status: response.status, headers: response.headers, body: await response.json() };
}

const chat = (more: object = {}) =>
  post('/v1/chat/completions', {
    messages: [{ role: 'user', content: 'Once upon a time' }],
    max_tokens: 5,
    ...more,
  });

const complete = (more: object = {}) =>
  post('/v1/completions', { prompt: 'Once upon a time', max_tokens: 5, ...more });

describe('chat completions', () => {
  test('have the shape of OpenAI and say how they ended', async () => {
    const { status, body } = await chat();
    expect(status).toBe(200);
    expect(body.id).toMatch(/^chatcmpl-/);
    expect(body).toMatchObject({ object: 'chat.completion', model: 'storyteller' });
    const [choice] = body.choices;
    expect(choice).toMatchObject({ index: 0, finish_reason: 'length', stop_reason: null });
    expect(choice.message.role).toBe('assistant');
    expect(choice.logprobs).toBeNull();
    const { prompt_tokens: promptTokens } = body.usage;
    expect(body.usage).toEqual({
      prompt_tokens: promptTokens,
      completion_tokens: 5,
      total_tokens: promptTokens + 5,
      prompt_tokens_details: { cached_tokens: 0 },
    });
  });

  test('take text parts, the developer role, and max_completion_tokens first', async () => {
    const { status, body } = await chat({
      messages: [
        { role: 'developer', content: 'Tell stories.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Once upon' },
            { type: 'text', text: 'a time' },
          ],
        },
        { role: 'assistant', content: null, tool_calls: [] },
      ],
      max_completion_tokens: 3,
    });
    expect(status).toBe(200);
    expect(body.usage.completion_tokens).toBe(3);
  });

  test('fill what is left of the context when they are not told to stop', async () => {
    const { body } = await chat({ max_tokens: undefined });
    expect(body.usage.total_tokens).toBe(512);
    const capped = await chat({ max_tokens: 100000 });
    expect(capped.body.usage.total_tokens).toBe(512);
  });

  test('carry logprobs with bytes', async () => {
    const { body } = await chat({ logprobs: true, top_logprobs: 2 });
    const { content } = body.choices[0].logprobs;
    expect(content).toHaveLength(5);
    for (const entry of content) {
      expect(entry.top_logprobs).toHaveLength(2);
      expect(Buffer.from(entry.bytes).toString()).toBe(entry.token);
      expect(entry.logprob).toBeCloseTo(-Math.LN2);
    }
    expect(content.map((entry: { token: string }) => entry.token).join('')).toBe(
      body.choices[0].message.content,
    );
  });

  test('come n at a time', async () => {
    const { body } = await chat({ n: 3, seed: 5 });
    expect(body.choices.map((choice: { index: number }) => choice.index)).toEqual([0, 1, 2]);
    expect(body.usage.completion_tokens).toBe(15);
  });
});

describe('completions', () => {
  test('continue text', async () => {
    const { body } = await complete();
    expect(body).toMatchObject({ object: 'text_completion', model: 'storyteller' });
    expect(body.choices[0].text).toBe('Once upon a time');
    expect(body.usage.completion_tokens).toBe(5);
  });

  test('take token ids, several texts, several lists of ids', async () => {
    const { body: tokenized } = await post('/tokenize', { prompt: 'Once upon a time' });
    const ids = tokenized.tokens;
    const texts = async (prompt: unknown) =>
      (await complete({ prompt })).body.choices.map((choice: { text: string }) => choice.text);
    expect(await texts(ids)).toEqual(['Once upon a time']);
    expect(await texts(['Once upon a time', 'Once upon a time'])).toHaveLength(2);
    expect(await texts([ids, ids])).toHaveLength(2);
  });

  test('echo the prompt, with its logprobs, and nothing else for max_tokens 0', async () => {
    const { body } = await complete({ echo: true, logprobs: 1 });
    const [choice] = body.choices;
    expect(choice.text).toBe('Once upon a timeOnce upon a time');
    const {
      tokens,
      token_logprobs: logprobs,
      top_logprobs: top,
      text_offset: at,
    } = choice.logprobs;
    expect(tokens.join('')).toBe(choice.text);
    expect(logprobs[0]).toBeNull();
    expect(top[0]).toBeNull();
    expect(logprobs).toHaveLength(tokens.length);
    expect(at[1]).toBe(tokens[0].length);
    const only = await complete({ echo: true, max_tokens: 0 });
    expect(only.body.choices[0].text).toBe('Once upon a time');
    expect(only.body.usage.completion_tokens).toBe(0);
    expect((await complete({ max_tokens: 0 })).body.error.param).toBe('max_tokens');
  });

  test('end before a stop string, or after it', async () => {
    const { body } = await complete({ stop: [' a'], max_tokens: 50 });
    expect(body.choices[0]).toMatchObject({
      text: 'Once upon',
      finish_reason: 'stop',
      stop_reason: ' a',
    });
    const included = await complete({ stop: 'upon', include_stop_str_in_output: true });
    expect(included.body.choices[0].text).toBe('Once upon');
    const late = await complete({ stop: 'Once', min_tokens: 5, max_tokens: 50 });
    expect(late.body.choices[0].text).toBe('Once upon a time');
  });

  test('end at a stop token id, which is counted but not shown', async () => {
    const { body: tokenized } = await post('/tokenize', { prompt: 'Once upon a time' });
    const stopId = tokenized.tokens[3];
    const { body } = await complete({ stop_token_ids: [stopId] });
    expect(body.choices[0]).toMatchObject({ finish_reason: 'stop', stop_reason: stopId });
    expect(body.choices[0].text).toBe('Once upon');
    expect(body.usage.completion_tokens).toBe(4);
  });
});

describe('bad requests', () => {
  test.each([
    ['temperature', { temperature: -1 }],
    ['temperature', { temperature: 'hot' }],
    ['top_p', { top_p: 1.5 }],
    ['top_p', { top_p: 0 }],
    ['top_k', { top_k: -7 }],
    ['min_p', { min_p: 2 }],
    ['presence_penalty', { presence_penalty: 3 }],
    ['repetition_penalty', { repetition_penalty: 0 }],
    ['max_tokens', { max_tokens: 0 }],
    ['max_tokens', { max_tokens: 1.5 }],
    ['n', { n: 0 }],
    ['n', { n: 1e9 }],
    ['top_logprobs', { logprobs: true, top_logprobs: 21 }],
    ['top_logprobs', { top_logprobs: 3 }],
    ['logit_bias', { logit_bias: { x: 1 } }],
    ['logit_bias', { logit_bias: { 1: 101 } }],
    ['logit_bias', { logit_bias: { 99999: 1 } }],
    ['stop_token_ids', { stop_token_ids: [-1] }],
    ['stop', { stop: 7 }],
    ['min_tokens', { min_tokens: 6 }],
    ['seed', { seed: 1.5 }],
    ['messages', { messages: [] }],
    ['messages.0.role', { messages: [{ content: 'x' }] }],
    ['messages.0.content.0', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }],
    ['stream_options', { stream_options: { include_usage: true } }],
    ['response_format.json_schema.schema', { response_format: { type: 'json_schema' } }],
    ['tool_choice', { tool_choice: 'required' }],
    // Its template makes nothing of them.
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }],
    ['best_of', { best_of: 2 }],
    ['suffix', { suffix: 'the end' }],
    ['chat_template', { chat_template: '{{ 1 }}' }],
  ])('name the parameter: %s %o', async (param, more) => {
    const { status, body } = await chat(more);
    expect({ status, param: body.error?.param }).toEqual({ status: 400, param });
    expect(body.error.type).toBe('invalid_request_error');
    expect(body.error.message).toContain(param.split('.')[0]);
  });

  test('say the range', async () => {
    const { body } = await chat({ temperature: 101 });
    expect(body.error.message).toMatch(/temperature must be a number in \[0, 100\], got 101/);
  });

  test('unknown parameters and nulls are ignored', async () => {
    const nothing = { temperature: null, stop: null, tools: null, logit_bias: null, n: null };
    expect((await chat({ ...nothing, foo: 1, response_format: { type: 'text' } })).status).toBe(
      200,
    );
  });

  test('malformed JSON is 400 and not quoted', async () => {
    const { status, body } = await post('/v1/completions', '{"prompt": "my secret');
    expect(status).toBe(400);
    expect(body.error.code).toBe('invalid_json');
    expect(JSON.stringify(body)).not.toContain('secret');
    for (const text of ['', 'null', '[]', '"x"', '7']) {
      expect((await post('/v1/completions', text)).status).toBe(400);
    }
  });

  test('an unknown model is 404', async () => {
    const { status, body } = await complete({ model: 'gpt-5' });
    expect(status).toBe(404);
    expect(body.error).toMatchObject({ code: 'model_not_found', param: 'model' });
  });

  test('a prompt over the context is 400, however far over', async () => {
    for (const words of [600, 500_000]) {
      const { status, body } = await complete({ prompt: 'sea '.repeat(words) });
      expect(status).toBe(400);
      expect(body.error.code).toBe('context_length_exceeded');
      expect(body.error.message).toContain('maximum context length is 512 tokens');
    }
    expect((await complete({ prompt: '' })).status).toBe(400);
    expect((await complete({ prompt: [] })).status).toBe(400);
    expect((await complete({ prompt: [4096] })).body.error.param).toBe('prompt');
  });

  test('too many choices are 400', async () => {
    const { body } = await complete({ prompt: Array(100).fill('sea'), n: 100 });
    expect(body.error.param).toBe('n');
  });
});

describe('other routes', () => {
  const get = async (path: string, init: RequestInit = {}) => fetch(`${server.url}${path}`, init);

  test('list models', async () => {
    // biome-ignore lint/suspicious/noExplicitAny: any document
    const list: any = await (await get('/v1/models')).json();
    expect(list.data).toHaveLength(1);
    expect(list.data[0]).toMatchObject({ id: 'storyteller', object: 'model', max_model_len: 512 });
    expect(await (await get('/v1/models/storyteller')).json()).toEqual(list.data[0]);
    expect((await get('/v1/models/a/b')).status).toBe(404);
  });

  test('tokenize and detokenize', async () => {
    const prompt = 'The sea — naïve ☃.';
    const { body } = await post('/tokenize', { prompt, return_token_strs: true });
    expect(body.count).toBe(body.tokens.length);
    expect(body.max_model_len).toBe(512);
    expect(body.token_strs).toHaveLength(body.count);
    expect((await post('/detokenize', { tokens: body.tokens })).body).toEqual({ prompt });
    const messages = [{ role: 'user', content: prompt }];
    expect((await post('/tokenize', { messages })).body.tokens).toEqual(body.tokens);
    expect((await post('/detokenize', { tokens: [4096] })).status).toBe(400);
    expect((await post('/tokenize', {})).status).toBe(400);
  });

  test('say what is unknown and what is not allowed', async () => {
    const unknown = await get('/v1/nothing');
    expect(unknown.status).toBe(404);
    expect(await unknown.json()).toMatchObject({ error: { code: 'route_not_found' } });
    const wrong = await get('/v1/completions');
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get('allow')).toBe('POST');
    const deleted = await get('/v1/models', { method: 'DELETE' });
    expect(deleted.headers.get('allow')).toBe('GET, HEAD');
    expect((await get('/health', { method: 'HEAD' })).status).toBe(200);
  });

  test('echo the request id, or make one', async () => {
    const given = await complete();
    expect(given.headers.get('x-request-id')).toMatch(/^[0-9a-f]{32}$/);
    const echoed = await post('/v1/completions', { prompt: 'x' }, { 'X-Request-Id': 'abc-1' });
    expect(echoed.headers.get('x-request-id')).toBe('abc-1');
    expect(echoed.body.id).toBe('cmpl-abc-1');
    const odd = await post('/v1/completions', { prompt: 'x' }, { 'X-Request-Id': 'a b"' });
    expect(odd.headers.get('x-request-id')).toMatch(/^[0-9a-f]{32}$/);
  });

  test('show the bridge', async () => {
    // biome-ignore lint/suspicious/noExplicitAny: any document
    const bridge: any = await (await get('/v1/bridge')).json();
    expect(bridge.law).toEqual({ name: 'off', reason: 'a synthetic engine has no bridge' });
    expect(bridge.ledger[0]).toMatchObject({ purpose: 'tokens', direction: 'd2h' });
    expect(bridge.lanes[0].utilisation).toBeGreaterThanOrEqual(0);
    expect(bridge.speculation).toBeNull();
  });

  test('show what is drafted, and why, where anything is', async () => {
    const speculation = {
      draftsPerStep: 4,
      reason: 'it pays',
      drafts: 10,
      draftTokens: 37,
      acceptedTokens: 21,
    };
    const drafting = await startTestServer({ speculation });
    try {
      // biome-ignore lint/suspicious/noExplicitAny: any document
      const bridge: any = await (await fetch(`${drafting.url}/v1/bridge`)).json();
      expect(bridge.speculation).toEqual({
        drafts_per_step: 4,
        reason: 'it pays',
        drafts: 10,
        draft_tokens: 37,
        accepted_tokens: 21,
      });
      const metrics = await (await fetch(`${drafting.url}/metrics`)).text();
      const labels = String.raw`\{model_name="storyteller",engine="0"\}`;
      for (const [name, value] of [
        ['vllm:spec_decode_num_drafts_total', 10],
        ['vllm:spec_decode_num_draft_tokens_total', 37],
        ['vllm:spec_decode_num_accepted_tokens_total', 21],
        ['bridgekeeper:draft_tokens_per_step', 4],
      ]) {
        expect(metrics).toMatch(new RegExp(`^${name}${labels} ${value}$`, 'm'));
      }
    } finally {
      await drafting.stop(0);
    }
  });

  test('are all in the OpenAPI document, which refers to nothing it lacks', async () => {
    // biome-ignore lint/suspicious/noExplicitAny: any document
    const document: any = await (await get('/openapi.json')).json();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/',
      '/.well-known/ohttp-gateway',
      '/console',
      '/console/{name}',
      '/detokenize',
      '/health',
      '/metrics',
      '/openapi.json',
      '/rerank',
      '/score',
      '/tokenize',
      '/v1/attestation/report',
      '/v1/bridge',
      '/v1/bridge/events',
      '/v1/bridge/timeline',
      '/v1/chat/completions',
      '/v1/completions',
      '/v1/embeddings',
      '/v1/messages',
      '/v1/messages/count_tokens',
      '/v1/models',
      '/v1/models/{id}',
      '/v1/plan',
      '/v1/plan/what-if',
      '/v1/receipts/key',
      '/v1/receipts/links',
      '/v1/receipts/{id}',
      '/v1/requests',
      '/v1/requests/{id}',
      '/v1/rerank',
      '/v1/responses',
      '/v1/responses/{id}',
      '/v1/responses/{id}/cancel',
      '/v1/responses/{id}/input_items',
      '/v1/score',
      '/v2/rerank',
      '/version',
    ]);
    const references = [
      ...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g),
    ];
    expect(references.length).toBeGreaterThan(10);
    for (const [, name] of references) expect(document.components.schemas).toHaveProperty(name!);
    // What is refused always has no answer.
    delete document.paths['/v1/responses/{id}/cancel'];
    for (const methods of Object.values<Record<string, { responses: object }>>(document.paths)) {
      for (const operation of Object.values(methods)) {
        expect(Object.keys(operation.responses)).toContain('200');
      }
    }
  });

  test("serve vLLM's metric names with its labels", async () => {
    await complete();
    const text = await (await get('/metrics')).text();
    for (const name of [
      'num_requests_running',
      'num_requests_waiting',
      'kv_cache_usage_perc',
      'prefix_cache_queries_total',
      'prefix_cache_hits_total',
      'num_preemptions_total',
      'prompt_tokens_total',
      'generation_tokens_total',
      'time_to_first_token_seconds_count',
      'inter_token_latency_seconds_bucket',
      'time_per_output_token_seconds_sum',
      'e2e_request_latency_seconds_count',
      'request_queue_time_seconds_count',
      'request_prefill_time_seconds_count',
      'request_decode_time_seconds_count',
      'request_prompt_tokens_count',
      'request_generation_tokens_count',
      'iteration_tokens_total_count',
      'request_success_total',
      'cache_config_info',
    ]) {
      expect(text).toMatch(new RegExp(`^vllm:${name}\\{.*model_name="storyteller"`, 'm'));
      expect(text).toMatch(new RegExp(`^vllm:${name}\\{.*engine="0"`, 'm'));
    }
    expect(text).toMatch(/bridgekeeper:bridge_bytes_total\{purpose="tokens",direction="d2h"/);
    expect(text).toMatch(/request_success_total\{finished_reason="length".*\} [1-9]/);
    expect(text).not.toContain('spec_decode');
    expect(text).not.toContain('Once');
  });
});

describe('keys', () => {
  test('guard everything but /health, and separate tenants', async () => {
    const guarded = await startTestServer({ pace: 'by-hand' }, { apiKey: ['one', 'two'] });
    const ask = (path: string, key?: string) =>
      fetch(`${guarded.url}${path}`, key ? { headers: { Authorization: `Bearer ${key}` } } : {});
    expect((await ask('/health')).status).toBe(200);
    for (const path of [
      '/v1/models',
      '/metrics',
      '/version',
      '/openapi.json',
      '/v1/bridge',
      '/x',
    ]) {
      const refused = await ask(path);
      expect([path, refused.status]).toEqual([path, 401]);
      expect(refused.headers.get('www-authenticate')).toBe('Bearer');
      expect((await ask(path, 'three')).status).toBe(401);
    }
    expect((await ask('/v1/models', 'two')).status).toBe(200);
    const tenants = new Set<string>();
    for (const [key, salt] of [['one'], ['two'], ['two', 'x'], ['two', 'y']] as const) {
      const body = { prompt: 'x', cache_salt: salt };
      void guarded.post('/v1/completions', body, { Authorization: `Bearer ${key}` });
      const before = guarded.stub.openIds.length;
      await guarded.untilOpen(before + 1);
      const { tenant } = guarded.stub.requestAt(before)!;
      expect(tenant).not.toContain(key);
      tenants.add(tenant);
    }
    expect(tenants.size).toBe(4);
    await guarded.stop(0);
  });

  test('are not needed from allowed origins before they ask', async () => {
    const flags = { allowedOrigins: ['https://a.example'], apiKey: ['k'] };
    const open = await startTestServer({}, flags);
    const ask = (origin: string, method: string) =>
      fetch(`${open.url}/v1/models`, {
        method,
        headers: { Origin: origin, Authorization: 'Bearer k' },
      });
    const preflight = await ask('https://a.example', 'OPTIONS');
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-headers')).toContain('authorization');
    const allowed = await ask('https://a.example', 'GET');
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://a.example');
    const other = await ask('https://b.example', 'GET');
    expect(other.status).toBe(403);
    expect(other.headers.get('access-control-allow-origin')).toBeNull();
    await open.stop(0);
    const closed = await fetch(`${server.url}/version`, {
      headers: { Origin: 'https://a.example' },
    });
    expect(closed.status).toBe(403);
    expect(closed.headers.get('access-control-allow-origin')).toBeNull();
  });

  test('of several tenants do not read what tells of all; an operator key does', async () => {
    const status = async (flags: Parameters<typeof startTestServer>[1], key?: string) => {
      const some = await startTestServer({}, { receipts: 'memory', ...flags });
      const headers = key === undefined ? {} : { Authorization: `Bearer ${key}` };
      const paths = ['/metrics', '/v1/bridge', '/v1/receipts/links', '/v1/models'];
      const answers = await Promise.all(paths.map((path) => fetch(some.url + path, { headers })));
      await some.stop(0);
      return answers.map((answer) => answer.status);
    };
    const all = [200, 200, 200, 200];
    const own = [403, 403, 403, 200];
    expect(await status({})).toEqual(all);
    expect(await status({ apiKey: ['a'] }, 'a')).toEqual(all);
    expect(await status({ apiKey: ['a', 'b'] }, 'a')).toEqual(own);
    expect(await status({ apiKey: ['a'], operatorKey: ['o'] }, 'a')).toEqual(own);
    expect(await status({ apiKey: ['a'], operatorKey: ['o'] }, 'o')).toEqual(all);
    expect(await status({ operatorKey: ['o'] })).toEqual(own);
    expect(await status({ operatorKey: ['o'] }, 'o')).toEqual(all);
  });
});

describe('names of the server', () => {
  /** The status of a request to that host; fetch would not send the header. */
  const ask = (port: number, host: string, path = '/v1/models') =>
    new Promise<number>((resolve, reject) => {
      request({ port, host: '127.0.0.1', path, headers: { Host: host } }, (answer) => {
        answer.resume();
        resolve(answer.statusCode!);
      })
        .on('error', reject)
        .end();
    });

  test('are those of this machine, unless others are allowed or keys are wanted', async () => {
    for (const path of ['/v1/models', '/metrics', '/v1/attestation/report', '/x']) {
      expect([path, await ask(server.port, 'evil.example', path)]).toEqual([path, 403]);
    }
    expect(await ask(server.port, `localhost:${server.port}`)).toBe(200);
    expect(await ask(server.port, 'evil.example', '/health')).toBe(200);
    const named = await startTestServer({}, { allowedHosts: ['llm.example'] });
    expect(await ask(named.port, 'LLM.example:80')).toBe(200);
    expect(await ask(named.port, 'evil.example')).toBe(403);
    await named.stop(0);
    const keyed = await startTestServer({}, { apiKey: ['k'] });
    expect(await ask(keyed.port, 'llm.example')).toBe(401);
    await keyed.stop(0);
  });

  test('do not let a page of another origin do work', async () => {
    const body = { prompt: 'x', max_tokens: 1 };
    const from = async (origin: string, headers = {}) =>
      (await post('/v1/completions', body, { Origin: origin, ...headers })).status;
    expect(await from('https://a.example')).toBe(403);
    expect(await from('null')).toBe(403);
    expect(await from(server.url)).toBe(200);
    // What a form or a page without asking can send.
    expect((await post('/v1/completions', body, { 'Content-Type': 'text/plain' })).status).toBe(
      415,
    );
  });
});
