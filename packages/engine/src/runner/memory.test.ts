import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { weightBytes } from '../loader/tensors/layout.ts';
import { readModelSpec } from '../models/folder.ts';
import { weightTensors } from '../models/weights.ts';
import { align } from './layer-sizes.ts';
import { budgetMemory, describeMemory, type MemoryRequest } from './memory.ts';
import { bufferBytes, kvPartsOf } from './shapes.ts';

const GIB = 2 ** 30;

async function requestOf(name: string, more: Partial<MemoryRequest> = {}): Promise<MemoryRequest> {
  const folder = new URL(`../../../../packages/engine/configs/${name}`, import.meta.url);
  const spec = await readModelSpec(fileURLToPath(folder));
  return {
    spec,
    shape: {
      task: 'generate',
      maxRows: 64,
      maxBatchTokens: 2048,
      maxModelTokens: 8192,
      pageTokens: 16,
      ringSlots: 256,
      kvFormat: 'element',
      grammarBytes: 0,
      tokenBytes: 0,
      capturedPrompts: 0,
      kvStaging: null,
      hasOnePool: false,
      speculation: null,
      ranks: 1,
    },
    elementBytes: 2,
    deviceBytes: 79 * GIB,
    utilization: 0.9,
    weightBytes: weightBytes(weightTensors(spec), 2),
    kvBytes: undefined,
    ...more,
  };
}

