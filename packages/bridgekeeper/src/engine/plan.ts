import type { Profile } from '@bridgekeeper/bridge';
import type { DeviceKind, StorageFormat } from '@bridgekeeper/device';
import type { EngineLimits, LoadingStrategy, PolicyName, SealPolicy } from '@bridgekeeper/engine';

/** A choice that was made for the operator, and why: logged at start and shown at /v1/bridge. */
export interface Choice<T> {
  readonly value: T;
  readonly reason: string;
}

/** Everything the engine's thread needs to start, decided beforehand. Plain data. */
export interface EnginePlan {
  readonly model: string;
  /** What is asked of its seal. Has the key of an encrypted model in it: not for logs. */
  readonly seal: SealPolicy;
  readonly loadFormat: 'auto' | 'dummy';
  readonly quantization: 'fp8' | undefined;
  readonly kvFormat: StorageFormat;
  readonly device: Choice<DeviceKind>;
  /** null: no law is imposed; crossings cost what the machine takes. */
  readonly law: Choice<Profile | null>;
  /**
   * The profile that choices are derived from: the imposed one, else what is known of the machine.
   */
  readonly bridge: Choice<Profile | null> & { readonly warning?: string };
  readonly policy: Choice<PolicyName>;
  /** How weights come to the device. */
  readonly loading: Choice<LoadingStrategy>;
  /** The GPU that a modelled device has; null: the law's own. */
  readonly modelledGpu: Profile | null;
  readonly limits: EngineLimits;
}
