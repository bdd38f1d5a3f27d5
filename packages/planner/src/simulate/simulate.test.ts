import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import { describe, expect, test } from 'vitest';
import { PlanError } from '../errors.ts';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { readSpec, specWorkload } from '../workload/spec.ts';
import { ENGINE_NAMES } from './engine-names.ts';
import type { Prediction } from './prediction.ts';
import { DEFAULT_FLAGS, type EngineName, type Scenario } from './scenario.ts';
import { simulate } from './simulate.ts';

const MAX_MODEL_TOKENS = 8192;

function scenario(engine: EngineName, load: string, changes: Partial<Scenario> = {}): Scenario {
  return {
    model: knownModel('Qwen3-8B'),
    gpu: knownGpu('h200'),
    law: referenceProfile('b300-cc'),
    engine,
    flags: { ...DEFAULT_FLAGS, maxModelTokens: MAX_MODEL_TOKENS, maxRows: 64 },
    workload: specWorkload(readSpec(load), 1),
    slo: null,
    warmupRequests: 0,
    window: null,
    seed: 1,
    ...changes,
  };
}

const steadily = (engine: EngineName, law: Profile | null = referenceProfile('b300-cc')) =>
  simulate(scenario(engine, '16 at a time, 32+200, 16 requests', { law }));

const perStep = (prediction: Prediction, name: string) => {
  const found = prediction.crossings.find((crossing) => crossing.name === name);
  return (found?.crossings ?? 0) / prediction.step.steps;
};

test.each(ENGINE_NAMES)('%s comes to the same twice, and its parts to its step', async (engine) => {
  const load = '4 req/s, 64..256+16..64, 24 requests';
  const warmupRequests = 8;
  const first = await simulate(scenario(engine, load, { warmupRequests }));
  expect(await simulate(scenario(engine, load, { warmupRequests }))).toEqual(first);
  expect(first.completed).toBe(16);
  const { steps: _, stepNs, ...parts } = first.step;
  const sum = Object.values(parts).reduce((all, ns) => all + ns, 0);
  // Of our own engine, launches' times on the GPU are all that is known for sure.
  expect(sum / stepNs).toBeGreaterThan(0.97);
  expect(sum / stepNs).toBeLessThan(1.03);
  for (const ns of Object.values(parts)) expect(ns).toBeGreaterThanOrEqual(0);
});

describe('what crosses in a step is what the code of an engine copies', () => {
  test('vLLM V1: eight copies up and one down, whole rows of the block table', async () => {
    const prediction = await steadily('vllm-v1-sync');
    const { step, crossings } = prediction;
    const always = crossings.filter(({ crossings: made }) => made === step.steps);
    expect(always.filter(({ direction }) => direction === 'h2d')).toHaveLength(8);
    expect(always.filter(({ direction }) => direction === 'd2h')).toHaveLength(1);
    const table = crossings.find(({ name }) => name === 'block table')!;
    // 16 rows of 8192 / 16 blocks of four bytes.
    expect(table.bytes / table.crossings).toBeCloseTo(16 * (MAX_MODEL_TOKENS / 16) * 4, -2);
  });

  test('asynchronous vLLM leaves the ids on the device while the batch stays', async () => {
    const prediction = await steadily('vllm-v1-async');
    expect(perStep(prediction, 'input ids')).toBeLessThan(0.02);
    expect(perStep(prediction, 'discard mask')).toBe(1);
  });

  test('SGLang copies nothing up while the batch stays, and one down', async () => {
    const prediction = await steadily('sglang-overlap');
    const up = prediction.crossings.filter(({ direction }) => direction === 'h2d');
    const made = up.reduce((sum, { crossings }) => sum + crossings, 0);
    expect(made / prediction.step.steps).toBeLessThan(0.1);
    expect(perStep(prediction, 'next token ids')).toBe(1);
  });

  test('a graph is one launch, and one in pieces three for each layer and one', async () => {
    const load = '1 at a time, 8+100, 1 requests';
    const of = async (graphs: 'full' | 'piecewise') => {
      const base = scenario('vllm-v1-sync', load);
      const made = await simulate({ ...base, flags: { ...base.flags, graphs } });
      return made.launchesPerStep;
    };
    const layers = 36;
    // The one step with the prompt is in pieces in any case.
    expect((await of('piecewise')) - (await of('full'))).toBeCloseTo(3 * layers * (99 / 100), 6);
  });
});