describe('the memory plan', () => {
  test('uses what may be used, to less than a page, and accounts for all of it', async () => {
    const request = await requestOf('qwen3-8b');
    const plan = budgetMemory(request);
    const used =
      plan.weightBytes +
      plan.activationBytes +
      plan.workspaceBytes +
      plan.stateBytes +
      plan.kvBytes;
    const left = request.deviceBytes * request.utilization - used;
    // 36 layers, keys and values of 8 heads of 128, 16 tokens of 2 bytes.
    const pageBytes = 36 * 2 * 8 * 128 * 16 * 2;
    expect(plan.kvLimit).toBe('memory');
    expect(plan.kvBytes).toBe(plan.kvPages * pageBytes);
    expect(left).toBeGreaterThanOrEqual(0);
    expect(left).toBeLessThan(pageBytes);
    expect(plan.kvTokens).toBe(plan.kvPages * 16);
    expect(plan.concurrency).toBe(plan.kvPages / 512);
    const { kvPages, snapshots } = plan;
    const shape = { ...request.shape, kvPages, snapshots, windowPages: 0 };
    const { kv, ...fixed } = bufferBytes(request.spec, shape, 2);
    expect(kv).toBe(plan.kvBytes);
    const fixedBytes = Object.values(fixed).reduce((sum, bytes) => sum + align(bytes), 0);
    expect(fixedBytes).toBe(plan.activationBytes + plan.workspaceBytes + plan.stateBytes);
  });

  test('FP8 weights leave room for KV, and FP8 KV holds twice the tokens', async () => {
    const { shape: few } = await requestOf('qwen3-8b');
    const rows = { shape: { ...few, maxRows: 256 } };
    const elements = budgetMemory(await requestOf('qwen3-8b', rows));
    const request = await requestOf('qwen3-8b-fp8', rows);
    const weights = budgetMemory(request);
    expect(elements.weightBytes - weights.weightBytes).toBeGreaterThan(6.9e9);
    expect(weights.kvTokens).toBeGreaterThan(elements.kvTokens);
    const both = budgetMemory({ ...request, shape: { ...request.shape, kvFormat: 'fp8-e4m3' } });
    expect(both.kvTokens / 2).toBeCloseTo(weights.kvTokens, -2);
  });

  test('says what limits it', async () => {
    const small = await requestOf('llama-3.2-1b', { weightBytes: GIB });
    expect(budgetMemory({ ...small, shape: { ...small.shape, maxRows: 4 } })).toMatchObject({
      kvLimit: 'rows',
      kvTokens: 4 * 8192,
      concurrency: 4,
    });
    // A page of this model has 2^19 bytes.
    expect(budgetMemory({ ...small, kvBytes: 600 * 2 ** 19 + 1 })).toMatchObject({
      kvLimit: 'request',
      kvPages: 600,
    });
    expect(budgetMemory({ ...small, kvBytes: 200 * GIB }).kvLimit).toBe('memory');
  });

  // Units are pages of 16 tokens of the layers that see all; 128 pages are a launch's prompts, and
  // each context of the length given has a window, a page more, and 96 tokens ahead.
  test.each([
    // Pages of either kind are 12 layers x 2 x 8 heads of 64, 384 KiB, of which 1 GiB has 2730.
    // Windows are 8 + 1 + 6 pages, for 1024 tokens: 2107 + 128 + 15 x 33 = 2730.
    ['gpt-oss-20b', 2 ** 30, { tokens: 128, pages: 128 + 15 * 33 }, 2107, 2730 >> 1],
    // 18 layers, 576 KiB, 4 GiB are 7281: 5788 + 128 + 15 x 91 = 7281.
    ['gpt-oss-120b', 2 ** 32, { tokens: 128, pages: 128 + 15 * 91 }, 5788, 7281 >> 1],
    // 10 layers x 2 x 4 heads of 512 are 1.25 MiB, 50 x 2 x 16 of 256 ten times as much; 16 GiB are
    // 13107. Windows are 64 + 1 + 6, for 4096 tokens: 3072 + 10 x (128 + 71 x 12) = 12872.
    ['gemma-4-31b', 2 ** 34, { tokens: 1024, pages: 128 + 71 * 12 }, 3072, 1191],
  ])(
    'keeps only windows of layers that see no more: %s',
    async (name, kvBytes, window, ...pages) => {
      const [kvPages, inOnePool] = pages;
      const request = await requestOf(name, { kvBytes, deviceBytes: 141e9, weightBytes: 0 });
      const plan = budgetMemory(request);
      expect(plan).toMatchObject({ kvPages, window, kvTokens: 16 * kvPages, kvLimit: 'request' });
      expect(plan.kvBytes).toBeLessThanOrEqual(kvBytes);
      const pools = { kvPages, windowPages: window.pages, snapshots: 0 };
      const shape = { ...request.shape, ...pools };
      const { kv, kvWindow } = bufferBytes(request.spec, shape, 2);
      expect([kv + kvWindow, kvWindow]).toEqual([plan.kvBytes, plan.window!.bytes]);
      const parts = kvPartsOf(request.spec, shape, 2);
      expect(parts.map(({ bytes, places }) => bytes * places)).toEqual([kv, kvWindow]);
      // Where one pool is asked for pages have all layers, and so where contexts are in the window.
      const one = budgetMemory({ ...request, shape: { ...request.shape, hasOnePool: true } });
      expect(one).toMatchObject({ kvPages: inOnePool, window: null });
      const short = { ...request.shape, maxModelTokens: window.tokens };
      expect(budgetMemory({ ...request, shape: short })).toMatchObject({
        kvPages: inOnePool,
        window: null,
      });
    },
  );

  test('takes little more for commands, which tell of windows and not of contexts', async () => {
    const { spec, shape } = await requestOf('gpt-oss-120b');
    const long = { ...shape, maxRows: 256, maxModelTokens: 131_072, kvPages: 1, snapshots: 0 };
    const [one, two] = [0, 5000].map((windowPages) => {
      const { command } = bufferBytes(spec, { ...long, windowPages }, 2);
      return command / 4;
    });
    // Windows of 15 pages for each row and 128 for a launch; two more records of four words a row.
    const words = 256 * 15 + 128 + 256 * 2 * 4;
    expect(Math.abs(two! - one! - 4 * words)).toBeLessThan(256);
  });

  test('leaves out windows before it refuses a sequence of full length', async () => {
    const { shape, ...request } = await requestOf('gemma-4-31b', { weightBytes: 0 });
    // 16384 pages of 1.25 MiB, and no less than 128 + 71 of ten times as much: 18374.
    const long = { ...request, shape: { ...shape, maxModelTokens: 2 ** 18 }, deviceBytes: 141e9 };
    const unit = 1.25 * 2 ** 20;
    const plan = budgetMemory({ ...long, kvBytes: 18374 * unit });
    expect(plan).toMatchObject({ kvPages: 16384, window: { pages: 199 }, concurrency: 1 });
    expect(budgetMemory({ ...long, kvBytes: 20000 * unit })).toMatchObject({
      kvPages: 16384,
      window: { pages: 361 },
    });
    expect(() => budgetMemory({ ...long, kvBytes: 18373 * unit })).toThrow(
      /262144 needs 22\.43 GiB/,
    );
  });

  test('says how many tokens layers with a window have', async () => {
    const request = await requestOf('gpt-oss-20b', { kvBytes: 2 ** 30, weightBytes: 0 });
    const [kv] = describeMemory(budgetMemory(request));
    expect(kv).toBe(
      'KV cache size: 33,712 tokens, and 9,968 in layers that see 128, as asked for; maximum ' +
        'concurrency for 8,192 tokens per request: 4.12x',
    );
  });

  test('is told in two lines', async () => {
    const request = await requestOf('llama-3.2-1b');
    const shape = { ...request.shape, maxRows: 4, kvFormat: 'fp8-e4m3' as const };
    const [kv, memory] = describeMemory(budgetMemory({ ...request, shape }));
    expect(kv).toBe(
      'KV cache size: 32,768 tokens in fp8-e4m3, all that --max-num-seqs rows can use; ' +
        'maximum concurrency for 8,192 tokens per request: 4.00x',
    );
    expect(memory).toMatch(
      /^device memory, 71\.10 GiB of 79\.00 GiB allowed: weights 2\.30 GiB, KV 512\.0 MiB, act/,
    );
  });

  test.each([20, 15])('refuses %i GiB, with the arithmetic', async (gib) => {
    const request = await requestOf('qwen3-8b', { deviceBytes: gib * GIB });
    expect(() =>
      budgetMemory({ ...request, shape: { ...request.shape, maxModelTokens: 40_960 } }),
    ).toThrow(
      expect.objectContaining({
        code: 'out-of-memory',
        parameter: 'max_model_len',
        message: expect.stringMatching(
          /one sequence of max-model-len 40960 needs 5\.63 GiB\. Of .*weights take 15\.26 GiB/,
        ) as string,
      }),
    );
  });
});

