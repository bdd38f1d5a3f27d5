import { DeviceError } from '../../errors.ts';
import { type NativeArgument, OutCell } from '../ffi/native.ts';
import { describeStatus, NVML, Nvml, type NvmlFunction, structVersion } from '../ffi/nvml.ts';

/** A GPU as NVML lists it: by PCI bus, whatever CUDA_VISIBLE_DEVICES says. */
export interface ListedGpu {
  readonly index: number;
  /** null where NVML would not say; `gaps` has the reason. */
  readonly name: string | null;
  readonly uuid: string | null;
}

/** What one of NVML's two calls says about confidential computing. */
export interface ConfidentialSettings {
  readonly environment: 'unavailable' | 'simulation' | 'production' | 'unknown';
  /** 0: off. Protected PCIe leaves it at 0. */
  readonly ccFeature: number;
  readonly devTools: boolean;
  /** null: the call that answered does not say. */
  readonly multiGpuMode: 'none' | 'protected-pcie' | 'nvlink-encryption' | 'unknown' | null;
}

interface Observed {
  /** What was found, or why nothing was, with the numbers behind it: fit for a log line. */
  readonly reason: string;
  readonly driverVersion: string | null;
  readonly gpus: readonly ListedGpu[];
  /** Whether the GPUs take work; under confidential computing they wait to be set ready. */
  readonly gpusReady: boolean | null;
  /** NVML's limit on what an attacker may learn before keys rotate, in NVML's own measure. */
  readonly keyRotationAttackerAdvantage: number | null;
  /** What else could not be read, and why. */
  readonly gaps: readonly string[];
}

/**
 * Whether confidential computing is on, as the driver told this guest: an observation, no proof.
 * Plain data.
 */
export type ConfidentialState =
  | (Observed & {
      readonly known: true;
      readonly confidential: boolean;
      readonly observedBy: 'guest';
      /** The call whose answer decided. */
      readonly vouchedBy: ConfidentialCall;
      /** null: the driver has no confidential computing. */
      readonly settings: ConfidentialSettings | null;
    })
  | (Observed & { readonly known: false });

const SETTINGS_CALL = 'nvmlSystemGetConfComputeSettings';
const STATE_CALL = 'nvmlSystemGetConfComputeState';
export type ConfidentialCall = typeof SETTINGS_CALL | typeof STATE_CALL;

/**
 * Asks NVML for the state of confidential computing. Never throws for what it finds: without NVML,
 * or where its answers leave the question open, the state is not known, and says why.
 */
export function readConfidentialState(
  options: { readonly libraryPath?: string } = {},
): ConfidentialState {
  let nvml: Nvml;
  try {
    nvml = new Nvml(options.libraryPath);
  } catch (error) {
    if (error instanceof DeviceError) return { ...NOTHING, known: false, reason: error.message };
    throw error;
  }
  const reader = new Reader(nvml);
  try {
    return {
      ...judge(nvml),
      driverVersion: reader.driverVersion(),
      gpus: reader.gpus(),
      gpusReady: reader.gpusReady(),
      keyRotationAttackerAdvantage: reader.keyRotationAttackerAdvantage(),
      gaps: reader.gaps,
    };
  } finally {
    reader.succeeds('nvmlShutdown');
  }
}

const NOTHING = {
  driverVersion: null,
  gpus: [],
  gpusReady: null,
  keyRotationAttackerAdvantage: null,
  gaps: [],
} as const;

/**
 * Settings decide where the driver has them. Otherwise the older state call proves that
 * confidential computing is on, but that it is off only where the driver does not know settings at
 * all: it cannot see protected PCIe.
 */
function judge(nvml: Nvml) {
  const settings = readSettings(nvml);
  if (typeof settings !== 'number') return verdict(SETTINGS_CALL, settings);
  const state = readState(nvml);
  const settingsStatus = describeStatus(SETTINGS_CALL, settings);
  if (typeof state !== 'number' && state.ccFeature !== 0) return verdict(STATE_CALL, state);
  if (!isAbsent(settings)) {
    const rest =
      typeof state === 'number'
        ? describeStatus(STATE_CALL, state)
        : `${STATE_CALL} says ccFeature 0, which does not exclude protected PCIe`;
    return { known: false, reason: `${settingsStatus}; ${rest}` } as const;
  }
  if (typeof state !== 'number') return verdict(STATE_CALL, state);
  const reason = `${settingsStatus}; ${describeStatus(STATE_CALL, state)}`;
  if (!isAbsent(state)) return { known: false, reason } as const;
  return {
    known: true,
    confidential: false,
    observedBy: 'guest',
    vouchedBy: STATE_CALL,
    settings: null,
    reason: `${reason}: this driver has no confidential computing`,
  } as const;
}