test('a thread for readbacks brings what blocking takes, no overlap most of it', async () => {
  const rate = async (engine: EngineName, law?: null) =>
    (await steadily(engine, law)).outputTokensPerSecond;
  const [async, sync, worker] = [
    await rate('vllm-v1-async'),
    await rate('vllm-v1-sync'),
    await rate('vllm-v1-worker'),
  ];
  expect(async).toBeLessThan(sync);
  expect(async).toBeLessThan(worker);
  // Without confidential computing it is the other way round.
  expect(await rate('vllm-v1-async', null)).toBeGreaterThan(await rate('vllm-v1-sync', null));
  expect(await rate('bridgekeeper-resident')).toBeGreaterThan(worker);
});

test('on two GPUs our engine serves as fast as was measured on two', async () => {
  const flags = { ...DEFAULT_FLAGS, maxModelTokens: 4096, maxRows: 64 };
  const tokens = async (load: string, tensorParallel: number) => {
    const changes = { model: knownModel('Qwen3-32B'), law: null };
    const two = { ...changes, flags: { ...flags, tensorParallel } };
    return (await simulate(scenario('bridgekeeper-resident', load, two))).outputTokensPerSecond;
  };
  // docs/results/h200/tensor-parallel-serve.json
  const [alone, together] = [
    '1 at a time, 1024+128, 4 requests',
    '16 at a time, 1024+128, 48 requests',
  ];
  for (const [load, gpus, measured] of [
    [alone, 1, 54.1],
    [alone, 2, 95.6],
    [together, 2, 876],
  ] as const) {
    expect(Math.abs((await tokens(load, gpus)) / measured - 1)).toBeLessThan(0.1);
  }
});

describe('engines beside each other', () => {
  const behindOne = (engine: EngineName, load: string, dataParallel: number, more: object = {}) => {
    const base = scenario(engine, load, { law: null });
    const flags = { ...base.flags, maxModelTokens: 2048, maxRows: 8, dataParallel, ...more };
    return simulate({ ...base, flags });
  };

  test('bring what was measured of two', async () => {
    // docs/results/h200/expert-parallel.json, dataParallel: 192 of 512 + 128 tokens, 64 at a time.
    const load = '64 at a time, 512+128, 192 requests';
    const [one, two] = [
      await behindOne('bridgekeeper-resident', load, 1, { maxRows: 64 }),
      await behindOne('bridgekeeper-resident', load, 2, { maxRows: 64 }),
    ];
    for (const [predicted, measured] of [
      [one.outputTokensPerSecond, 5156],
      [two.outputTokensPerSecond, 7535],
      [one.ttftMs.p99, 797],
      [two.ttftMs.p99, 406],
      [one.itlMs.p50, 6.54],
      [two.itlMs.p50, 5.53],
    ] as const) {
      expect(Math.abs(predicted / measured - 1)).toBeLessThan(0.1);
    }
    expect(one.replicas).toBeUndefined();
    expect(two.replicas).toBe(2);
    expect(two.rows.max).toBe(32);
  });

  test.each(['vllm-v1-sync', 'sglang-overlap', 'bridgekeeper-drain-first'] as const)(
    'of %s, alone with twice the load, do twice as much',
    async (engine) => {
      const one = await behindOne(engine, '2 at a time, 64+32, 8 requests', 1);
      const two = await behindOne(engine, '4 at a time, 64+32, 16 requests', 2);
      expect(two.completed).toBe(16);
      expect(two.outputTokensPerSecond / one.outputTokensPerSecond).toBeCloseTo(2, 1);
      expect(two.step.stepNs / one.step.stepNs).toBeCloseTo(1, 1);
      expect(two.step.steps).toBe(2 * one.step.steps);
      expect(two.kv).toMatchObject({ bytes: one.kv.bytes, tokens: one.kv.tokens });
      const made = ({ crossings }: Prediction) =>
        crossings.reduce((sum, { crossings: count }) => sum + count, 0);
      expect(made(two) / made(one)).toBeCloseTo(2, 1);
    },
  );

  test.each(['vllm-v1-async', 'bridgekeeper-resident'] as const)(
    'of %s take a load that comes by itself, one while the other has nothing',
    async (engine) => {
      const load = '4 req/s, 64..256+16..64, 8 requests';
      const [one, two] = [await behindOne(engine, load, 1), await behindOne(engine, load, 2)];
      expect(two.completed).toBe(8);
      expect(two.tpotMs.mean).toBeLessThanOrEqual(one.tpotMs.mean);
      // Each has half of the work, and the more time without any.
      const idle = ({ step }: Prediction) => step.idleNs / step.stepNs;
      expect(idle(two)).toBeGreaterThan(idle(one));
      const { steps: _, stepNs, ...parts } = two.step;
      const sum = Object.values(parts).reduce((all, ns) => all + ns, 0);
      expect(Math.abs(sum / stepNs - 1)).toBeLessThan(0.03);
    },
  );

  test('keep a prefix where it was computed, as the server does', async () => {
    const load = '2 at a time, 512+4, prefix 384 of 4, 20 requests';
    const [one, two] = [
      await behindOne('bridgekeeper-drain-first', load, 1),
      await behindOne('bridgekeeper-drain-first', load, 2),
    ];
    // Each of four prefixes is computed by one of the engines, once.
    expect(one.kv.hitFraction).toBeGreaterThan(0.3);
    expect(two.kv.hitFraction).toBe(one.kv.hitFraction);
  });
});

