import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash32, openCpuDevice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineOptions } from './create.ts';
import type { GenerationRequest, Pooling } from './request/request.ts';
import { writeModelFolder } from './selftest/model-folder.ts';
import { ReferenceModel } from './selftest/reference-model.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

const MODEL = { architecture: 'Qwen3ForCausalLM', seed: 5 } as const;
const EMBED: Pooling = { task: 'embed' };

let folder: string;
let model: string;
let bare: string;
let reference: ReferenceModel;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-pooling-'));
  model = join(folder, 'model');
  bare = join(folder, 'bare');
  await writeModelFolder(model, MODEL);
  await writeModelFolder(bare, { ...MODEL, isBare: true, shards: 2 });
  reference = new ReferenceModel(model);
});
afterAll(() => rm(folder, { recursive: true }));

/** Prompts of many lengths, which begin alike in groups. */
function prompts(count: number): number[][] {
  const draw = (of: number, i: number) => (hash32(3, of, i) >>> 0) % 256;
  return Array.from({ length: count }, (_, index) =>
    Array.from({ length: 1 + draw(index, 0) / 2 }, (_, i) =>
      draw(i < 40 ? index % 3 : index, 9 + i),
    ),
  );
}

const asked = (id: number, prompt: readonly number[], pooling: Pooling): GenerationRequest => ({
  ...request(`r${id}`, prompt),
  pooling,
});

async function options(overrides: Partial<EngineOptions>): Promise<EngineOptions> {
  return engineOptions(await openCpuDevice({ threads: 2 }), overrides);
}

async function pooled(
  overrides: Partial<EngineOptions>,
  texts: readonly (readonly number[])[],
  pooling: Pooling,
) {
  return withEngine(await options(overrides), async (engine) => {
    const outcomes = await Promise.all(
      texts.map((prompt, at) => generate(engine, asked(at, prompt, pooling))),
    );
    return { outcomes, stats: engine.stats() };
  });
}

function expectVector(found: Float32Array | undefined, expected: Float64Array): void {
  expect(found).toHaveLength(expected.length);
  expected.forEach((value, i) => {
    expect(found![i]).toBeCloseTo(value, 5);
  });
}

describe('embeddings', () => {
  it('are the float64 model’s, whatever chunks, batches, prefixes and names', async () => {
    const texts = prompts(20);
    for (const [at, overrides] of [
      { model, maxBatchTokens: 48, maxRows: 4 },
      { model: bare, policy: 'resident' as const },
    ].entries()) {
      const { outcomes, stats } = await pooled({ ...overrides, task: 'embed' }, texts, EMBED);
      outcomes.forEach(({ tokens, events, finish }, index) => {
        expect(tokens).toEqual([]);
        expect(finish.reason).toBe('stop');
        expectVector(events.at(-1)!.pooled, reference.embedding(texts[index]!));
      });
      expect(stats.generatedTokens).toBe(0);
      if (at === 0) expect(stats.prefixHitTokens).toBeGreaterThan(0);
    }
  });

  it('come back in one crossing of their own for each launch that ends prompts', async () => {
    const { stats } = await pooled(
      { model, task: 'embed' },
      [
        [1, 2, 3],
        [4, 5],
      ],
      EMBED,
    );
    const { totals } = stats.bridge;
    const bytes = 2 * 64 * 4;
    const crossed = totals.filter(({ direction }) => direction === 'd2h');
    expect(crossed).toMatchObject([{ purpose: 'pooled', crossings: 1, bytes }]);
  });

  it('take a prompt that fills the context, and none that is longer', async () => {
    const opened = await options({ model, task: 'embed', maxModelTokens: 64 });
    await withEngine(opened, async (engine) => {
      const full = new Array(64).fill(7);
      const { events } = await generate(engine, asked(0, full, EMBED));
      expectVector(events.at(-1)!.pooled, reference.embedding(full));
      expect(() => engine.submit(asked(1, [...full, 1], EMBED), () => {})).toThrow(/64 tokens/);
    });
  });
});

describe('scores', () => {
  it('are how likely one token is where it is one of two', async () => {
    const texts = prompts(9);
    const tokens = [17, 200] as const;
    const wanted: Pooling = { task: 'score', tokens };
    const { outcomes } = await pooled({ model, task: 'score', maxRows: 3 }, texts, wanted);
    outcomes.forEach(({ events }, index) => {
      const line = reference.logprobs(texts[index]!).at(-1)!;
      const [yes, no] = tokens.map((token) => Math.exp(line[token]!));
      expect(events.at(-1)!.pooled).toHaveLength(1);
      expect(events.at(-1)!.pooled![0]).toBeCloseTo(yes! / (yes! + no!), 5);
    });
  });

  it('need two rows', async () => {
    const opened = await options({ model, task: 'score', maxRows: 1 });
    await expect(withEngine(opened, async () => {})).rejects.toThrow('--max-num-seqs');
    await opened.device.close();
  });
});

it('an engine does what it was started for, and nothing else', async () => {
  await withEngine(await options({ model }), async (engine) => {
    expect(() => engine.submit(asked(0, [1], EMBED), () => {})).toThrow('started to generate');
  });
  await withEngine(await options({ model, task: 'embed' }), async (engine) => {
    expect(() => engine.submit(request('r', [1]), () => {})).toThrow('started to embed');
  });
});
