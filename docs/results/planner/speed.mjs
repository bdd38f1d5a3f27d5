// What a load takes to simulate: node docs/results/planner/speed.mjs <built checkout> <load> [engine]
// Processor seconds of the simulation itself (modules are read before), and a digest of what it predicts.
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';

const [root, load, engine = 'bridgekeeper-resident'] = process.argv.slice(2);
const packages = resolve(root, 'packages');
const planner = await import(`${packages}/planner/dist/index.js`);
const { referenceProfile } = await import(`${packages}/bridge/dist/index.js`);
const scenario = {
  model: planner.knownModel('Qwen3.6-27B-FP8'),
  gpu: planner.knownGpu('b300'),
  law: referenceProfile('b300-cc'),
  engine,
  flags: { ...planner.DEFAULT_FLAGS },
  workload: planner.specWorkload(planner.readSpec(load), 1),
  slo: null,
  warmupRequests: 0,
  window: null,
  seed: 1,
};
const began = process.cpuUsage();
const prediction = await planner.simulate(scenario);
const { user, system } = process.cpuUsage(began);
const { steps, stepNs } = prediction.step;
console.log(
  JSON.stringify({
    engine,
    load,
    cpuSeconds: (user + system) / 1e6,
    virtualSeconds: (steps * stepNs) / 1e9,
    steps,
    maxRssMiB: process.resourceUsage().maxRSS / 1024,
    digest: createHash('sha256').update(JSON.stringify(prediction)).digest('hex').slice(0, 16),
  }),
);
