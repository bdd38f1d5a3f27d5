import {
  describeStatus,
  isAbsent,
  NativeError,
  NVML,
  Nvml,
  type NvmlFunction,
  type NvmlSettings,
} from '@bridgekeeper/native';

/** A GPU as NVML lists it: by PCI bus, whatever CUDA_VISIBLE_DEVICES says. */
export interface ListedGpu {
  readonly index: number;
  /** null where NVML would not say; `gaps` has the reason. */
  readonly name: string | null;
  readonly uuid: string | null;
}

/** What one of NVML's two calls says about confidential computing. */
export type ConfidentialSettings = NvmlSettings;

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
    if (error instanceof NativeError) return { ...NOTHING, known: false, reason: error.message };
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
    reader.note('nvmlShutdown', nvml.close());
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
  const settings = nvml.settings();
  if (typeof settings !== 'number') return verdict(SETTINGS_CALL, settings);
  const state = nvml.state();
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

  note(name: NvmlFunction, status: number): null {
    if (status !== NVML.SUCCESS && !isAbsent(status)) this.gaps.push(describeStatus(name, status));
    return null;
  }

  driverVersion(): string | null {
    const name = 'nvmlSystemGetDriverVersion';
    const text = this.#nvml.text(name);
    return typeof text === 'string' ? text : this.note(name, text);
  }

  gpus(): ListedGpu[] {
    const handles = this.#nvml.handles();
    if (typeof handles === 'number') this.note('nvmlDeviceGetCount_v2', handles);
    const gpus: ListedGpu[] = [];
    for (const [index, handle] of (typeof handles === 'number' ? [] : handles).entries()) {
      if (typeof handle === 'number') {
        this.note('nvmlDeviceGetHandleByIndex_v2', handle);
        continue;
      }
      const name = this.#deviceText('nvmlDeviceGetName', handle);
      const uuid = this.#deviceText('nvmlDeviceGetUUID', handle);
      gpus.push({ index, name, uuid });
    }
    return gpus;
  }

  #deviceText(name: 'nvmlDeviceGetName' | 'nvmlDeviceGetUUID', handle: bigint): string | null {
    const text = this.#nvml.text(name, handle);
    return typeof text === 'string' ? text : this.note(name, text);
  }

  gpusReady(): boolean | null {
    const ready = this.#nvml.areGpusReady();
    if (typeof ready === 'boolean') return ready;
    return this.note('nvmlSystemGetConfComputeGpusReadyState', ready);
  }

  keyRotationAttackerAdvantage(): number | null {
    const threshold = this.#nvml.keyRotationThreshold();
    if (typeof threshold === 'bigint') return Number(threshold);
    return this.note('nvmlSystemGetConfComputeKeyRotationThresholdInfo', threshold);
  }
}
