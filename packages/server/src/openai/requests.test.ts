import { afterEach, describe, expect, test } from 'vitest';
import { SETTINGS } from '../settings/table.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';
import { openModelText } from '../text/model-text.ts';

const servers: TestServer[] = [];
const start: typeof startTestServer = async (...args) => {
  const server = await startTestServer(...args);
  servers.push(server);
  return server;
};
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop(0)));
});

const PROMPT = 'Once upon a time';

/** What a completion answers. */
async function complete(server: TestServer, body: object, headers?: Record<string, string>) {
  const all = { prompt: PROMPT, max_tokens: 5, ...body };
  const response = await server.post('/v1/completions', all, headers);
  // biome-ignore lint/suspicious/noExplicitAny: whatever document came
  return (await response.json()) as any;
}

/** The requests that the engine gets for a completion. */
async function submitted(body: object, changes: Parameters<typeof startTestServer>[1] = {}) {
  const server = await start({ pace: 'by-hand' }, changes);
  const count = (body as { n?: number }).n ?? 1;
  void server.post('/v1/completions', { prompt: PROMPT, max_tokens: 5, ...body }).catch(() => {});
  await server.untilOpen(count);
  return Array.from({ length: count }, (_, at) => server.stub.requestAt(at)!);
}

describe('choices', () => {
  test('are 256 at most, over all prompts', async () => {
    const server = await start();
    const most = await complete(server, { prompt: Array(128).fill('a'), n: 2, max_tokens: 1 });
    expect(most.choices.map(({ index }: { index: number }) => index)).toEqual(
      Array.from({ length: 256 }, (_, index) => index),
    );
    const { error } = await complete(server, { prompt: Array(86).fill('a'), n: 3 });
    expect(error).toMatchObject({
      code: 'invalid_value',
      param: 'n',
      message: 'n times the number of prompts must be at most 256.',
    });
    const { error: prompts } = await complete(server, { prompt: Array(257).fill('a') });
    expect(prompts).toMatchObject({ param: 'prompt' });
  });

  test('share the memory of their prompt', async () => {
    const [first, ...rest] = await submitted({ n: 3 });
    const { buffer } = first!.promptTokens;
    expect(buffer).toBeInstanceOf(SharedArrayBuffer);
    for (const { promptTokens } of rest) expect(promptTokens.buffer).toBe(buffer);
  });

  test('stand together by prompt, and differ by seed and id', async () => {
    const server = await start({ pace: 'by-hand' });
    const prompt = [
      [600, 601],
      [700, 701, 702],
    ];
    void server.post('/v1/completions', { prompt, n: 2, seed: 5 }).catch(() => {});
    await server.untilOpen(4);
    const requests = [0, 1, 2, 3].map((at) => server.stub.requestAt(at)!);
    expect(requests.map(({ promptTokens }) => [...promptTokens])).toEqual([
      prompt[0],
      prompt[0],
      prompt[1],
      prompt[1],
    ]);
    expect(requests.map(({ sampling }) => sampling.seed)).toEqual([5n, 6n, 5n, 6n]);
    expect(new Set(requests.map(({ id }) => id)).size).toBe(4);
    // What is left of the context of 512.
    expect(requests.map(({ sampling }) => sampling.maxTokens)).toEqual([16, 16, 16, 16]);
  });

  test('fill what is left of the context behind their own prompt', async () => {
    const prompt = Array(500).fill(600);
    const [request] = await submitted({ prompt, max_tokens: 100 });
    expect(request!.sampling.maxTokens).toBe(12);
  });
});

