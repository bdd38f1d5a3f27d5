import type { Profile } from '@bridgekeeper/bridge';
import type { EngineClient } from '@bridgekeeper/engine';
import type { LiveSource } from '../live/source.ts';
import type { Decision } from './config/decision.ts';
import type { RestartSource } from './restarting-engine.ts';

/** An engine, and what was decided for it and why. */
export interface StartedEngine {
  readonly engine: EngineClient;
  /** The same, for those who watch it; absent: it cannot be watched. */
  readonly live?: LiveSource;
  /** The same, for those who tell of its failures; absent: it has one life. */
  readonly restarts?: RestartSource;
  readonly law: Decision<string>;
  readonly policy: Decision<string>;
  /** What the decisions were derived from. */
  readonly bridge: Decision<string> & { readonly warning?: string };
  /** The same as numbers; null: nothing is known of it. */
  readonly profile: Profile | null;
  /** Of the model's manifest, every byte of which was checked, in hex; absent: it has none. */
  readonly modelSha256?: string;
}