/** Protected PCIe reports ccFeature 0; encrypted NVLink alone leaves the bridge as it is. */
function verdict(vouchedBy: ConfidentialCall, settings: ConfidentialSettings) {
  const { environment, ccFeature, devTools, multiGpuMode } = settings;
  const facts = [`ccFeature ${ccFeature}`, `environment ${environment}`];
  if (multiGpuMode !== null) facts.push(`multi-GPU mode ${multiGpuMode}`);
  if (devTools) facts.push('developer tools on');
  return {
    known: true,
    confidential: ccFeature !== 0 || multiGpuMode === 'protected-pcie',
    observedBy: 'guest',
    vouchedBy,
    settings,
    reason: `${vouchedBy} says ${facts.join(', ')}`,
  } as const;
}

const isAbsent = (status: number) =>
  status === NVML.FUNCTION_NOT_FOUND || status === NVML.NOT_SUPPORTED;

/** nvmlSystemConfComputeSettings_v1_t: five words, the version first. A number is the status. */
function readSettings(nvml: Nvml): ConfidentialSettings | number {
  const words = new Uint32Array(5);
  words[0] = structVersion(words.byteLength, 1);
  const status = nvml.call(SETTINGS_CALL, words);
  const [, environment, ccFeature, devTools, multiGpu] = words;
  return status === NVML.SUCCESS
    ? settingsOf(environment!, ccFeature!, devTools!, MULTI_GPU_MODES[multiGpu!] ?? 'unknown')
    : status;
}

/** nvmlConfComputeSystemState_t: three words, no version. A number is the status. */
function readState(nvml: Nvml): ConfidentialSettings | number {
  const words = new Uint32Array(3);
  const status = nvml.call(STATE_CALL, words);
  const [environment, ccFeature, devTools] = words;
  return status === NVML.SUCCESS ? settingsOf(environment!, ccFeature!, devTools!, null) : status;
}

/** By the values of nvml.h. */
const ENVIRONMENTS = ['unavailable', 'simulation', 'production'] as const;
const MULTI_GPU_MODES = ['none', 'protected-pcie', 'nvlink-encryption'] as const;

function settingsOf(
  environment: number,
  ccFeature: number,
  devTools: number,
  multiGpuMode: ConfidentialSettings['multiGpuMode'],
): ConfidentialSettings {
  return {
    environment: ENVIRONMENTS[environment] ?? 'unknown',
    ccFeature,
    devTools: devTools !== 0,
    multiGpuMode,
  };
}

/**
 * Reads what is good to know but decides nothing. What the driver does not have is null; what fails
 * is null and a gap.
 */
class Reader {
  readonly gaps: string[] = [];
  readonly #nvml: Nvml;

  constructor(nvml: Nvml) {
    this.#nvml = nvml;
  }

  succeeds(name: NvmlFunction, ...args: NativeArgument[]): boolean {
    const status = this.#nvml.call(name, ...args);
    if (status !== NVML.SUCCESS && !isAbsent(status)) this.gaps.push(describeStatus(name, status));
    return status === NVML.SUCCESS;
  }

  driverVersion(): string | null {
    const text = Buffer.alloc(NVML.TEXT_BYTES);
    const found = this.succeeds('nvmlSystemGetDriverVersion', text, text.length);
    return found ? untilZero(text) : null;
  }

  gpus(): ListedGpu[] {
    const count = new OutCell();
    if (!this.succeeds('nvmlDeviceGetCount_v2', count.bytes)) return [];
    const gpus: ListedGpu[] = [];
    for (let index = 0; index < count.i32; index++) {
      const handle = new OutCell();
      if (!this.succeeds('nvmlDeviceGetHandleByIndex_v2', index, handle.bytes)) continue;
      const name = this.#deviceText('nvmlDeviceGetName', handle.pointer);
      const uuid = this.#deviceText('nvmlDeviceGetUUID', handle.pointer);
      gpus.push({ index, name, uuid });
    }
    return gpus;
  }

  #deviceText(name: 'nvmlDeviceGetName' | 'nvmlDeviceGetUUID', handle: bigint): string | null {
    const text = Buffer.alloc(NVML.TEXT_BYTES);
    return this.succeeds(name, handle, text, text.length) ? untilZero(text) : null;
  }

  gpusReady(): boolean | null {
    const ready = new OutCell();
    const found = this.succeeds('nvmlSystemGetConfComputeGpusReadyState', ready.bytes);
    return found ? ready.i32 !== 0 : null;
  }

  /** nvmlConfComputeGetKeyRotationThresholdInfo_v1_t: the version, padding, then 64 bits. */
  keyRotationAttackerAdvantage(): number | null {
    const info = Buffer.alloc(16);
    info.writeUInt32LE(structVersion(info.length, 1));
    const found = this.succeeds('nvmlSystemGetConfComputeKeyRotationThresholdInfo', info);
    return found ? Number(info.readBigUInt64LE(8)) : null;
  }
}

function untilZero(text: Buffer): string {
  const end = text.indexOf(0);
  return text.toString('utf8', 0, end < 0 ? text.length : end);
}
