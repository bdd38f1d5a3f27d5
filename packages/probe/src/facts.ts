import type { Profile } from '@bridgekeeper/bridge';
import {
  cudaAvailability,
  type DeviceKind,
  readConfidentialState,
  readGpuStatuses,
} from '@bridgekeeper/device';
import type { ProbeError } from './errors.ts';

/** What is known of the machine before anything is timed. Plain data. */
export interface ProbeFacts {
  readonly device: DeviceKind;
  /** As the device names it. */
  readonly gpu: string;
  readonly gpuUuid: string | null;
  readonly driver: string | null;
  /** The law that was imposed on the device, by its profile's name; null: none. */
  readonly law: string | null;
  /** null: not known. With a law imposed, what the law says. */
  readonly confidential: boolean | null;
  /** Where `confidential` comes from, with the numbers behind it. */
  readonly confidentialReason: string;
  readonly devTools: boolean | null;
  readonly multiGpuMode: string | null;
  readonly gpusReady: boolean | null;
  /** NVML's measure of what may be learnt before keys rotate. */
  readonly keyRotationAttackerAdvantage: number | null;
  /** Other processes on the GPU when the probe began; null: NVML would not say. */
  readonly otherProcesses: number | null;
  /** GPUs whose collectives are measured, this one included. */
  readonly gpus: number;
}

/** Reads what can be read without a context. To be called before the device is opened. */
export function readMachineFacts(
  device: DeviceKind,
  law: Profile | null,
): Omit<ProbeFacts, 'gpu' | 'gpus'> {
  if (device !== 'cuda') return { ...UNKNOWN, ...lawFacts(law), device };
  const state = readConfidentialState();
  const { gpu } = cudaAvailability();
  const settings = state.known ? state.settings : null;
  return {
    device,
    gpuUuid: gpu?.uuid ?? null,
    driver: state.driverVersion,
    confidential: state.known ? state.confidential : null,
    confidentialReason: state.reason,
    devTools: settings?.devTools ?? null,
    multiGpuMode: settings?.multiGpuMode ?? null,
    gpusReady: state.gpusReady,
    keyRotationAttackerAdvantage: state.keyRotationAttackerAdvantage,
    otherProcesses: otherProcesses(state.gpus.find(({ uuid }) => uuid === gpu?.uuid)?.index),
    ...lawFacts(law),
  };
}

const UNKNOWN = {
  gpuUuid: null,
  driver: null,
  confidential: null,
  confidentialReason: 'this device has no bridge of its own',
  devTools: null,
  multiGpuMode: null,
  gpusReady: null,
  keyRotationAttackerAdvantage: null,
  otherProcesses: null,
} as const;

function lawFacts(law: Profile | null) {
  if (law === null) return { law: null };
  const confidentialReason = `the law imposed on it, ${law.name}, says so`;
  return { law: law.name, confidential: law.confidential, confidentialReason };
}

const GPUS_MAX = 8;

/** GPUs that can be measured together, unless told otherwise. */
export function visibleGpus(device: DeviceKind): number {
  if (device !== 'cuda') return 1;
  return Math.max(1, Math.min(cudaAvailability().gpus.length, GPUS_MAX));
}

/** Other processes on those beside the first, as far as NVML says. */
export function peerProcesses(device: DeviceKind, gpus: number): number {
  if (device !== 'cuda' || gpus === 1) return 0;
  const listed = readConfidentialState().gpus;
  return cudaAvailability()
    .gpus.slice(1, gpus)
    .map(({ uuid }) => otherProcesses(listed.find((gpu) => gpu.uuid === uuid)?.index) ?? 0)
    .reduce((total, processes) => total + processes, 0);
}

function otherProcesses(index: number | undefined): number | null {
  const statuses = readGpuStatuses();
  if (!statuses.known || index === undefined) return null;
  return statuses.gpus.find((gpu) => gpu.index === index)?.processes?.length ?? null;
}

/** Why a machine in such a state is not measured, and what to do; null: it is. */
export function refusalOf(
  facts: Pick<ProbeFacts, 'gpusReady' | 'confidential' | 'law' | 'otherProcesses'>,
  force: boolean,
): Pick<ProbeError, 'code' | 'message'> | null {
  const { gpusReady, confidential, law, otherProcesses } = facts;
  if (law === null && confidential === true && gpusReady === false) {
    const message =
      'confidential computing is on and the GPU is not set ready, so CUDA refuses work: ' +
      'run `nvidia-smi conf-compute -srs 1`, best after attestation';
    return { code: 'not-ready', message };
  }
  if ((otherProcesses ?? 0) > 0 && !force) {
    const message =
      `${otherProcesses} other process(es) use this GPU, and what is measured now would be ` +
      'theirs, too: stop them, or measure all the same with --force';
    return { code: 'gpu-in-use', message };
  }
  return null;
}
