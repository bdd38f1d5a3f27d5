import type { z } from '@hono/zod-openapi';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApiError } from '../http/errors.ts';
import { CONVERSATION_BOUNDS, checkJsonBounds, tokenBounds } from '../http/json-bounds.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';
import { BODY_COUNTS, checkCounts } from './body-counts.ts';
import { ChatCompletionRequest } from './schema/chat.ts';
import { CompletionRequest } from './schema/completions.ts';
import { DetokenizeRequest, TokenizeRequest } from './schema/documents.ts';

const ROUTES = {
  '/v1/chat/completions': [ChatCompletionRequest, CONVERSATION_BOUNDS],
  '/v1/completions': [CompletionRequest, tokenBounds(512)],
  '/tokenize': [TokenizeRequest, CONVERSATION_BOUNDS],
  '/detokenize': [DetokenizeRequest, tokenBounds(512)],
} as const;
type Path = keyof typeof ROUTES;
const PATHS = Object.keys(ROUTES) as Path[];

const MESSAGE = { role: 'user', content: 'x' };
const GOOD = { messages: [MESSAGE], prompt: 'x', tokens: [1], max_tokens: 1 };

/** Bodies in which one place has very many of one thing. */
const PLACES: Readonly<Record<string, (many: readonly unknown[]) => object>> = {
  prompt: (many) => ({ ...GOOD, prompt: many }),
  'the second prompt': (many) => ({ ...GOOD, prompt: [[1], many] }),
  messages: (many) => ({ ...GOOD, messages: many }),
  content: (many) => ({ ...GOOD, messages: [{ ...MESSAGE, content: many }] }),
  'content of many': (many) => ({
    ...GOOD,
    messages: Array(100).fill({ ...MESSAGE, content: many.slice(0, 500) }),
  }),
  tool_calls: (many) => ({ ...GOOD, messages: [{ ...MESSAGE, tool_calls: many }] }),
  tools: (many) => ({ ...GOOD, tools: many }),
  stop: (many) => ({ ...GOOD, n: 128, stop: many }),
  stop_token_ids: (many) => ({ ...GOOD, n: 128, stop_token_ids: many }),
  logit_bias: (many) => ({ ...GOOD, n: 128, logit_bias: { ...many } }),
  chat_template_kwargs: (many) => ({ ...GOOD, chat_template_kwargs: { x: many } }),
  tokens: (many) => ({ ...GOOD, tokens: many }),
  'a field of no meaning': (many) => ({ ...GOOD, foo: many }),
  'the body': (many) => ({ ...many }),
};

const FILLERS: readonly unknown[] = [
  {},
  [],
  0,
  -1,
  0.5,
  1e308,
  '',
  'ab',
  null,
  true,
  [1],
  [[]],
  { a: {} },
  { type: 'text' },
  { type: 'text', text: 'x' },
  { role: 'user' },
  { role: 7, content: [7, {}] },
  { function: { arguments: 7 } },
];

const hostile = fc.record({
  path: fc.constantFrom(...PATHS),
  place: fc.constantFrom(...Object.keys(PLACES)),
  filler: fc.constantFrom(...FILLERS),
  log2: fc.double({ min: 0, max: 15, noNaN: true }),
});

const bodyOf = ({ place, filler, log2 }: { place: string; filler: unknown; log2: number }) =>
  JSON.stringify(PLACES[place]!(Array(Math.floor(2 ** log2)).fill(filler)));

/** Every fault that a schema wrote down, those within unions too. */
function countIssues(issues: readonly z.core.$ZodIssue[]): number {
  return issues.reduce((sum, issue) => {
    const nested = issue.code === 'invalid_union' ? countIssues(issue.errors.flat()) : 0;
    return sum + 1 + nested;
  }, 0);
}

/** Faults that the schema of a route finds in a body; undefined: it was not asked. */
function issuesOf(path: Path, text: string): number | undefined {
  const [schema, bounds] = ROUTES[path];
  try {
    checkJsonBounds(new TextEncoder().encode(text), bounds);
    const body: unknown = JSON.parse(text);
    if (path !== '/detokenize') checkCounts(body);
    const result = schema.safeParse(body);
    return result.success ? 0 : countIssues(result.error.issues);
  } catch (error) {
    expect(error).toBeInstanceOf(ApiError);
    return undefined;
  }
}

