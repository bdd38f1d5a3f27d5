import {
  describeStatus,
  NativeError,
  NVML,
  Nvml,
  type NvmlFunction,
  type NvmlText,
} from '@bridgekeeper/native';
import { AttestError } from '../../core/errors.ts';

/** A GPU by NVML's order: by PCI bus, whatever CUDA_VISIBLE_DEVICES says. */
export interface NvmlDevice {
  readonly index: number;
  readonly handle: bigint;
}

/** `path` overrides what the system's loader finds. Throws AttestError 'not-available'. */
export function openNvml(path?: string): Nvml {
  try {
    return new Nvml(path);
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    const { status, cause } = error;
    const message =
      status === null
        ? `${path ?? NVML.LIBRARY} could not be opened: it comes with the NVIDIA driver`
        : `${describeStatus('nvmlInit_v2', status)}: no GPU is seen`;
    throw new AttestError('not-available', message, cause === undefined ? {} : { cause });
  }
}

/** Throws AttestError 'not-available' unless `status` is success. */
export function demandSuccess(name: NvmlFunction, status: number): void {
  if (status !== NVML.SUCCESS) throw failed(name, status);
}

/** Throws AttestError 'not-available'. */
export function devicesOf(nvml: Nvml): NvmlDevice[] {
  const handles = nvml.handles();
  if (typeof handles === 'number') throw failed('nvmlDeviceGetCount_v2', handles);
  return handles.map((handle, index) => {
    if (typeof handle === 'number') throw failed('nvmlDeviceGetHandleByIndex_v2', handle);
    return { index, handle };
  });
}

/** A text, or null where NVML would not say. */
export function textOf(nvml: Nvml, name: NvmlText, ...handle: bigint[]): string | null {
  const text = nvml.text(name, ...handle);
  return typeof text === 'string' ? text : null;
}

function failed(name: NvmlFunction, status: number): AttestError {
  return new AttestError('not-available', describeStatus(name, status));
}
