import { referenceProfile } from '@bridgekeeper/bridge';
import { describe, expect, test } from 'vitest';
import { PlanError } from '../errors.ts';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { DEFAULT_FLAGS, type Scenario } from '../simulate/scenario.ts';
import { analyticPrediction } from '../testing/analytic.ts';
import { readSpec, specWorkload } from '../workload/spec.ts';
import { summariseWorkload } from '../workload/workload.ts';
import { checkFits, fitOf } from './fit.ts';
import { makePlan, type PlanRequest, type Progress } from './plan.ts';
import { atConcurrency, atRate } from './variation.ts';

const runAll = async (scenarios: readonly Scenario[], onDone: () => void) =>
  scenarios.map((scenario) => {
    onDone();
    return analyticPrediction(scenario);
  });

const flags = { ...DEFAULT_FLAGS, maxModelTokens: 131_072 };
const request: PlanRequest = {
  model: knownModel('gpt-oss-120b'),
  gpu: knownGpu('b300'),
  laws: [referenceProfile('b300-cc')],
  engines: ['vllm-v1-async', 'vllm-v1-sync', 'bridgekeeper-resident'],
  flags,
  workload: specWorkload(readSpec('16 at a time, 1024+128'), 1),
  slo: null,
  guest: { memoryBytes: 256e9, acceptance: 'lazy' },
  concurrencies: [],
  requestsPerSecond: [],
  fleetRequestsPerSecond: null,
  recommends: false,
  window: null,
  stepFactor: 1,
  observed: null,
  seed: 1,
};

describe('a plan', () => {
  test('has every law and engine, and what the law takes of each', async () => {
    const plan = await makePlan(request, runAll, () => {});
    expect(
      plan.predictions.map(({ prediction }) => `${prediction.law} ${prediction.engine}`),
    ).toEqual(
      ['off', 'b300-cc'].flatMap((law) => request.engines.map((engine) => `${law} ${engine}`)),
    );
    const [, , , asynchronous, synchronous, resident] = plan.predictions;
    expect(plan.predictions[0]!.tax).toBeNull();
    // Tolls of 1.2, 0.3 and 0.03 ms, and 1.3 ms of block tables, on a step that takes about 10 ms.
    expect(asynchronous!.tax).toBeGreaterThan(synchronous!.tax!);
    expect(synchronous!.tax).toBeGreaterThan(resident!.tax!);
    const { step } = asynchronous!.prediction;
    expect(asynchronous!.tax).toBeCloseTo((step.tollNs + step.transferNs) / step.stepNs, 6);
    expect(asynchronous!.prediction.coldStart.length).toBeGreaterThan(4);
  });

  test('compares each point of a sweep with law off at the same load', async () => {
    const plan = await makePlan(
      { ...request, concurrencies: [1, 64], requestsPerSecond: [0.5] },
      runAll,
      () => {},
    );
    expect(plan.points).toHaveLength(3 * 6);
    const at64 = plan.points.filter(({ value }) => value === 64);
    expect(at64.map(({ tax }) => tax === null)).toEqual([true, true, true, false, false, false]);
    expect(at64[3]!.prediction.rows.mean).toBe(64);
    const rated = plan.points.find(({ kind }) => kind === 'rate')!;
    expect(rated.prediction.workload).toContain('0.5 req/s');
  });

  test('finds the rate at which a limit breaks, and the fleet for a load', async () => {
    // Rows of 16: what a full replica does is known by hand.
    const bounded = { ...request, flags: { ...flags, maxRows: 16 }, slo: { itlMs: 500 } };
    const plan = await makePlan({ ...bounded, fleetRequestsPerSecond: 100 }, runAll, () => {});
    const step = plan.predictions[0]!.prediction.step.stepNs / 1e9;
    const full = 16 / (128 * step);
    const { requestsPerSecond, limitedBy, fleet } = plan.capacities[0]!;
    expect(limitedBy).toBe('never drains');
    expect(requestsPerSecond / full).toBeGreaterThan(0.9);
    expect(requestsPerSecond / full).toBeLessThan(1.01);
    expect(fleet!.replicas).toBe(Math.ceil(100 / (0.85 * requestsPerSecond)));
    expect(fleet!.utilization).toBeLessThanOrEqual(0.85);
    const strict = { ...bounded, slo: { itlMs: 1 }, fleetRequestsPerSecond: 1 };
    const none = await makePlan(strict, runAll, () => {});
    expect(none.capacities[0]).toMatchObject({
      requestsPerSecond: 0,
      limitedBy: 'itl',
      fleet: null,
    });
  });

  test('recommends what brings most, each with what it brings by itself', async () => {
    const plan = await makePlan({ ...request, recommends: true }, runAll, () => {});
    expect(plan.recommendations.map(({ family }) => family)).toEqual(['vllm', 'bridgekeeper']);
    const vllm = plan.recommendations[0]!;
    const taken = vllm.tried.filter(({ isTaken }) => isTaken).map(({ change }) => change.id);
    expect(taken.sort()).toEqual(['vllm-max-model-len', 'vllm-no-async-scheduling']);
    expect(vllm.start.command).toContain('--no-async-scheduling');
    expect(vllm.start.command).toContain('--max-model-len 2048');
    expect(vllm.after.outputTokensPerSecond).toBeGreaterThan(vllm.before.outputTokensPerSecond);
    const best = vllm.tried.map(({ gain }) => gain.throughput);
    expect(best).toEqual([...best].sort((a, b) => b - a));
  });

  test('engines beside each other are on every command line, and in the fleet', async () => {
    const plan = await makePlan(
      {
        ...request,
        engines: ['vllm-v1-async', 'sglang-overlap', 'trtllm-overlap', 'bridgekeeper-resident'],
        flags: { ...flags, tensorParallel: 2, dataParallel: 2, maxRows: 16 },
        recommends: true,
        slo: { itlMs: 500 },
        fleetRequestsPerSecond: 1,
      },
      runAll,
      () => {},
    );
    const starts = new Map(plan.recommendations.map((each) => [each.family, each.start]));
    expect(starts.get('vllm')!.command).toContain('--data-parallel-size 2');
    expect(starts.get('sglang')!.command).toContain('--dp-size 2');
    expect(starts.get('tensorrt-llm')!.notes.at(-1)!.setting).toBe('2 servers');
    expect(starts.get('bridgekeeper')!.file!.text).toContain('\ndata-parallel-size: 2\n');
    const { fleet } = plan.capacities[0]!;
    expect(fleet!.gpus).toBe(4 * fleet!.replicas);
  });

  test('tells how far it is, and never more than all', async () => {
    const seen: Progress[] = [];
    await makePlan({ ...request, slo: { itlMs: 50 }, recommends: true }, runAll, (progress) => {
      seen.push(progress);
    });
    expect(new Set(seen.map(({ stage }) => stage))).toEqual(
      new Set(['loads', 'capacity', 'recommendations']),
    );
    for (const { done, total } of seen) expect(done).toBeLessThanOrEqual(total);
    expect(seen.at(-1)!.done).toBe(seen.at(-1)!.total);
  });
});

