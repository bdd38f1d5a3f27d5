import { fileURLToPath } from 'node:url';
import { openTokenizer } from '@bridgekeeper/engine/text';
import { Draws } from '@bridgekeeper/planner/workload';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { customRequests, sharegptRequests } from './prompts.ts';
import { vocabularyOf } from './requests.ts';
import { traceRequests } from './trace.ts';
import { randomRequests, repeatedTo } from './workload.ts';

const STORYTELLER = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));
const tokenizer = await openTokenizer(STORYTELLER);
const vocabulary = Uint32Array.from({ length: 4000 }, (_, index) => index + 16);
const random = { requests: 6, inputTokens: 40, outputTokens: 20, rangeRatio: 0, prefixTokens: 0 };

describe('random prompts', () => {
  test('are as long as asked for, from the vocabulary, and those of their seed', () => {
    const ratio = fc.double({ min: 0, max: 0.99, noNaN: true });
    fc.assert(
      fc.property(fc.nat(), ratio, fc.nat(30), (seed, rangeRatio, prefixTokens) => {
        const options = { ...random, seed, rangeRatio, prefixTokens: prefixTokens + 1 };
        const requests = [...randomRequests(options, vocabulary, undefined)];
        expect(requests).toHaveLength(6);
        for (const { prompt, promptTokens, outputTokens } of requests) {
          expect(prompt).toHaveLength(promptTokens!);
          const length = promptTokens! - options.prefixTokens;
          expect(length).toBeGreaterThanOrEqual(Math.floor(40 * (1 - rangeRatio)));
          expect(length).toBeLessThanOrEqual(Math.ceil(40 * (1 + rangeRatio)));
          expect(outputTokens).toBeGreaterThanOrEqual(1);
          expect(outputTokens).toBeLessThanOrEqual(Math.ceil(20 * (1 + rangeRatio)));
          expect((prompt as number[]).every((id) => id >= 16 && id < 4016)).toBe(true);
        }
        expect([...randomRequests(options, vocabulary, undefined)]).toEqual(requests);
      }),
    );
  });

  test('share the prefix and nothing behind it', () => {
    const options = { ...random, requests: 50, prefixTokens: 8, seed: 3 };
    const prompts = [...randomRequests(options, vocabulary, undefined)].map(
      ({ prompt }) => prompt as number[],
    );
    expect(new Set(prompts.map((ids) => ids.slice(0, 8).join())).size).toBe(1);
    expect(new Set(prompts.map((ids) => ids.slice(8, 12).join())).size).toBe(50);
  });

  test('as text encode to the wanted number of tokens', () => {
    const options = { ...random, requests: 20, prefixTokens: 5, seed: 1 };
    const plain = vocabularyOf({ vocabSize: 32 }, tokenizer);
    for (const { prompt, promptTokens } of randomRequests(options, plain, tokenizer)) {
      expect(tokenizer.encode(prompt as string, true)).toHaveLength(promptTokens!);
      expect(promptTokens).toBe(45);
    }
  });

  test('are refused where one could be empty', () => {
    const options = { ...random, inputTokens: 1, rangeRatio: 0.5, seed: 1 };
    expect(() => [...randomRequests(options, vocabulary, undefined)]).toThrow(/could be empty/);
  });
});

const options = { requests: 10, chunkTokens: 4, secondsPerUnit: undefined, seed: 5 };
const replay = (text: string, more = {}) => [
  ...traceRequests(text, { ...options, ...more }, vocabulary),
];

