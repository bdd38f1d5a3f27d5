import type { Percentiles, Prediction } from '../simulate/prediction.ts';
import type { Scenario } from '../simulate/scenario.ts';

const TOLL_NS = 30_000;
const HOST_NS = 1_000_000;

/** Crossings of a step that the GPU waits for, by engine. */
function crossingsOf(engine: string): number {
  if (engine.includes('async') || engine.includes('overlap')) return 40;
  return engine.includes('sync') || engine.includes('no-overlap') ? 10 : 1;
}

/**
 * A step that takes its weights' way from memory and, under a law, so many tolls; requests that
 * share rows evenly. Its answers can be checked by hand: for tests of what is made of predictions.
 */
export function analyticPrediction(scenario: Scenario): Prediction {
  const { model, gpu, law, engine, workload, flags, slo, window } = scenario;
  const { requests, concurrency } = workload;
  const memoryNs = (model.weightBytes / gpu.reachedBytesPerSecond.value) * 1e9;
  const isSlow = law !== null;
  const tollNs = isSlow ? crossingsOf(engine) * TOLL_NS : 0;
  const transferNs = isSlow && engine.startsWith('vllm') ? flags.maxModelTokens * 10 : 0;
  const stepNs = memoryNs + tollNs + transferNs + HOST_NS;
  const outputs = requests.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
  const meanOutput = outputs / requests.length;
  const span = Math.max(1, (requests.at(-1)?.atNs ?? 0) / 1e9);
  const rows =
    concurrency ?? Math.min(flags.maxRows, (requests.length / span) * meanOutput * (stepNs / 1e9));
  const full = rows >= flags.maxRows && concurrency === null;
  const seconds = (outputs / rows) * (stepNs / 1e9);
  const itl = stepNs / 1e6;
  const ttft = 10 * itl;
  const at = (value: number): Percentiles => {
    return { mean: value, p50: value, p90: value, p95: value, p99: value, max: value };
  };
  const misses = (limit: number | undefined, value: number) =>
    limit !== undefined && value > limit ? 1 : 0;
  const e2e = ttft + meanOutput * itl;
  const parts = {
    ttft: misses(slo?.ttftMs, ttft),
    itl: misses(slo?.itlMs, itl),
    e2e: misses(slo?.e2eMs, e2e),
  };
  return {
    engine,
    model: model.name,
    gpu: gpu.name,
    law: law?.name ?? 'off',
    workload: workload.name,
    requests: requests.length,
    completed: full ? requests.length / 2 : requests.length,
    neverDrains: full ? 'more requests come than end' : null,
    seconds,
    requestsPerSecond: requests.length / seconds,
    outputTokensPerSecond: outputs / seconds,
    totalTokensPerSecond: (2 * outputs) / seconds,
    ttftMs: at(ttft),
    itlMs: at(itl),
    tpotMs: at(itl),
    e2eMs: at(e2e),
    rows: { mean: rows, max: Math.ceil(rows) },
    step: {
      steps: outputs / rows,
      stepNs,
      memoryNs,
      computeNs: 0,
      kernelNs: 0,
      collectiveNs: 0,
      tollNs,
      transferNs,
      allocationNs: 0,
      blockedNs: 0,
      launchNs: 0,
      hostNs: HOST_NS,
      idleNs: 0,
    },
    crossings: [
      {
        name: 'tokens',
        direction: 'd2h',
        crossings: outputs / rows,
        bytes: 4 * outputs,
        crossingsPerToken: 1 / rows,
        bytesPerToken: 4,
      },
    ],
    launchesPerStep: 26,
    kv: { bytes: 1e9, tokens: 1e5, meanUsed: 0.3, peakUsed: 0.5, hitFraction: 0, preemptions: 0 },
    coldStart: [],
    slo: slo === null ? null : { ...parts, any: Math.max(parts.ttft, parts.itl, parts.e2e) },
    timeline:
      window === null
        ? []
        : [0, 1, 2].flatMap((step) => [
            {
              lane: 'compute stream',
              name: 'step',
              startNs: window.fromNs + step * stepNs,
              endNs: window.fromNs + step * stepNs + memoryNs,
            },
            {
              lane: 'copy stream',
              name: 'tokens',
              startNs: window.fromNs + step * stepNs + memoryNs,
              endNs: window.fromNs + (step + 1) * stepNs,
            },
          ]),
    notModelled: [],
  };
}
