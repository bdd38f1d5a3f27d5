import { createRequire } from 'node:module';
import { aloneNs, type Profile } from '@bridgekeeper/bridge';
import type { Figure } from '../gpus/gpu.ts';
import type { ColdPhase } from './prediction.ts';
import type { Scenario } from './scenario.ts';

/** data/cold-start.json: what phases take, and who says so. */
type Figures = Readonly<
  Record<
    | 'resetSeconds'
    | 'eagerAcceptBytesPerSecond'
    | 'lazyAcceptedBytes'
    | 'confidentialBootSeconds'
    | 'bootSeconds'
    | 'attestationSeconds'
    | 'storageBytesPerSecond'
    | 'defaultLoadBytesPerSecond'
    | 'defaultLoadBytesPerSecondUnderCc'
    | 'ownKernelSeconds'
    | 'otherKernelSeconds',
    Figure
  >
>;

/** The confidential VM that is started. */
export interface Guest {
  readonly memoryBytes: number;
  /** Whether firmware accepts all memory before it boots, or pages when they are touched. */
  readonly acceptance: 'eager' | 'lazy';
}

const require = createRequire(import.meta.url);
const CHUNK_BYTES = 64 * 2 ** 20;

/**
 * From a bare GPU to the first request, phase by phase, one after the other. Without confidential
 * computing nothing is accepted and nothing attested.
 */
export function coldStart(
  { model, law, gpu, engine, flags }: Pick<Scenario, 'model' | 'law' | 'gpu' | 'engine' | 'flags'>,
  guest: Guest,
): readonly ColdPhase[] {
  const figures: Figures = require('../../data/cold-start.json');
  const isOwn = engine.startsWith('bridgekeeper-');
  const phase = (name: ColdPhase['phase'], { value, basis, source }: Figure): ColdPhase => {
    return { phase: name, seconds: value, basis, source };
  };
  const hasCc = law?.confidential ?? false;
  const load = isOwn
    ? pipelined(model.weightBytes / flags.tensorParallel)
    : byDefault(model.weightBytes);
  return [
    phase('reset', figures.resetSeconds),
    ...(hasCc ? [phase('memory', accepted())] : []),
    phase('boot', hasCc ? figures.confidentialBootSeconds : figures.bootSeconds),
    ...(hasCc ? [phase('attestation', figures.attestationSeconds)] : []),
    phase('load', load),
    phase('kernels', isOwn ? figures.ownKernelSeconds : figures.otherKernelSeconds),
  ];

  function accepted(): Figure {
    const { eagerAcceptBytesPerSecond: rate, lazyAcceptedBytes } = figures;
    if (guest.acceptance === 'lazy') {
      const source =
        `${lazyAcceptedBytes.source}; that is part of the boot, and what is touched later ` +
        'is blocked until it is accepted, which no one has published: touch staging buffers early';
      return { value: 0, basis: 'documented', source };
    }
    return { ...rate, value: guest.memoryBytes / rate.value };
  }

  /** Read, copied and placed at the same time: the slowest decides. */
  function pipelined(bytes: number): Figure {
    const { storageBytesPerSecond } = figures;
    const ofBridge = law === null ? gpu.hostBytesPerSecond.value : bridgeRate(law);
    const isStorage = storageBytesPerSecond.value < ofBridge;
    return {
      value: bytes / Math.min(storageBytesPerSecond.value, ofBridge),
      basis: 'inferred',
      source: isStorage
        ? `the weights from storage: ${storageBytesPerSecond.source}`
        : `the weights in pieces of 64 MiB: ${law?.name ?? gpu.hostBytesPerSecond.source}`,
    };
  }

  function byDefault(bytes: number): Figure {
    const rate = hasCc
      ? figures.defaultLoadBytesPerSecondUnderCc
      : figures.defaultLoadBytesPerSecond;
    return { ...rate, value: bytes / rate.value };
  }
}

/** Large pieces from the better kind of memory, over as many contexts as help. */
function bridgeRate({ crossings, contexts }: Profile): number {
  const { pinned, pageable } = crossings.h2d;
  const rates = [pinned, pageable].map((cost) => (CHUNK_BYTES * 1e9) / aloneNs(cost, CHUNK_BYTES));
  return Math.max(...rates) * Math.max(...contexts.aggregateRate.map(({ factor }) => factor));
}