describe('hostile bodies', () => {
  test('make a bounded number of faults, however many wrong things they hold', () => {
    // Each message and each part may have a few.
    const most = 4 * (BODY_COUNTS.messages + BODY_COUNTS.parts);
    fc.assert(
      fc.property(hostile, (each) => {
        expect(issuesOf(each.path, bodyOf(each)) ?? 0).toBeLessThanOrEqual(most);
      }),
      { numRuns: 400, seed: 15 },
    );
  });

  test.each([
    ['/v1/completions', 'prompt', {}, 1],
    ['/v1/completions', 'prompt', null, 1],
    ['/v1/completions', 'the second prompt', 'a', 1],
    ['/detokenize', 'tokens', {}, 1],
    ['/v1/chat/completions', 'messages', 1, undefined],
    ['/v1/chat/completions', 'content', 1, undefined],
    ['/v1/chat/completions', 'content', {}, undefined],
    ['/v1/chat/completions', 'tool_calls', {}, undefined],
    ['/v1/chat/completions', 'tools', {}, undefined],
    ['/v1/chat/completions', 'stop', 'ab', undefined],
    ['/v1/chat/completions', 'stop_token_ids', 1, undefined],
    ['/v1/chat/completions', 'logit_bias', 1, undefined],
  ] as const)('%s: 30,000 in %s of %o cost one fault', (path, place, filler, faults) => {
    expect(issuesOf(path, JSON.stringify(PLACES[place]!(Array(30_000).fill(filler))))).toBe(faults);
  });
});

describe('counts', () => {
  const refusal = (body: object) => {
    try {
      checkCounts(body);
    } catch (error) {
      return (error as ApiError).param;
    }
    return undefined;
  };
  const { messages, parts, tools, stops, stopCharacters, tokenIds } = BODY_COUNTS;
  const part = { type: 'text', text: 'x' };
  const said = (count: number) => ({ role: 'user', content: Array(count).fill(part) });

  test.each([
    [(n: number) => ({ messages: Array(n).fill(MESSAGE) }), messages, 'messages'],
    [(n: number) => ({ messages: [said(n)] }), parts, 'messages.0.content'],
    [(n: number) => ({ messages: [said(1), said(n - 1)] }), parts, 'messages.1.content'],
    [(n: number) => ({ tools: Array(n).fill({}) }), tools, 'tools'],
    [(n: number) => ({ stop: Array(n).fill('x') }), stops, 'stop'],
    [(n: number) => ({ stop: 'x'.repeat(n) }), stopCharacters, 'stop'],
    [(n: number) => ({ stop: ['x', 'x'.repeat(n - 1)] }), stopCharacters, 'stop'],
    [(n: number) => ({ stop_token_ids: Array(n).fill(1) }), tokenIds, 'stop_token_ids'],
    [(n: number) => ({ logit_bias: { ...Array(n).fill(1) } }), tokenIds, 'logit_bias'],
  ])('%s: the most is taken, one more is not (%i, %s)', (bodyWith, most, param) => {
    expect(refusal(bodyWith(most))).toBeUndefined();
    expect(refusal(bodyWith(most + 1))).toBe(param);
  });

  test('say nothing of what is no list: schemas do', () => {
    for (const body of [{}, { messages: 1, stop: 1, tools: 'x', logit_bias: [1], n: null }]) {
      expect(refusal(body)).toBeUndefined();
    }
    expect(() => checkCounts(null)).not.toThrow();
  });
});

describe('over HTTP', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer();
  });
  afterAll(() => server.stop(0));

  test('hostile bodies have short answers, none of them of a failure of ours', async () => {
    await fc.assert(
      fc.asyncProperty(hostile, async (each) => {
        const response = await server.post(each.path, bodyOf(each));
        const text = await response.text();
        expect([200, 400]).toContain(response.status);
        if (response.status === 400) expect(text.length).toBeLessThan(1000);
      }),
      { numRuns: 60, seed: 15 },
    );
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  });

  test.each([
    ['nested', '/v1/chat/completions', `{"messages": ${'['.repeat(100_000)}`],
    ['of millions of ids', '/detokenize', `{"tokens": [${'1,'.repeat(2_000_000)}1]}`],
    ['of ids over any context', '/detokenize', `{"tokens": [${'1,'.repeat(100_000)}1]}`],
    ['of empty objects', '/v1/completions', `{"prompt": [${'{},'.repeat(1_000_000)}{}]}`],
    ['of keys', '/v1/completions', `{"prompt": "x"${',"a":1'.repeat(500_000)}}`],
    ['with a long stop', '/v1/completions', `{"prompt": "x", "stop": "${'x'.repeat(2 ** 20)}"}`],
  ])('a body %s is a 400', async (_kind, path, body) => {
    const response = await server.post(path, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_value' } });
  });

  test('a gzip body is told what it is', async () => {
    const answer = await server.post('/tokenize', '{"prompt": "x"}', {
      'Content-Encoding': 'gzip',
    });
    expect(answer.status).toBe(415);
  });
});
