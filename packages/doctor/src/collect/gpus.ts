import { readConfidentialState, readGpuStatuses } from '@bridgekeeper/device';
import { type Facts, type GpuFlag, gpuKindOf, known, type Observed, unknown } from '../facts.ts';
import { parseVersion } from '../version.ts';
import { readBounded } from './read-bounded.ts';

type GpuFacts = Pick<
  Facts,
  | 'confidential'
  | 'confidentialSettings'
  | 'gpusReady'
  | 'keyRotationAttackerAdvantage'
  | 'driverVersion'
  | 'gpuKind'
  | 'gpuCount'
  | 'persistence'
  | 'mig'
  | 'gpuProcesses'
>;

/**
 * Asks NVML. The process `pid` and its descendants are left out of the GPUs' processes;
 * `libraryPath` overrides NVML, for tests.
 */
export function readGpus(options: { libraryPath?: string; pid?: number } = {}): GpuFacts {
  const { pid, ...library } = options;
  return { ...confidentialFacts(library), ...statusFacts(library, pid) };
}

function confidentialFacts(library: { libraryPath?: string }) {
  const state = readConfidentialState(library);
  const { reason } = state;
  const settings = state.known ? state.settings : null;
  const orReason = <T>(value: T | null, from: string): Observed<T> =>
    value === null ? unknown(state.gaps[0] ?? reason) : known(value, from);
  const version = state.driverVersion === null ? null : parseVersion(state.driverVersion);
  const [first] = state.gpus;
  return {
    confidential: state.known ? known(state.confidential, reason) : unknown(reason),
    confidentialSettings: state.known ? orReason(settings, reason) : unknown(reason),
    gpusReady: orReason(state.gpusReady, 'NVML'),
    keyRotationAttackerAdvantage: orReason(state.keyRotationAttackerAdvantage, 'NVML'),
    driverVersion: orReason(version, 'NVML'),
    gpuKind: first?.name == null ? unknown(reason) : known(gpuKindOf(first.name), first.name),
    gpuCount: state.gpus.length === 0 ? unknown(reason) : known(state.gpus.length, 'NVML'),
  };
}

function statusFacts(library: { libraryPath?: string }, ownPid: number | undefined) {
  const statuses = readGpuStatuses(library);
  if (!statuses.known || statuses.gpus.length === 0) {
    const reason = statuses.known ? (statuses.gaps[0] ?? 'NVML lists no GPU') : statuses.reason;
    return { persistence: unknown(reason), mig: unknown(reason), gpuProcesses: unknown(reason) };
  }
  const { gpus, gaps } = statuses;
  const lacking = unknown(gaps[0] ?? 'NVML does not say');
  const flags = (name: 'persistence' | 'mig'): Observed<readonly GpuFlag[]> => {
    const found = gpus.flatMap((gpu) => {
      const on = gpu[name];
      return on === null ? [] : [{ index: gpu.index, on }];
    });
    return found.length === gpus.length ? known(found, 'NVML') : lacking;
  };
  const processes = gpus.flatMap(({ index, processes: pids }) =>
    pids === null ? [] : [{ index, pids: pids.filter((pid) => !descends(pid, ownPid)) }],
  );
  return {
    persistence: flags('persistence'),
    mig: flags('mig'),
    gpuProcesses: processes.length === gpus.length ? known(processes, 'NVML') : lacking,
  };
}

/** A process's ancestors are few; a longer chain is no chain. */
const MAX_ANCESTORS = 64;

/** Whether a process is `ancestor` or was started by it, directly or not. */
export function descends(pid: number, ancestor: number | undefined): boolean {
  let at = pid;
  for (let steps = 0; steps < MAX_ANCESTORS && at > 0; steps++) {
    if (at === ancestor) return true;
    const status = readBounded(`/proc/${at}/status`);
    at = Number((status.ok && /^PPid:\s+(\d+)/m.exec(status.text)?.[1]) || 0);
  }
  return false;
}
