import {
  FABRIC,
  NativeError,
  NVML,
  Nvml,
  OutCell,
  PDI,
  PROCESS_INFO,
  structOf,
} from '@bridgekeeper/native';
import type { ObservedEncryption, ObservedFabric } from './host.ts';
import type { DriverView } from './linux.ts';

const PROCESSES_MAX = 128;
/** Of nvml.h: two bits a statement. */
const YES = 1;
const NO = 2;

const STATES = ['unsupported', 'not-started', 'in-progress', 'completed'] as const;

/** Two-bit fields of the health mask that are faults where they are true. */
const FAULTS: readonly (readonly [shift: number, text: string])[] = [
  [0, 'its bandwidth is degraded'],
  [2, 'routes are being recovered'],
  [4, 'its routes are unhealthy'],
  [6, 'accesses have timed out'],
];

/** Four bits from bit 8 on: 0 is no statement, 1 is none. */
const CONFIGURATIONS: Readonly<Record<number, string>> = {
  2: 'its system GUID is wrong',
  3: 'its chassis serial number is wrong',
  4: 'it is in no partition',
  5: 'it has too few NVLinks',
  6: 'its firmware does not fit',
  7: 'its location is invalid',
  8: 'the GPU’s state is invalid',
};

/**
 * NVML's health mask in words. 0xaa is healthy: four statements that are false. It has been taken
 * for half of the paths being down.
 */
export function readHealthMask(
  mask: number,
): Pick<ObservedFabric, 'unhealthy' | 'isPartitionAssigned'> {
  const configuration = (mask >>> 8) & 0xf;
  const faults = FAULTS.filter(([shift]) => ((mask >>> shift) & 3) === YES).map(([, text]) => text);
  const wrong =
    configuration <= 1
      ? []
      : [CONFIGURATIONS[configuration] ?? `its configuration is wrong (${configuration})`];
  const assigned = (mask >>> 12) & 3;
  return {
    unhealthy: [...faults, ...wrong],
    isPartitionAssigned: assigned === YES ? true : assigned === NO ? false : null,
  };
}

/** nvmlGpuFabricInfo_v2_t or _v3_t, as NVML wrote it. */
function readFabricInfo(struct: Buffer): ObservedFabric {
  return {
    state: STATES[struct.readUInt8(FABRIC.state)] ?? 'unsupported',
    status: struct.readUInt32LE(FABRIC.status),
    ...readHealthMask(struct.readUInt32LE(FABRIC.healthMask)),
  };
}

/** What NVML says of the GPU at a PCI address; null: NVIDIA's driver does not have it. */
export function driverViewOf(nvml: Nvml, bdf: string): DriverView | null {
  const cell = new OutCell();
  if (nvml.call('nvmlDeviceGetHandleByPciBusId_v2', bdf, cell.bytes) !== NVML.SUCCESS) return null;
  const handle = cell.pointer;
  const module = new OutCell();
  const hasModule = nvml.call('nvmlDeviceGetModuleId', handle, module.bytes) === NVML.SUCCESS;
  const pdi = structOf(PDI);
  const hasPdi = nvml.call('nvmlDeviceGetPdi', handle, pdi) === NVML.SUCCESS;
  return {
    // Zero is what a driver says that has no place for it.
    moduleId: hasModule && module.i32 > 0 ? module.i32 : null,
    identity: hasPdi ? pdi.readBigUInt64LE(PDI.value).toString(16).padStart(16, '0') : null,
    fabric: fabricOf(nvml, handle),
    encryption: encryptionOf(nvml, handle),
    processes: processesOf(nvml, handle),
  };
}

function fabricOf(nvml: Nvml, handle: bigint): ObservedFabric | null {
  for (const layout of [FABRIC.v3, FABRIC.v2]) {
    const struct = structOf(layout);
    const status = nvml.call('nvmlDeviceGetGpuFabricInfoV', handle, struct);
    if (status === NVML.SUCCESS) return readFabricInfo(struct);
    if (status !== NVML.ARGUMENT_VERSION_MISMATCH) return null;
  }
  return null;
}

function encryptionOf(nvml: Nvml, handle: bigint): ObservedEncryption {
  const isOn = nvml.isNvlinkEncrypted(handle);
  return { isOn: typeof isOn === 'boolean' ? isOn : null, takesKeys: nvml.takesNvleKeys };
}

function processesOf(nvml: Nvml, handle: bigint): readonly number[] {
  const count = Buffer.alloc(4);
  count.writeUInt32LE(PROCESSES_MAX);
  const infos = Buffer.alloc(PROCESSES_MAX * PROCESS_INFO.bytes);
  const status = nvml.call('nvmlDeviceGetComputeRunningProcesses_v3', handle, count, infos);
  const found = Math.min(PROCESSES_MAX, status === NVML.SUCCESS ? count.readUInt32LE(0) : 0);
  return Array.from({ length: found }, (_, i) =>
    infos.readUInt32LE(i * PROCESS_INFO.bytes + PROCESS_INFO.pid),
  );
}

/**
 * By the NVML of this machine; without one, no GPU is seen by it. A session may know only the GPUs
 * that the driver had when it began, so one that is not found is looked for in a new one.
 */
export function nvmlDriverView(): (bdf: string) => DriverView | null {
  let nvml: Nvml | null = null;
  return (bdf) => {
    const view = nvml === null ? null : driverViewOf(nvml, bdf);
    if (view !== null) return view;
    nvml?.close();
    nvml = null;
    try {
      nvml = new Nvml();
    } catch (error) {
      // The driver may be loaded later: it is not there while every GPU is bound for guests.
      if (error instanceof NativeError) return null;
      throw error;
    }
    return driverViewOf(nvml, bdf);
  };
}