test('a shorter context crosses in smaller block tables', async () => {
  const base = scenario('vllm-v1-sync', '64 at a time, 32+100, 64 requests');
  const long = { ...base, flags: { ...base.flags, maxModelTokens: 40_960 } };
  const saved = (await simulate(long)).step.transferNs - (await simulate(base)).step.transferNs;
  // 64 rows of 2048 blocks less, of four bytes, at 8.5 GB/s.
  expect(saved / 1e3).toBeCloseTo((64 * 2048 * 4) / 8500, 0);
});

test.each(['vllm-v1-sync', 'bridgekeeper-drain-first'] as const)(
  'what comes faster than %s ends it does not run for ever',
  async (engine) => {
    const base = scenario(engine, '500 req/s, 16+900, 300 requests');
    const prediction = await simulate({ ...base, flags: { ...base.flags, maxRows: 8 } });
    expect(prediction.neverDrains).toMatch(
      /requests are still open .* faster than this engine ends/,
    );
    expect(prediction.completed).toBeLessThan(300);
  },
);

test('limits that requests break are counted, those of the warm-up are not', async () => {
  const load = '8 at a time, 128+32, 16 requests';
  const slo = { ttftMs: 0.001, itlMs: 1e6 };
  const prediction = await simulate(scenario('vllm-v1-sync', load, { slo, warmupRequests: 8 }));
  expect(prediction.slo).toEqual({ ttft: 1, itl: 0, e2e: 0, any: 1 });
  expect([prediction.requests, prediction.completed]).toEqual([8, 8]);
});

test('a window shows the threads and the GPU of some milliseconds', async () => {
  const window = { fromNs: 100e6, toNs: 130e6 };
  for (const engine of ['vllm-v1-async', 'bridgekeeper-drain-first'] as const) {
    const { timeline } = await simulate(
      scenario(engine, '8 at a time, 64+64, 8 requests', { window }),
    );
    expect(timeline.some(({ lane }) => lane === 'GPU')).toBe(true);
    for (const { startNs, endNs } of timeline) {
      expect(endNs).toBeGreaterThanOrEqual(window.fromNs);
      expect(startNs).toBeLessThanOrEqual(window.toNs);
    }
  }
});

describe('experts on several GPUs', () => {
  const flags = { ...DEFAULT_FLAGS, maxModelTokens: 4096, maxRows: 16, maxBatchTokens: 2048 };
  const model = knownModel('Qwen3-30B-A3B');
  const busyNs = async (engine: EngineName, changes: object, of = model) => {
    const wanted = scenario(engine, '4 at a time, 64+24, 4 requests', {
      model: of,
      law: null,
      flags: { ...flags, ...changes },
    });
    const { memoryNs, computeNs, kernelNs } = (await simulate(wanted)).step;
    return memoryNs + computeNs + kernelNs;
  };

  test.each(['vllm-v1-sync', 'bridgekeeper-drain-first'] as const)(
    'of %s: whole ones cost more than parts, by the one that is hit most, and less than one GPU',
    async (engine) => {
      const one = await busyNs(engine, {});
      const parts = await busyNs(engine, { tensorParallel: 2 });
      const whole = await busyNs(engine, { tensorParallel: 2, expertParallel: true });
      expect(whole / parts).toBeGreaterThan(1.01);
      expect(whole / parts).toBeLessThan(1.25);
      expect(whole).toBeLessThan(one);
    },
  );

  test.each([
    [{ expertParallel: true }, 'Qwen3-30B-A3B', /add --tensor-parallel-size/],
    [{ expertParallel: true, tensorParallel: 2 }, 'Qwen3-8B', /has no experts/],
  ] as const)('%j of %s is refused', async (changes, name, message) => {
    const error = busyNs('vllm-v1-sync', changes, knownModel(name));
    await expect(error).rejects.toMatchObject({ code: 'bad-combination' });
    await expect(error).rejects.toThrow(message);
  });
});

