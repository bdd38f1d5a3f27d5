// What confidential computing takes of a load, by engine: each in virtual time, with and without
// the published bridge of a B300. A prediction, not a measurement.
//
//   node examples/plan-a-load.mjs [model] [gpu] [load]

import { referenceProfile } from '@bridgekeeper/bridge';
import {
  DEFAULT_FLAGS,
  knownGpu,
  knownModel,
  readSpec,
  simulate,
  specWorkload,
} from '@bridgekeeper/planner';

const [model = 'gpt-oss-120b', gpu = 'b300', load = '8 at a time, 512+64, 24 requests'] =
  process.argv.slice(2);
const ENGINES = ['vllm-v1-async', 'vllm-v1-sync', 'sglang-overlap', 'bridgekeeper-resident'];
const SEED = 1;

/** What an engine does with the load under a law; null is without confidential computing. */
function predict(engine, law) {
  return simulate({
    model: knownModel(model),
    gpu: knownGpu(gpu),
    law,
    engine,
    flags: DEFAULT_FLAGS,
    workload: specWorkload(readSpec(load), SEED),
    slo: null,
    warmupRequests: 0,
    window: null,
    seed: SEED,
  });
}

console.log(`${model} on ${gpu}, ${load}: output tokens/s`);
for (const engine of ENGINES) {
  const off = (await predict(engine, null)).outputTokensPerSecond;
  const on = (await predict(engine, referenceProfile('b300-cc'))).outputTokensPerSecond;
  const tax = (100 * (1 - on / off)).toFixed(1);
  console.log([engine.padEnd(22), off.toFixed(0), on.toFixed(0), `${tax} %`].join('  '));
}
