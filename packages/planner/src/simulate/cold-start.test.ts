import { referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { coldStart, type Guest } from './cold-start.ts';
import { DEFAULT_FLAGS } from './scenario.ts';

const scenario = {
  model: knownModel('gpt-oss-120b'),
  gpu: knownGpu('b300'),
  law: referenceProfile('b300-cc'),
  flags: DEFAULT_FLAGS,
};
const lazy: Guest = { memoryBytes: 256e9, acceptance: 'lazy' };
const eager: Guest = { memoryBytes: 256e9, acceptance: 'eager' };
type Options = Partial<Parameters<typeof coldStart>[0]>;

function secondsOf(phase: string, options: Options = {}, guest: Guest = lazy): number {
  const phases = coldStart({ ...scenario, engine: 'vllm-v1-async', ...options }, guest);
  return phases.find((each) => each.phase === phase)?.seconds ?? Number.NaN;
}

test('the default path loads gpt-oss-120b in the 287 s that were published', () => {
  expect(secondsOf('load')).toBeGreaterThan(280);
  expect(secondsOf('load')).toBeLessThan(295);
});

test('the engine’s own loader takes what storage or the bridge takes, the slower one', () => {
  const own = secondsOf('load', { engine: 'bridgekeeper-resident' });
  // 65 GB at 7 GB/s; Phala's own loader took 8.36 s.
  expect(own).toBeCloseTo(65.3 / 7, 0);
  const law = referenceProfile('h100-cc');
  const slow = secondsOf('load', { engine: 'bridgekeeper-resident', law });
  expect(slow).toBeGreaterThan(2 * own);
});

test('memory that is accepted before the boot takes minutes', () => {
  expect(secondsOf('memory', {}, eager)).toBeCloseTo(256 / 0.71, 0);
  expect(secondsOf('memory')).toBe(0);
});

test('without confidential computing nothing is accepted or attested', () => {
  const phases = coldStart({ ...scenario, law: null, engine: 'bridgekeeper-resident' }, eager);
  expect(phases.map(({ phase }) => phase)).toEqual(['reset', 'boot', 'load', 'kernels']);
});

test('every phase says where its seconds are from', () => {
  for (const guest of [lazy, eager]) {
    for (const { source } of coldStart({ ...scenario, engine: 'sglang-overlap' }, guest)) {
      expect(source.length).toBeGreaterThan(10);
    }
  }
});
