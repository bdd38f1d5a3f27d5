import { existsSync } from 'node:fs';
import type { Bytes } from '../../core/bytes.ts';
import { AttestError } from '../../core/errors.ts';
import type { MachineObservation } from '../../report/observation.ts';
import type { GpuEvidenceEntry } from '../nvml/evidence.ts';
import type { CpuEvidence } from './cpu-evidence.ts';
import { collectByDstack, DSTACK_SOCKETS } from './dstack.ts';
import { collectByTsm, TSM_FOLDER } from './tsm.ts';

/** Where a machine's evidence comes from. Everything has a default; tests give their own. */
export interface MachineSources {
  readonly nvmlLibrary?: string;
  readonly tsmFolder?: string;
  readonly dstackSockets?: readonly string[];
}

/** Something that was sought, or why there is none: fit for a reader. */
export type Sought<T> =
  | { readonly found: T; readonly reason?: undefined }
  | { readonly found: null; readonly reason: string };

/** What this machine's GPUs sign over a nonce (32 bytes). */
export function seekGpuEvidence(
  nonce: Bytes,
  sources: MachineSources,
): Promise<Sought<readonly GpuEvidenceEntry[]>> {
  return seek(async () => {
    // Loaded here, as who only verifies has no use for a library of the machine.
    const { collectGpuEvidence } = await import('../nvml/evidence.ts');
    const entries = await collectGpuEvidence(nonce, libraryOf(sources));
    if (entries.length > 0) return entries;
    throw new AttestError('not-available', 'NVML lists no GPU');
  });
}

/** What its driver tells. */
export function seekObservation(sources: MachineSources): Promise<Sought<MachineObservation>> {
  return seek(async () => {
    const { observeMachine } = await import('../nvml/observe.ts');
    return observeMachine(libraryOf(sources));
  });
}

/**
 * What this machine's CPU signs over report data (64 bytes): through dstack's guest agent, which
 * adds its event log, or through the kernel. `entry` names the request to the kernel.
 */
export function seekCpuEvidence(
  reportData: Bytes,
  sources: MachineSources,
  request: { readonly entry: string; readonly signal?: AbortSignal },
): Promise<Sought<CpuEvidence>> {
  const { tsmFolder = TSM_FOLDER, dstackSockets = DSTACK_SOCKETS } = sources;
  const { entry, signal } = request;
  return seek(async () => {
    const socket = dstackSockets.find((path) => existsSync(path));
    if (socket !== undefined) return collectByDstack(reportData, { socket, signal });
    if (existsSync(tsmFolder)) return collectByTsm(reportData, { folder: tsmFolder, entry });
    const message = `no TEE: neither ${tsmFolder} nor a guest agent of dstack is here`;
    throw new AttestError('not-available', message);
  });
}

async function seek<T>(action: () => Promise<T>): Promise<Sought<T>> {
  try {
    return { found: await action() };
  } catch (error) {
    if (error instanceof AttestError) return { found: null, reason: error.message };
    throw error;
  }
}

function libraryOf({ nvmlLibrary }: MachineSources): { libraryPath?: string } {
  return nvmlLibrary === undefined ? {} : { libraryPath: nvmlLibrary };
}
