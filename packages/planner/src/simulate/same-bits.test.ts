import { createHash } from 'node:crypto';
import { referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { readSpec, specWorkload } from '../workload/spec.ts';
import { DEFAULT_FLAGS, type EngineName } from './scenario.ts';
import { simulate } from './simulate.ts';

/**
 * Of the predictions below, on Node 20, 24 and 26 alike. It changes with whatever is predicted:
 * then look at it on all three before you write it here.
 */
const DIGEST = '91f2757a2ad2e544eda9fee25c7c5efa0de9cd0387fefd8d64b65cdd1539c92d';

const ENGINES: readonly EngineName[] = ['vllm-v1-async', 'sglang-overlap', 'bridgekeeper-resident'];

test('a plan has the same bits on every machine and every Node', async () => {
  const hash = createHash('sha256');
  for (const engine of ENGINES) {
    const prediction = await simulate({
      model: knownModel('Qwen3-0.6B'),
      gpu: knownGpu('h200'),
      law: referenceProfile('b300-cc'),
      engine,
      flags: { ...DEFAULT_FLAGS, maxRows: 32, maxModelTokens: 4096, maxBatchTokens: 2048 },
      workload: specWorkload(readSpec('20 req/s, 300~0.5+16..48, 60 requests, prefix 128 of 3'), 7),
      slo: { ttftMs: 50, itlMs: 5 },
      warmupRequests: 6,
      window: { fromNs: 0, toNs: 50e6 },
      seed: 7,
    });
    hash.update(JSON.stringify(prediction));
  }
  expect(hash.digest('hex')).toBe(DIGEST);
});
