import { settingsWith } from '@bridgekeeper/server';
import { expect, test } from 'vitest';
import type { FactValues } from './facts.ts';
import { unknown } from './facts.ts';
import { plannedGains } from './planned-gains.ts';
import { diagnose } from './rule.ts';
import { RULES } from './rules/index.ts';
import { engineFacts, factsWith } from './testing/facts.ts';

const gainsOf = (changes: Partial<FactValues>, more = {}) => {
  const facts = { ...factsWith(changes), ...more };
  return plannedGains(facts, diagnose(facts, RULES).findings);
};

const overlap = { settings: settingsWith({ policy: 'overlap' }) };

test('a remedy that a plan shows is quoted with its load, GPU and law', async () => {
  const [gain, ...others] = await gainsOf({ ...overlap, gpuKind: 'h100' });
  expect(others).toEqual([]);
  expect(gain!.finding).toBe('own-policy-overlap');
  expect(gain!.text).toMatch(
    /bridgekeeper-resident after bridgekeeper-overlap; Qwen3-8B, 32 at a time.*h100, h100-cc\)$/,
  );
});

test('the model is that of the command, where it is known', async () => {
  const command =
    'VLLM_USE_V2_MODEL_RUNNER=0 vllm serve openai/gpt-oss-20b --load-format runai_streamer';
  const gains = await gainsOf({ ...engineFacts(command), ...overlap });
  expect(gains.find(({ finding }) => finding === 'own-policy-overlap')!.text).toContain(
    'gpt-oss-20b',
  );
});

test('nothing is said of a machine that is not known, or where nothing was found', async () => {
  expect(await gainsOf(overlap, { gpuKind: unknown('a test') })).toEqual([]);
  expect(await gainsOf({ ...overlap, gpuKind: 'other' })).toEqual([]);
  expect(await gainsOf({})).toEqual([]);
});
