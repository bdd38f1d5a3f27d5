import { afterAll, expect, test } from 'vitest';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { DEFAULT_FLAGS, type Scenario } from '../simulate/scenario.ts';
import { simulate } from '../simulate/simulate.ts';
import { readSpec, specWorkload } from '../workload/spec.ts';
import { SimulationPool } from './pool.ts';

const pool = new SimulationPool(2);
afterAll(() => pool.close());

const scenarioOf = (seed: number, engine = 'bridgekeeper-resident'): Scenario => ({
  model: knownModel('Qwen3-0.6B'),
  gpu: knownGpu('h100'),
  law: null,
  engine: engine as Scenario['engine'],
  flags: { ...DEFAULT_FLAGS, maxModelTokens: 1024, maxRows: 4 },
  workload: specWorkload(readSpec('2 at a time, 64~0.5+8, 4 requests'), seed),
  slo: null,
  stepFactor: 1,
  warmupRequests: 0,
  window: null,
  seed,
});

test('gives what one thread gives, in the order in which it was asked', async () => {
  const scenarios = [1, 2, 3].map((seed) => scenarioOf(seed));
  let done = 0;
  const results = await pool.run(scenarios, () => {
    done += 1;
  });
  expect(done).toBe(3);
  for (const [index, scenario] of scenarios.entries()) {
    expect(results[index]).toEqual(await simulate(scenario));
  }
});

test('a scenario that cannot be ends its batch with its error, and the next one runs', async () => {
  const action = pool.run([scenarioOf(1), scenarioOf(1, 'no-such-engine')], () => {});
  await expect(action).rejects.toMatchObject({ name: 'PlanError', code: 'unknown-engine' });
  expect(await pool.run([scenarioOf(1)], () => {})).toHaveLength(1);
});