describe('of a model with delta nets', () => {
  // 48 layers, each with 48 heads of 128 x 128 in f32 and 3 inputs of 10,240 channels.
  const stateBytes = 48 * (48 * 128 * 128 * 4 + 3 * 10_240 * 2);
  const ample = { most: 10_000, share: 1 / 4 };
  const planOf = async (more: Partial<MemoryRequest>) =>
    budgetMemory(await requestOf('qwen3.6-27b', { deviceBytes: 140 * GIB, ...more }));

  test('snapshots take their share of what is left for KV, and pages the rest', async () => {
    const without = await planOf({});
    expect([without.snapshots, without.snapshotBytes]).toEqual([0, 0]);
    const pageBytes = without.kvBytes / without.kvPages;
    const plan = await planOf({ snapshots: ample, kvBytes: 20 * GIB });
    expect(plan.snapshots).toBe(Math.floor((5 * GIB) / stateBytes));
    expect(plan.snapshotBytes).toBe(plan.snapshots * stateBytes);
    expect(plan.kvLimit).toBe('request');
    const unused = 20 * GIB - plan.snapshotBytes - plan.kvBytes;
    expect([unused >= 0, unused < pageBytes]).toEqual([true, true]);
    expect((await planOf({ snapshots: { most: 7, share: 1 } })).snapshots).toBe(7);
    expect(describeMemory(plan)[1]).toContain(`, ${plan.snapshots} snapshots 4.`);
  });

  test('a sequence of full length goes before snapshots', async () => {
    const { kvBytes, kvPages } = await planOf({});
    const neededBytes = (kvBytes / kvPages) * 512;
    const tight = (bytes: number) =>
      planOf({ snapshots: { most: 9, share: 1 }, kvBytes: neededBytes + bytes });
    expect((await tight(stateBytes - 1)).snapshots).toBe(0);
    expect((await tight(stateBytes)).snapshots).toBe(1);
    expect((await tight(stateBytes)).concurrency).toBe(1);
  });
});