describe('a request’s id', () => {
  test('is the header’s, then the body’s, then a new one', async () => {
    const server = await start();
    const header = { 'X-Request-Id': 'of-header' };
    const idOf = async (body: object, headers = {}) =>
      (await complete(server, { max_tokens: 1, ...body }, headers)).id;
    expect(await idOf({ request_id: 'of-body' }, header)).toBe('cmpl-of-header');
    expect(await idOf({ request_id: 'of-body' })).toBe('cmpl-of-body');
    for (const none of [{}, { request_id: null }, { request_id: 'a b' }, { request_id: '' }]) {
      expect(await idOf(none)).toMatch(/^cmpl-[0-9a-f]{32}$/);
    }
    expect(await idOf({})).not.toBe(await idOf({}));
  });

  test('may have 128 characters', async () => {
    const server = await start();
    const idOf = async (id: string) => (await complete(server, { request_id: id })).id;
    expect(await idOf('x'.repeat(128))).toBe(`cmpl-${'x'.repeat(128)}`);
    expect(await idOf('x'.repeat(129))).not.toContain('x');
  });
});

describe('the model', () => {
  test('is the first one’s name unless another of its names is asked for', async () => {
    const server = await start({}, { servedModelName: ['first', 'second'] });
    const modelOf = async (model: unknown) => (await complete(server, { model })).model;
    expect(await Promise.all([undefined, null, '', 'first'].map(modelOf))).toEqual(
      Array(4).fill('first'),
    );
    expect(await modelOf('second')).toBe('second');
    const { error } = await complete(server, { model: `"${'x'.repeat(300)}` });
    expect(error).toMatchObject({ code: 'model_not_found', param: 'model' });
    expect(error.message).toBe(`The model "\\"${'x'.repeat(199)}" does not exist here.`);
  });
});

describe('text', () => {
  test('is not stopped by empty strings', async () => {
    const server = await start();
    for (const stop of ['', [''], ['', ''], [], null]) {
      const { choices } = await complete(server, { stop });
      expect(choices[0]).toMatchObject({ text: PROMPT, finish_reason: 'length' });
    }
    const { choices } = await complete(server, { stop: ['', ' a'] });
    expect(choices[0]).toMatchObject({ text: 'Once upon', stop_reason: ' a' });
  });

  test('has special tokens only where they are not to be skipped', async () => {
    const server = await start();
    // The end token, which the prompt's repetition brings.
    const special = { prompt: [0, 600], ignore_eos: true, max_tokens: 2 };
    const textOf = async (more: object) =>
      (await complete(server, { ...special, ...more })).choices[0].text;
    const word = await textOf({});
    expect(await textOf({ skip_special_tokens: true })).toBe(word);
    expect(await textOf({ skip_special_tokens: null })).toBe(word);
    const whole = await textOf({ skip_special_tokens: false });
    expect(whole).not.toBe(word);
    expect(whole.endsWith(word)).toBe(true);
  });

  test('ends before a stop string unless it is to be included', async () => {
    const server = await start();
    const textOf = async (more: object) =>
      (await complete(server, { stop: 'upon', ...more })).choices[0].text;
    expect(await textOf({})).toBe('Once ');
    expect(await textOf({ include_stop_str_in_output: null })).toBe('Once ');
    expect(await textOf({ include_stop_str_in_output: true })).toBe('Once upon');
  });
});

describe('a prompt', () => {
  test('that cannot fit is refused before it is encoded, and how long it is', async () => {
    const server = await start();
    const { tokenizer } = await openModelText(SETTINGS.model.default);
    // No token has more bytes, so that text of these might be the context's 512 tokens.
    const bytes = 512 * tokenizer.maxTokenBytes;
    const errorOf = async (prompt: string) => (await complete(server, { prompt })).error;
    expect(await errorOf('x'.repeat(bytes + 1))).toMatchObject({
      code: 'context_length_exceeded',
      param: 'prompt',
      message:
        "This model's maximum context length is 512 tokens. However, your request has at " +
        'least 513 input tokens. Please reduce the length of the input.',
    });
    const encoded = await errorOf('x'.repeat(bytes));
    expect(encoded.code).toBe('context_length_exceeded');
    expect(encoded.message).not.toContain('at least');
  });

  test('of another salt is another tenant’s', async () => {
    const [plain] = await submitted({});
    const [salted] = await submitted({ cache_salt: 'pepper' });
    expect(plain!.tenant).toBe('default');
    expect(salted!.tenant).toMatch(/^default-[0-9a-f]{16}$/);
  });
});
