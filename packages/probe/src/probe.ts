import { freemem } from 'node:os';
import type { Profile } from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';
import { type ResultContext, resultDocument } from '@bridgekeeper/report';
import { openDevice } from '@bridgekeeper/server';
import { fitRuns, type ProbeDocument } from './document.ts';
import { ProbeError } from './errors.ts';
import {
  type ProbeFacts,
  peerProcesses,
  readMachineFacts,
  refusalOf,
  visibleGpus,
} from './facts.ts';
import { limitsOf } from './limits.ts';
import { type ProbeRun, runProbe } from './run.ts';

export interface ProbeOptions {
  readonly device: DeviceKind;
  /** Imposed on the device; null: the machine is measured as it is. */
  readonly law: Profile | null;
  readonly quick: boolean;
  /** Whose collectives are measured; undefined: all that are visible. */
  readonly gpus: number | undefined;
  /** Measure although another process uses the GPU. */
  readonly force: boolean;
  readonly context: ResultContext;
  readonly nowNs: () => number;
  readonly stop: AbortSignal;
  readonly onStep: (title: string, index: number, total: number) => void;
}

/** Measures the bridge of this machine. Throws ProbeError and DeviceError before it measures. */
export async function probe(options: ProbeOptions): Promise<ProbeDocument> {
  const { law, quick, nowNs, stop, onStep } = options;
  const startedNs = nowNs();
  const machine = readMachineFacts(options.device, law);
  const refusal = refusalOf(machine, options.force);
  if (refusal !== null) throw new ProbeError(refusal.code, refusal.message);
  const { gpus = visibleGpus(options.device) } = options;
  const open = (ranks: number) =>
    openDevice({
      device: { value: options.device, reason: '' },
      law: { value: law, reason: '' },
      ranks,
      firstGpu: 0,
      modelledGpu: null,
    });
  const otherProcesses = options.force ? 0 : peerProcesses(options.device, gpus);
  const group = { gpus, otherProcesses, open: () => open(gpus) };
  const device = await open(1);
  let run: ProbeRun;
  try {
    const limits = limitsOf({
      quick,
      deviceMemoryBytes: device.info.memoryBytes,
      hostFreeBytes: freemem(),
      hasLaw: law !== null,
      isCpu: device.info.kind === 'cpu',
    });
    run = await runProbe({ device, group, limits, nowNs, stop, onStep });
  } finally {
    await device.close();
  }
  const facts: ProbeFacts = { ...machine, gpu: device.info.name, gpus };
  const total = device.info.details.totalMemoryBytes;
  const memoryBytes = typeof total === 'number' ? total : device.info.memoryBytes;
  const fitted = fitRuns(run.runs, facts, memoryBytes);
  const named = { name: facts.gpu, driver: facts.driver };
  return {
    ...resultDocument('probe', options.context, named, run.runs),
    suite: 'probe',
    isComplete: run.isComplete && fitted !== null,
    isQuick: quick,
    seconds: (nowNs() - startedNs) / 1e9,
    facts,
    steps: run.steps,
    profile: fitted?.profile ?? null,
    fits: fitted?.fits ?? [],
  };
}