test('a context of 262,144 tokens, whose commands are large, ends as short ones do', async () => {
  const changes = { model: knownModel('Qwen3.6-27B-FP8'), law: null };
  const withContext = (maxModelTokens: number) =>
    simulate(
      scenario('bridgekeeper-resident', '2 at a time, 64+16, 4 requests', {
        ...changes,
        flags: { ...DEFAULT_FLAGS, maxModelTokens },
      }),
    );
  const [long, short] = [await withContext(262_144), await withContext(32_768)];
  expect(long.completed).toBe(4);
  expect(long.outputTokensPerSecond / short.outputTokensPerSecond).toBeCloseTo(1, 1);
});

describe('drafts', () => {
  const load = '1 at a time, 32+96, 2 requests';
  const OWN = 'bridgekeeper-resident';
  const withChance = (chance: number, engine: EngineName = OWN, changes: Partial<Scenario> = {}) =>
    simulate(
      scenario(engine, load, {
        law: null,
        ...changes,
        flags: {
          ...DEFAULT_FLAGS,
          maxModelTokens: 2048,
          maxRows: 4,
          speculation: { drafts: 4, lookupMin: 2, lookupMax: 4, chance },
        },
      }),
    );

  test('bring as many tokens a step as they are right, or are left out', async () => {
    const [none, half, all] = [await withChance(0), await withChance(0.5), await withChance(1)];
    expect(none.drafts).toEqual({ draftedFraction: 0, tokensPerRowStep: 1 });
    // A half, a quarter, an eighth and a sixteenth beside the step's own.
    expect(half.drafts!.tokensPerRowStep).toBeGreaterThan(1.7);
    expect(half.drafts!.tokensPerRowStep).toBeLessThan(2.1);
    expect(all.drafts!.tokensPerRowStep).toBeGreaterThan(4.5);
    expect(all.outputTokensPerSecond).toBeGreaterThan(4 * none.outputTokensPerSecond);
    expect(all.rows.mean).toBeLessThanOrEqual(1);
  });

  test('are ours alone', async () => {
    expect((await withChance(1, 'vllm-v1-sync')).drafts).toBeUndefined();
  });

  test('of a model whose states move on behind them bring little less', async () => {
    const hybrid = { model: knownModel('Qwen3.5-9B') };
    const [none, all] = [await withChance(0, OWN, hybrid), await withChance(1, OWN, hybrid)];
    expect(all.drafts!.tokensPerRowStep).toBeGreaterThan(4.5);
    expect(all.outputTokensPerSecond).toBeGreaterThan(3 * none.outputTokensPerSecond);
  });
});

test.each([
  ['vllm-v1-sync', { gpu: 'h100', model: 'Qwen3-235B-A22B' }, 'does-not-fit'],
  ['bridgekeeper-resident', { gpu: 'h100', model: 'Qwen3-235B-A22B' }, 'does-not-fit'],
  ['vllm-v1-sync', { load: '1 at a time, 8000+800, 1 requests' }, 'bad-workload'],
  ['vllm-v2', {}, 'unknown-engine'],
] as const)('%s with %j is refused as %s', async (engine, changes, code) => {
  const {
    gpu = 'h200',
    model = 'Qwen3-8B',
    load = '1 at a time, 8+8, 1 requests',
  } = {
    ...(changes as { gpu?: string; model?: string; load?: string }),
  };
  const wanted = scenario(engine as EngineName, load, {
    gpu: knownGpu(gpu),
    model: knownModel(model),
  });
  const error = await simulate(wanted).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(PlanError);
  expect((error as PlanError).code).toBe(code);
});
