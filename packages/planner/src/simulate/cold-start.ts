import type { Profile } from '@bridgekeeper/bridge';
import type { ColdPhase } from './prediction.ts';
import type { Scenario } from './scenario.ts';

/** Of host memory that a confidential VM accepts before it is used. */
const ACCEPTED_BYTES_PER_SECOND = 4e9;
/** Files of a page cache or a fast disk. */
const READ_BYTES_PER_SECOND = 20e9;

/**
 * From a machine that was just assigned to the first answer, phase by phase. What depends on the
 * machine and not on the bridge is given as documented or inferred, and said so.
 */
export function coldStart(scenario: Scenario): readonly ColdPhase[] {
  const { law, model, gpu, flags, engine } = scenario;
  const bytes = model.weightBytes / flags.tensorParallel;
  const rate = law === null ? gpu.hostBytesPerSecond.value : loadingRate(law);
  const slowest = Math.min(rate, READ_BYTES_PER_SECOND);
  const load: ColdPhase = {
    phase: 'load',
    seconds: bytes / slowest,
    basis: 'inferred',
    source:
      rate <= READ_BYTES_PER_SECOND
        ? 'weights over the rate of one context with large copies'
        : 'weights over a page cache read by several threads',
  };
  const kernels: ColdPhase = engine.startsWith('bridgekeeper')
    ? {
        phase: 'kernels',
        seconds: 2.5 + (law === null ? 0 : 2 * (law.contexts.createNs / 1e9)),
        basis: 'measured',
        source: 'docs/results/h200/start.json: kernels, contexts and graphs of a later start',
      }
    : {
        phase: 'kernels',
        seconds: 53,
        basis: 'measured',
        source: 'compiling a dummy Qwen3-8B with PyTorch on one H100; vLLM keeps it in a cache',
      };
  const boot: ColdPhase = {
    phase: 'boot',
    seconds: 30,
    basis: 'inferred',
    source: 'kernel, driver and services of a VM; not measured here',
  };
  if (law === null) return [boot, load, kernels];
  return [
    { phase: 'reset', seconds: 12, basis: 'inferred', source: 'GPU reset into CC mode' },
    {
      phase: 'memory',
      seconds: (1.5 * bytes) / ACCEPTED_BYTES_PER_SECOND,
      basis: 'inferred',
      source: 'a VM of 1.5 times the weights accepts its memory at about 4 GB/s',
    },
    boot,
    {
      phase: 'attestation',
      seconds: 3,
      basis: 'inferred',
      source: 'quote, GPU evidence and one round of collateral',
    },
    load,
    kernels,
  ];
}

/** What one context, or as many as help, reach with large pieces from the better memory. */
function loadingRate({ crossings, contexts }: Profile): number {
  const { pinned, pageable } = crossings.h2d;
  const last = (points: typeof pinned.bandwidth) => points.at(-1)!.bytesPerSecond;
  const pooled = Math.max(...contexts.aggregateRate.map(({ factor }) => factor));
  return Math.max(last(pinned.bandwidth), last(pageable.bandwidth)) * pooled;
}
