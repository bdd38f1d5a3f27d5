import { createHash } from 'node:crypto';
import {
  describeStatus,
  FABRIC,
  isAbsent,
  NVML,
  type Nvml,
  type NvmlFunction,
  type NvmlSettings,
  type NvmlText,
  REMAP_TABLE,
  structOf,
} from '@bridgekeeper/native';
import { AttestError } from '../../core/errors.ts';
import type { FabricObservation, MachineObservation } from '../../report/observation.ts';
import { devicesOf, type NvmlDevice, openNvml } from './library.ts';

/**
 * What NVML tells this guest of confidential computing and of NVLink. Nobody signed it. Throws
 * AttestError 'not-available' where there is no NVML; what else cannot be read is a gap.
 */
export function observeMachine(options: { libraryPath?: string } = {}): MachineObservation {
  const nvml = openNvml(options.libraryPath);
  try {
    return new Observer(nvml).observe();
  } finally {
    nvml.close();
  }
}

class Observer {
  readonly #nvml: Nvml;
  readonly #gaps: string[] = [];

  constructor(nvml: Nvml) {
    this.#nvml = nvml;
  }

  observe(): MachineObservation {
    return {
      driverVersion: this.#text('nvmlSystemGetDriverVersion'),
      confidential: this.#confidential(),
      areGpusReady: this.#read('nvmlSystemGetConfComputeGpusReadyState', this.#nvml.areGpusReady()),
      keyRotationThreshold: this.#keyRotation(),
      gpus: this.#gpus(),
      gaps: this.#gaps,
    };
  }

  /** What the driver does not have is no gap; what fails is one. */
  #succeeds(name: NvmlFunction, status: number): boolean {
    if (status !== NVML.SUCCESS && !isAbsent(status)) this.#gaps.push(describeStatus(name, status));
    return status === NVML.SUCCESS;
  }

  /** What was read; null, and a gap where it failed, for a status. */
  #read<Value>(name: NvmlFunction, answer: Value | number): Value | null {
    if (typeof answer !== 'number') return answer;
    this.#succeeds(name, answer);
    return null;
  }

  #text(name: NvmlText, ...handle: bigint[]): string | null {
    return this.#read(name, this.#nvml.text(name, ...handle));
  }

  /** By the newer call; the older one cannot see protected PCIe, so it does not say the mode. */
  #confidential(): MachineObservation['confidential'] {
    const settings =
      this.#read('nvmlSystemGetConfComputeSettings', this.#nvml.settings()) ??
      this.#read('nvmlSystemGetConfComputeState', this.#nvml.state());
    return settings === null ? null : confidentialOf(settings);
  }

  #keyRotation(): string | null {
    const name = 'nvmlSystemGetConfComputeKeyRotationThresholdInfo';
    return this.#read(name, this.#nvml.keyRotationThreshold())?.toString() ?? null;
  }

  #gpus(): MachineObservation['gpus'] {
    let devices: NvmlDevice[];
    try {
      devices = devicesOf(this.#nvml);
    } catch (error) {
      if (!(error instanceof AttestError)) throw error;
      this.#gaps.push(error.message);
      return [];
    }
    return devices.map(({ index, handle }) => ({
      index,
      name: this.#text('nvmlDeviceGetName', handle),
      uuid: this.#text('nvmlDeviceGetUUID', handle),
      fabric: this.#fabric(handle),
      ...this.#remapTable(handle),
      ...this.#encryption(handle),
    }));
  }

  /** Read, and never locked: locking holds until the GPU is reset, so it is its tenant's to do. */
  #remapTable(handle: bigint): { remapTableSha256?: string } {
    const name = 'nvmlDeviceGetNvlinkRemapTableInfo_v1';
    const struct = structOf(REMAP_TABLE);
    if (!this.#succeeds(name, this.#nvml.call(name, handle, struct))) return {};
    const count = struct.readUInt32LE(REMAP_TABLE.count);
    if (count > REMAP_TABLE.entriesMax) {
      this.#gaps.push(`${name} counts ${count} entries, at most ${REMAP_TABLE.entriesMax} fit`);
      return {};
    }
    const hash = createHash('sha256');
    for (const at of [REMAP_TABLE.fabricAddresses, REMAP_TABLE.guestAddresses]) {
      hash.update(struct.subarray(at, at + 4 * count));
    }
    return { remapTableSha256: hash.digest('hex') };
  }

  #encryption(handle: bigint): { isNvlinkEncrypted?: boolean } {
    const isEncrypted = this.#nvml.isNvlinkEncrypted(handle);
    if (typeof isEncrypted === 'boolean') return { isNvlinkEncrypted: isEncrypted };
    this.#succeeds('nvmlDeviceGetNvLinkInfo', isEncrypted);
    return {};
  }

  /** Newer drivers say more; older ones refuse the newer structure by its version. */
  #fabric(handle: bigint): FabricObservation | null {
    const name = 'nvmlDeviceGetGpuFabricInfoV';
    const newer = structOf(FABRIC.v3);
    const status = this.#nvml.call(name, handle, newer);
    if (status !== NVML.ARGUMENT_VERSION_MISMATCH) {
      return this.#succeeds(name, status) ? fabricOf(newer, true) : null;
    }
    const older = structOf(FABRIC.v2);
    return this.#succeeds(name, this.#nvml.call(name, handle, older))
      ? fabricOf(older, false)
      : null;
  }
}

/** By the values of nvml.h. */
const FABRIC_STATES = ['unsupported', 'not-started', 'in-progress', 'completed'] as const;
const SUMMARIES = [null, 'healthy', 'unhealthy', 'limited'] as const;

/** Protected PCIe leaves the feature at 0. */
function confidentialOf(settings: NvmlSettings): MachineObservation['confidential'] {
  const { environment, ccFeature, devTools, multiGpuMode } = settings;
  return {
    environment,
    isOn: ccFeature !== 0 || multiGpuMode === 'protected-pcie',
    isDevTools: devTools,
    multiGpuMode,
  };
}

function fabricOf(struct: Buffer, hasSummary: boolean): FabricObservation {
  const mask = struct.readUInt32LE(FABRIC.healthMask);
  /** Two bits each: 1 true, 2 false, 0 not said. */
  const flag = (shift: number) => {
    const bits = (mask >>> shift) & 3;
    return bits === 1 ? true : bits === 2 ? false : null;
  };
  const uuid = struct.subarray(FABRIC.clusterUuid, FABRIC.clusterUuid + FABRIC.clusterUuidBytes);
  const summary = hasSummary ? SUMMARIES[struct.readUInt8(FABRIC.summary)] : null;
  return {
    state: FABRIC_STATES[struct.readUInt8(FABRIC.state)] ?? 'unknown',
    clusterUuid: uuid.toString('hex'),
    cliqueId: struct.readUInt32LE(FABRIC.cliqueId),
    status: struct.readUInt32LE(FABRIC.status),
    summary: summary === undefined ? 'unknown' : summary,
    isDegraded: flag(0),
    isRouteRecovering: flag(2),
    isRouteUnhealthy: flag(4),
    isAccessTimingOut: flag(6),
    isPartitionAssigned: flag(12),
    incorrectConfiguration: (mask >>> 8) & 15,
  };
}