describe('traces', () => {
  const record = (timestamp: number, input_length: number, hash_ids: number[]) =>
    JSON.stringify({ timestamp, input_length, output_length: 3, hash_ids });

  test('prompts share what their hash ids share, and come in order of time', () => {
    const text = [record(3500, 6, [1, 2]), record(3000, 7, [1, 3]), record(4000, 4, [9]), ''];
    const requests = replay(text.join('\n'));
    expect(requests.map(({ atSeconds }) => atSeconds)).toEqual([0, 0.5, 1]);
    const [a, b, c] = requests.map(({ prompt }) => prompt as number[]);
    expect([a!.length, b!.length, c!.length]).toEqual([7, 6, 4]);
    expect(a!.slice(0, 4)).toEqual(b!.slice(0, 4));
    expect(a!.slice(4, 6)).not.toEqual(b!.slice(4, 6));
    expect(c).not.toEqual(b!.slice(0, 4));
    expect(replay(text.join('\n'), { requests: 1 })).toHaveLength(1);
    const fast = replay(text.join('\n'), { secondsPerUnit: 1e-4 });
    expect(fast.at(-1)!.atSeconds).toBeCloseTo(0.1, 9);
  });

  test("Azure's table, with fractions of seconds and answers of nothing", () => {
    const text = [
      'TIMESTAMP,ContextTokens,GeneratedTokens',
      '2023-11-16 18:17:03.9799600,480,10',
      '2023-11-16 18:17:04.0319600,318,0',
      '2023-11-17 18:17:04.0319600,1,8',
    ];
    const requests = replay(text.join('\r\n'));
    const shapes = requests.map(({ promptTokens, outputTokens }) => [promptTokens, outputTokens]);
    expect(shapes).toEqual([
      [480, 10],
      [318, 1],
      [1, 8],
    ]);
    expect(requests[1]!.atSeconds).toBeCloseTo(0.052, 5);
    expect(requests[2]!.atSeconds).toBeCloseTo(86400.052, 5);
  });

  test.each([
    ['{"timestamp": 1', /line 1: is not JSON/],
    ['{"timestamp": 1, "output_length": 2}', /line 1: input_length must be a number/],
    [`${record(0, 4, [1])}\n{"timestamp": -1}`, /line 2: timestamp must be/],
    [record(0, 9, [1, 2]), /--timed-trace-chunk-hash-size: a record of 9 tokens has 2 hash_ids/],
    [record(0, 4, [0.5]), /hash_ids must be whole/],
    ['a,b\n1,2', /neither JSON lines nor a table/],
    ['TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2', /line 2: needs a time/],
  ])('refuses %j', (text, message) => {
    expect(() => replay(text)).toThrow(message);
  });
});

describe('prompts of files', () => {
  test('custom: lengths of the flag or of the file', () => {
    const text = '{"prompt": "Once upon"}\n\n{"prompt": "a time", "output_tokens": 7}\n';
    expect([...customRequests(text, 5, undefined)]).toEqual([
      { prompt: 'Once upon', promptTokens: undefined, outputTokens: 5 },
      { prompt: 'a time', promptTokens: undefined, outputTokens: 5 },
    ]);
    const counted = [...customRequests(text.split('\n')[2]!, undefined, tokenizer)];
    expect(counted[0]).toMatchObject({ promptTokens: expect.any(Number), outputTokens: 7 });
  });

  test.each(['{"prompt": "secret"', '{"prompt": 7}', '{"prompt": "secret"}', 'null'])(
    'custom: a bad line is named, and not quoted: %j',
    (line) => {
      const text = `{"prompt": "a", "output_tokens": 1}\n${line}`;
      const read = () => [...customRequests(text, undefined, undefined)];
      expect(read).toThrow(/line 2/);
      expect(read).not.toThrow(/secret/);
    },
  );

  test('sharegpt: first turns, without the very short and the very long', () => {
    const turns = (...values: unknown[]) => ({ conversations: values.map((value) => ({ value })) });
    const story = 'The old sailor looked out over the quiet sea and thought of home.';
    const entries = [
      turns(story, story, 'more'),
      turns(story),
      turns('a', story),
      turns(story.repeat(200), story),
      turns(story, 7),
      {},
      null,
    ];
    const requests = [...sharegptRequests(JSON.stringify(entries), undefined, tokenizer)];
    const tokens = tokenizer.encode(story, false).length;
    expect(requests).toEqual([
      { prompt: story, promptTokens: tokenizer.encode(story, true).length, outputTokens: tokens },
    ]);
    expect(() => [...sharegptRequests('{}', undefined, tokenizer)]).toThrow(/must hold an array/);
  });

  test('are repeated to the number wanted', () => {
    const requests = ['a', 'b', 'c'].map((prompt) => ({
      prompt,
      promptTokens: 1,
      outputTokens: 1,
    }));
    const repeated = repeatedTo(requests, 8, new Draws(0, 'order'));
    expect(repeated.slice(0, 3)).toEqual(requests);
    expect(repeated).toHaveLength(8);
    expect(repeatedTo(requests, 2, new Draws(0, 'order'))).toEqual(requests.slice(0, 2));
    const shuffled = new Draws(2, 'order').shuffled([1, 2, 3, 4, 5]);
    expect(shuffled).not.toEqual([1, 2, 3, 4, 5]);
    expect([...shuffled].sort()).toEqual([1, 2, 3, 4, 5]);
  });
});
