import type { Profile } from '@bridgekeeper/bridge';
import type { DeviceKind, StorageFormat } from '@bridgekeeper/device';
import type { EngineLimits, EngineTask, GrammarOptions, PolicyName } from '@bridgekeeper/engine';
import type { SealPolicy } from '@bridgekeeper/engine/seal';
import type { LoadingDecision } from './choose-loading.ts';
import type { Decision } from './decision.ts';

/** Everything the engine's thread needs to start, decided beforehand. Plain data. */
export interface EngineConfig {
  readonly model: string;
  /** What is asked of its seal. Has the key of an encrypted model in it: not for logs. */
  readonly seal: SealPolicy;
  readonly task: EngineTask;
  readonly loadFormat: 'auto' | 'dummy';
  readonly quantization: 'fp8' | undefined;
  readonly kvFormat: StorageFormat;
  readonly device: Decision<DeviceKind>;
  /** GPUs that share the model. */
  readonly ranks: number;
  /** Whether each rank has some of the experts whole. */
  readonly expertParallel: boolean;
  /** The first of them, as the driver counts. */
  readonly firstGpu: number;
  /** null: no law is imposed; crossings cost what the machine takes. */
  readonly law: Decision<Profile | null>;
  /**
   * The profile that choices are derived from: the imposed one, else what is known of the machine.
   */
  readonly bridge: Decision<Profile | null> & { readonly warning?: string };
  readonly policy: Decision<PolicyName>;
  /** How weights come to the device. */
  readonly loading: LoadingDecision;
  /** The GPU that a modelled device has; null: the law's own. */
  readonly modelledGpu: Profile | null;
  readonly limits: EngineLimits;
  /** Absent: requests with a grammar are refused. */
  readonly grammars?: GrammarOptions | undefined;
}