describe('a model that does not fit', () => {
  const question = (name: string, gpu: string, more = {}) => ({
    model: knownModel(name),
    gpu: knownGpu(gpu),
    flags: { ...DEFAULT_FLAGS, ...more },
    isConfidential: true,
  });
  const refusal = (name: string, gpu: string, more = {}) => {
    try {
      checkFits(question(name, gpu, more));
    } catch (error) {
      expect(error).toBeInstanceOf(PlanError);
      return (error as PlanError).message;
    }
    return null;
  };

  test('is refused with by how much, and what would', () => {
    // 141 GB of weights on a GPU that may use 0.9 of 79.3 GB.
    const message = refusal('Llama-3.3-70B', 'h100');
    expect(message).toMatch(/fit 1 x NVIDIA H100 SXM: weights 141 GB.*more than the 71\.4 GB/);
    expect(message).toMatch(/What would fit:.* --tensor-parallel-size 4; --gpu b200/);
    expect(refusal('Llama-3.3-70B', 'b300')).toBeNull();
    expect(refusal('Llama-3.3-70B', 'h100', { tensorParallel: 4 })).toBeNull();
    expect(refusal('DeepSeek-V3', 'h100')).toContain('nothing that is known');
  });

  test('may fit with shorter requests or smaller KV', () => {
    const long = { maxModelTokens: 262_144 };
    expect(refusal('Gemma-4-31B', 'h100', long)).toMatch(/--max-model-len 4096|tensor/);
    expect(refusal('Qwen3-32B', 'h100', { maxModelTokens: 40_960 })).toMatch(/--max-model-len/);
  });

  test('has its memory counted by hand', () => {
    const fit = fitOf(question('Qwen3-8B', 'h200', { maxModelTokens: 1000 }));
    expect(fit.requestBytes).toBe(1000 * 147_456);
    expect(fit.allowedBytes).toBe((141e9 - 0.7e9) * 0.9);
  });
});

describe('a load of the same lengths', () => {
  const trace = specWorkload(readSpec('2 req/s, 100~1+10~1, 200 requests'), 3);

  test('comes at another rate, with its own bursts', () => {
    const faster = atRate(trace, 8, 1);
    expect(summariseWorkload(faster).requestsPerSecond!).toBeCloseTo(8, 0);
    // All gaps of a turn shrink alike; the second turn follows the first.
    const [early, late] = [40, 150].map((index) => {
      return trace.requests[index]!.atNs / faster.requests[index]!.atNs;
    });
    expect(early! / late!).toBeCloseTo(1, 6);
    expect(early! / 4).toBeCloseTo(1, 1);
    expect(faster.requests[200]!.atNs).toBeGreaterThan(faster.requests[199]!.atNs);
    expect(faster.requests[7]!.promptTokens).toBe(trace.requests[7]!.promptTokens);
  });

  test('comes so many at a time', () => {
    const closed = atConcurrency(trace, 32);
    expect(closed).toMatchObject({ concurrency: 32 });
    expect(closed.requests).toHaveLength(64);
    expect(closed.requests.every(({ atNs }) => atNs === 0)).toBe(true);
  });
});
