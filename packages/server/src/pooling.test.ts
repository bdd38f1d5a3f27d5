import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from './testing/test-server.ts';

// Of a synthetic engine: texts that begin alike have vectors alike, and shorter prompts score more.

const servers = new Map<string, TestServer>();
beforeAll(async () => {
  for (const task of ['generate', 'embed', 'score'] as const) {
    servers.set(task, await startTestServer({ card: { task } }, { task }));
  }
});
afterAll(() => Promise.all([...servers.values()].map((server) => server.stop(0))));

// biome-ignore lint/suspicious/noExplicitAny: the tests look at whatever document came back
type Document = any;

async function post(task: string, path: string, body: object): Promise<Document> {
  const response = await servers.get(task)!.post(path, body);
  return { status: response.status, ...((await response.json()) as object) };
}
const embed = (body: object) => post('embed', '/v1/embeddings', body);
const vectors = ({ data }: Document): number[][] =>
  data.map(({ embedding }: Document) => embedding);

describe('embeddings', () => {
  test('are one vector for each input, whatever form it has', async () => {
    const texts = ['Once upon a time', 'There was'];
    const both = await embed({ input: texts });
    expect(both).toMatchObject({
      object: 'list',
      model: 'storyteller',
      data: [{ index: 0, object: 'embedding' }, { index: 1 }],
    });
    const [first, second] = vectors(both);
    expect(Math.hypot(...first!)).toBeCloseTo(1);
    expect(vectors(await embed({ input: texts[0] }))).toEqual([first]);
    const ids: number[][] = [];
    for (const prompt of texts) ids.push((await post('embed', '/tokenize', { prompt })).tokens);
    expect(vectors(await embed({ input: ids }))).toEqual([first, second]);
    expect(vectors(await embed({ input: ids[1] }))).toEqual([second]);
    const tokens = ids.flat().length;
    expect(both.usage).toEqual({ prompt_tokens: tokens, total_tokens: tokens });
  });

  test('are cut to the dimensions wanted, and of length 1 again', async () => {
    const input = 'Once upon a time';
    const [whole] = vectors(await embed({ input }));
    const [cut] = vectors(await embed({ input, dimensions: 3 }));
    const length = Math.hypot(...whole!.slice(0, 3));
    expect(cut).toHaveLength(3);
    cut!.forEach((value, at) => {
      expect(value).toBeCloseTo(whole![at]! / length, 6);
    });
  });

  test('come as bytes, where that is asked for', async () => {
    const [plain] = vectors(await embed({ input: 'Once upon a time' }));
    const { data } = await embed({ input: 'Once upon a time', encoding_format: 'base64' });
    const bytes = Uint8Array.from(Buffer.from(data[0].embedding, 'base64'));
    const floats = [...new Float32Array(bytes.buffer)];
    expect(floats).toEqual([...Float32Array.from(plain!)]);
  });

  test('are of the first tokens, where that is asked for', async () => {
    const { tokens } = await post('embed', '/tokenize', { prompt: 'Once upon a time' });
    const cut = await embed({ input: 'Once upon a time', truncate_prompt_tokens: 2 });
    expect(vectors(cut)).toEqual(vectors(await embed({ input: tokens.slice(0, 2) })));
    const long = new Array(600).fill(7);
    expect((await embed({ input: long })).error.code).toBe('context_length_exceeded');
    const fitting = await embed({ input: long, truncate_prompt_tokens: -1 });
    expect(fitting.usage.prompt_tokens).toBe(512);
  });
});

describe('scores', () => {
  test('are how likely a judge says yes', async () => {
    const body = { text_1: 'Once', text_2: ['upon a time', 'x'] };
    const { error } = await post('score', '/v1/score', body);
    // The bundled model has no such words.
    expect(error).toMatchObject({ code: 'unsupported_value', param: 'model' });
  });

  test('of a model that embeds are how far vectors point the same way', async () => {
    const text_2 = ['Once upon a time', 'There was'];
    const scores = await post('embed', '/score', { text_1: 'Once upon a time', text_2 });
    expect(scores.data[0]).toMatchObject({ index: 0, object: 'score' });
    expect(scores.data[0].score).toBeCloseTo(1, 5);
    expect(scores.data[1].score).toBeLessThan(0.99);
    const pairs = await post('embed', '/v1/score', { queries: text_2, documents: text_2 });
    for (const { score } of pairs.data) expect(score).toBeCloseTo(1, 5);
  });

  test('put documents in order', async () => {
    const documents = ['There was', { text: 'Once upon a time' }, 'Once upon'];
    const query = 'Once upon a time';
    for (const path of ['/rerank', '/v1/rerank', '/v2/rerank']) {
      const { results } = await post('embed', path, { query, documents });
      expect(results.map(({ index }: Document) => index)).toEqual([1, 2, 0]);
      expect(results[0].document).toEqual({ text: query });
    }
    const few = { query, documents, top_n: 1, return_documents: false };
    const { results } = await post('embed', '/rerank', few);
    expect(results).toEqual([{ index: 1, relevance_score: expect.closeTo(1, 5) }]);
  });
});

test.each([
  ['generate', '/v1/embeddings', { input: 'x' }, 'model'],
  ['generate', '/score', { text_1: 'x', text_2: 'y' }, 'model'],
  ['score', '/v1/embeddings', { input: 'x' }, 'model'],
  ['embed', '/v1/completions', { prompt: 'x' }, 'model'],
  ['embed', '/v1/responses', { input: 'x' }, 'model'],
  ['embed', '/v1/embeddings', {}, 'input'],
  ['embed', '/v1/embeddings', { input: [] }, 'input'],
  ['embed', '/v1/embeddings', { input: new Array(1089).fill('x') }, 'input'],
  ['embed', '/v1/embeddings', { input: 'x', dimensions: 9 }, 'dimensions'],
  ['embed', '/v1/embeddings', { input: 'x', encoding_format: 'int8' }, 'encoding_format'],
  ['embed', '/v1/embeddings', { input: 'x', messages: [] }, 'messages'],
  ['embed', '/score', { text_1: ['x', 'y'], text_2: ['z'] }, 'text_1'],
  ['embed', '/score', { text_1: 'x' }, 'text_2'],
  ['embed', '/rerank', { query: 'x', documents: [] }, 'documents'],
  ['embed', '/rerank', { query: 'x', documents: ['y'], instruction: 'z' }, 'instruction'],
])('%s: %s of %j is refused by name', async (task, path, body, param) => {
  expect(await post(task, path, body)).toMatchObject({ status: 400, error: { param } });
});
