import { AttestError } from '../../core/errors.ts';
import type { FabricObservation, MachineObservation } from '../../report/observation.ts';
import { FABRIC, KEY_ROTATION, NVML_STATUS, type NvmlFunction, SETTINGS, STATE } from './layout.ts';
import { type NvmlDevice, NvmlLibrary, nvmlFailure } from './library.ts';

/**
 * What NVML tells this guest of confidential computing and of NVLink. Nobody signed it. Throws
 * AttestError 'not-available' where there is no NVML; what else cannot be read is a gap.
 */
export function observeMachine(options: { libraryPath?: string } = {}): MachineObservation {
  const nvml = new NvmlLibrary(options.libraryPath);
  try {
    return new Observer(nvml).observe();
  } finally {
    nvml.close();
  }
}

class Observer {
  readonly #nvml: NvmlLibrary;
  readonly #gaps: string[] = [];

  constructor(nvml: NvmlLibrary) {
    this.#nvml = nvml;
  }

  observe(): MachineObservation {
    return {
      driverVersion: this.#text('nvmlSystemGetDriverVersion'),
      confidential: this.#settings() ?? this.#state(),
      areGpusReady: this.#ready(),
      keyRotationThreshold: this.#keyRotation(),
      gpus: this.#gpus(),
      gaps: this.#gaps,
    };
  }

  /** What the driver does not have is no gap; what fails is one. */
  #succeeds(name: NvmlFunction, status: number): boolean {
    const isAbsent = status === NVML_STATUS.notSupported || status === NVML_STATUS.functionNotFound;
    if (status !== NVML_STATUS.success && !isAbsent) this.#gaps.push(nvmlFailure(name, status));
    return status === NVML_STATUS.success;
  }

  #text(name: NvmlFunction, ...handle: bigint[]): string | null {
    const text = this.#nvml.text(name, ...handle);
    if (typeof text === 'string') return text;
    this.#succeeds(name, text);
    return null;
  }

  #settings(): MachineObservation['confidential'] {
    const name = 'nvmlSystemGetConfComputeSettings';
    const struct = versioned(SETTINGS);
    if (!this.#succeeds(name, this.#nvml.call(name, struct))) return null;
    const mode = struct.readUInt32LE(SETTINGS.multiGpuMode);
    return confidentialOf(struct, SETTINGS, MULTI_GPU_MODES[mode] ?? 'unknown');
  }

  /** It cannot see protected PCIe, so it does not say what the mode is. */
  #state(): MachineObservation['confidential'] {
    const name = 'nvmlSystemGetConfComputeState';
    const struct = Buffer.alloc(STATE.bytes);
    if (!this.#succeeds(name, this.#nvml.call(name, struct))) return null;
    return confidentialOf(struct, STATE, null);
  }

  #ready(): boolean | null {
    const name = 'nvmlSystemGetConfComputeGpusReadyState';
    const cell = Buffer.alloc(8);
    return this.#succeeds(name, this.#nvml.call(name, cell)) ? cell.readUInt32LE(0) !== 0 : null;
  }

  #keyRotation(): string | null {
    const name = 'nvmlSystemGetConfComputeKeyRotationThresholdInfo';
    const struct = versioned(KEY_ROTATION);
    const found = this.#succeeds(name, this.#nvml.call(name, struct));
    return found ? struct.readBigUInt64LE(KEY_ROTATION.threshold).toString() : null;
  }

  #gpus(): MachineObservation['gpus'] {
    let devices: NvmlDevice[];
    try {
      devices = this.#nvml.devices();
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
    }));
  }

  /** Newer drivers say more; older ones refuse the newer structure by its version. */
  #fabric(handle: bigint): FabricObservation | null {
    const name = 'nvmlDeviceGetGpuFabricInfoV';
    const newer = versioned(FABRIC.v3);
    const status = this.#nvml.call(name, handle, newer);
    if (status !== NVML_STATUS.argumentVersionMismatch) {
      return this.#succeeds(name, status) ? fabricOf(newer, true) : null;
    }
    const older = versioned(FABRIC.v2);
    return this.#succeeds(name, this.#nvml.call(name, handle, older))
      ? fabricOf(older, false)
      : null;
  }
}

function versioned({ bytes, version }: { bytes: number; version: number }): Buffer {
  const struct = Buffer.alloc(bytes);
  struct.writeUInt32LE(version, 0);
  return struct;
}

/** By the values of nvml.h. */
const ENVIRONMENTS = ['unavailable', 'simulation', 'production'] as const;
const MULTI_GPU_MODES = ['none', 'protected-pcie', 'nvlink-encryption'] as const;
const FABRIC_STATES = ['unsupported', 'not-started', 'in-progress', 'completed'] as const;
const SUMMARIES = [null, 'healthy', 'unhealthy', 'limited'] as const;

type Confidential = NonNullable<MachineObservation['confidential']>;

/** Protected PCIe leaves the feature at 0. */
function confidentialOf(
  struct: Buffer,
  at: { environment: number; ccFeature: number; devTools: number },
  multiGpuMode: Confidential['multiGpuMode'],
): Confidential {
  return {
    environment: ENVIRONMENTS[struct.readUInt32LE(at.environment)] ?? 'unknown',
    isOn: struct.readUInt32LE(at.ccFeature) !== 0 || multiGpuMode === 'protected-pcie',
    isDevTools: struct.readUInt32LE(at.devTools) !== 0,
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
