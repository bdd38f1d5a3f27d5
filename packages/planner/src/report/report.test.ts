import { referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { makePlan, type Plan, type PlanRequest } from '../plan/plan.ts';
import { DEFAULT_FLAGS, type Scenario } from '../simulate/scenario.ts';
import { analyticPrediction } from '../testing/analytic.ts';
import { readSpec, specWorkload } from '../workload/spec.ts';
import { planDocument } from './document.ts';
import { planLines } from './lines.ts';
import { planPage } from './page.ts';
import { traceEvents } from './trace-events.ts';

const runAll = async (scenarios: readonly Scenario[]) => scenarios.map(analyticPrediction);

function planOf(more: Partial<PlanRequest> = {}): Promise<Plan> {
  const request: PlanRequest = {
    model: knownModel('gpt-oss-120b'),
    gpu: knownGpu('b300'),
    laws: [referenceProfile('b300-cc')],
    engines: ['vllm-v1-async', 'vllm-v1-sync', 'bridgekeeper-resident'],
    flags: { ...DEFAULT_FLAGS, maxModelTokens: 131_072 },
    workload: specWorkload(readSpec('16 at a time, 1024+128'), 1),
    slo: { itlMs: 50 },
    guest: { memoryBytes: 256e9, acceptance: 'lazy' },
    concurrencies: [1, 64],
    requestsPerSecond: [],
    fleetRequestsPerSecond: 500,
    recommends: true,
    window: { fromNs: 1e9, toNs: 1.1e9 },
    stepFactor: 1,
    observed: null,
    seed: 1,
    ...more,
  };
  return makePlan(request, runAll, () => {});
}

test('a page can be sent to somebody: nothing is loaded or run, nothing is missing', async () => {
  const page = planPage(await planOf());
  expect(page).not.toMatch(/<script|<link|src=|@import|url\(/);
  expect(page).not.toMatch(/NaN|undefined|Infinity|\[object/);
  for (const word of [
    'How many for 500 req/s?',
    '--no-async-scheduling',
    'bridgekeeper.yaml',
    'What the bridge takes, by load',
    'Where the time of a step goes',
    'From a bare GPU to the first request',
    'prefers-color-scheme: dark',
    'NVIDIA HGX B300 datasheet',
  ]) {
    expect(page).toContain(word);
  }
});

test('names of models and loads are text on it', async () => {
  const model = { ...knownModel('Qwen3-8B'), name: '<img onerror=x>', path: "/a b/it's" };
  const page = planPage(await planOf({ model }));
  expect(page).not.toContain('<img');
  expect(page).toContain('&lt;img onerror=x>');
  // A path with spaces and quotes is one word of a shell.
  expect(page).toContain(`'/a b/it'\\''s'`);
});

test('a load that never drains is said first', async () => {
  const workload = specWorkload(readSpec('5000 req/s, 1024+512'), 1);
  const plan = await planOf({ workload, concurrencies: [] });
  expect(planPage(plan)).toMatch(/class="caveat">vllm-v1-async, off, 5000 req\/s.*never drains/);
  const lines = planLines(plan).join('\n');
  expect(lines).toMatch(/! vllm-v1-async.*never drains/);
  expect(lines).toContain('Is one replica enough for this load?  No, with none of 3 engines');
});

test('it says whether a replica is enough for a rate, and what is left of a fleet', async () => {
  const workload = specWorkload(readSpec('1.19 req/s, 1024+256'), 1);
  const lines = planLines(await planOf({ workload, concurrencies: [] })).join('\n');
  expect(lines).toMatch(/Is one replica enough.*Yes, with each of 3 engines: \S+ answers soonest/);
  expect(lines).toMatch(/requests on average and \d+ at most, of 256, and .* % of KV/);
  expect(lines).toMatch(/While one is down, or starts, the others are given \d+/);
  const alone = await planOf({ workload, concurrencies: [], fleetRequestsPerSecond: 0.1 });
  expect(planLines(alone).join('\n')).toContain('While it is down, or starts, nothing serves.');
  // Of so many at a time nobody asks whether that is too much.
  expect(planLines(await planOf({ concurrencies: [] })).join('\n')).not.toContain('Is one replica');
});

test('a model that is only nearly so is said to be', async () => {
  const plan = await planOf({ model: knownModel('Qwen3.6-27B') });
  expect(planPage(plan)).toContain('linear-attention layers are priced');
});

test('the document has a run for each load, in the shape of all results', async () => {
  const plan = await planOf();
  const context = { version: '0', command: 'bridgekeeper plan', startedAt: new Date(0) };
  const document = planDocument(plan, context);
  expect(document.suite).toBe('plan');
  expect(document.runs).toHaveLength(6 * 3);
  expect(document.runs[3]!.parameters).toMatchObject({ law: 'b300-cc', engine: 'vllm-v1-async' });
  expect(document.runs[0]!.metrics).not.toHaveProperty('taxFraction');
  expect(document.runs[3]!.metrics.taxFraction).toBeGreaterThan(0.1);
  expect(JSON.parse(JSON.stringify(document.plan))).toEqual(document.plan);
});

test('timelines are trace events: a process an engine, a thread a lane, in us', async () => {
  const plan = await planOf();
  const predictions = plan.predictions.map(({ prediction }) => prediction);
  const { traceEvents: events } = JSON.parse(traceEvents(predictions)) as {
    traceEvents: { ph: string; name: string; pid: number; tid?: number; ts: number; dur: number }[];
  };
  expect(events.filter(({ name }) => name === 'process_name')).toHaveLength(6);
  const first = events.find(({ ph, pid }) => ph === 'X' && pid === 1)!;
  expect(first).toMatchObject({ name: 'step', tid: 1, ts: 1e6 });
  expect(first.dur).toBeCloseTo(predictions[0]!.step.memoryNs / 1000, 6);
});
