// What `plan` says of the loads of h200/expert-parallel.json (dataParallel), request by request: all
// of them are counted, as `bench serve` counts them, behind one that warms up.
// node docs/results/planner/data-parallel.mjs > docs/results/planner/data-parallel.json
const P = new URL('../../../packages', import.meta.url);
const planner = await import(`${P}/planner/dist/index.js`);
const { readFileSync } = await import('node:fs');
const measured = JSON.parse(
  readFileSync(new URL('../h200/expert-parallel.json', import.meta.url), 'utf8'),
).dataParallel.throughput.runs;
const LOADS = [
  [1, 3],
  [64, 192],
];
const load = (concurrency, requests) =>
  planner.specWorkload(planner.readSpec(`${concurrency} at a time, 512+128, ${requests} requests`), 0);
const parts = ({ outputTokensPerSecond, ttftMs, itlMs, tpotMs }) => ({
  outputTokensPerSecond: +outputTokensPerSecond.toFixed(1),
  ttftMsP50: +ttftMs.p50.toFixed(1),
  ttftMsP99: +ttftMs.p99.toFixed(1),
  itlMsP50: +itlMs.p50.toFixed(2),
  tpotMsP50: +tpotMs.p50.toFixed(2),
});
const runs = [];
for (const engines of [1, 2]) {
  for (const [concurrency, requests] of LOADS) {
    const prediction = await planner.simulate({
      model: planner.knownModel('Qwen3-8B'),
      gpu: planner.knownGpu('h200'),
      law: null,
      engine: 'bridgekeeper-resident',
      flags: { ...planner.DEFAULT_FLAGS, maxModelTokens: 2048, dataParallel: engines },
      workload: load(concurrency, requests),
      slo: null,
      warmup: load(1, 1),
      warmupRequests: 0,
      window: null,
      seed: 0,
    });
    const run = measured.find(
      ({ engines: of, result }) =>
        of === engines && result.runs[0].parameters.concurrency === concurrency,
    ).result.runs[0].metrics;
    const seen = {
      outputTokensPerSecond: +run.outputTokensPerSecond.toFixed(1),
      ttftMsP50: +run.ttftMsP50.toFixed(1),
      ttftMsP99: +run.ttftMsP99.toFixed(1),
      itlMsP50: +run.itlMsP50.toFixed(2),
      tpotMsP50: +run.tpotMsP50.toFixed(2),
    };
    runs.push({ engines, concurrency, requests, predicted: parts(prediction), measured: seen });
  }
}
const what =
  'Qwen3-8B behind --data-parallel-size 1 and 2 on H200: what is predicted for bridgekeeper-resident, and what was measured (h200/expert-parallel.json, dataParallel, build 5d5e109, one run)';
const document = { what, command: 'node docs/results/planner/data-parallel.mjs', machine: 'virtual time: any', runs };
console.log(JSON.stringify(document, null, 1));
