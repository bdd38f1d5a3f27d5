import type { ReceiptFacts } from '@bridgekeeper/attest';
import type { EngineClient } from '@bridgekeeper/engine';
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import type { EncryptionKeys } from '../encryption/keys.ts';
import type { ReplayGuard } from '../encryption/replay-guard.ts';
import type { Decision } from '../engine/config/decision.ts';
import type { RestartSource } from '../engine/restarting-engine.ts';
import type { Attestation } from '../evidence/attestation.ts';
import type { GrammarService } from '../grammar/service.ts';
import type { ServerClock } from '../host-clock.ts';
import type { KeyRing } from '../http/auth.ts';
import type { JsonBodies } from '../http/body.ts';
import type { HostPolicy } from '../http/host-policy.ts';
import type { Lifecycle } from '../http/lifecycle.ts';
import type { Quotas } from '../http/quotas.ts';
import type { LiveFeed } from '../live/feed.ts';
import type { Logger } from '../logging/logger.ts';
import type { OnceLog } from '../logging/once-log.ts';
import type { Planning } from '../plan/planning.ts';
import type { Receipts } from '../receipts/receipts.ts';
import type { ModelText } from '../text/model-text.ts';
import type { Generation, Observer } from './generation.ts';
import type { RequestLog } from './request-log.ts';
import type { ResponseStore } from './response-store.ts';
import type { StreamLimits } from './sse.ts';
import type { WakeQueue } from './wake-queue.ts';

/** What a control plane calls this server, and which tenancy of its GPUs it is. */
export type ReplicaIdentity = NonNullable<ReceiptFacts['replica']>;

export interface ServerLimits extends StreamLimits {
  /** Choices of one HTTP request, over all its prompts. */
  readonly maxChoices: number;
}

/** Everything the routes need; built once at start. */
export interface ServerContext {
  readonly engine: EngineClient;
  readonly text: ModelText;
  /** Compiles what answers are held to. */
  readonly grammars: GrammarService;
  readonly clock: ServerClock;
  readonly log: Logger;
  /** For what clients send again and again. */
  readonly once: OnceLog;
  /** Whether each request leaves a line. */
  readonly logsAccess: boolean;
  readonly metrics: Observer & {
    readonly contentType: string;
    /** Everything at /metrics. */
    text(): Promise<string>;
  };
  readonly bodies: JsonBodies;
  readonly keys: KeyRing;
  readonly quotas: Quotas;
  readonly wakes: WakeQueue;
  /** What became of the last requests. */
  readonly requests: RequestLog;
  /** What the engine does, as it does it; null: it cannot be watched. */
  readonly live: LiveFeed | null;
  /** What is simulated beside serving. */
  readonly planning: Planning;
  readonly lifecycle: Lifecycle;
  /** What became of the engines so far; null: there is one, for the server's whole life. */
  readonly restarts: RestartSource | null;
  readonly limits: ServerLimits;
  /** What conversations go on from that are not sent again. */
  readonly responses: ResponseStore;
  /** Whether operators may put the engine to sleep. */
  readonly hasSleepMode: boolean;
  /** null: answers get none. */
  readonly receipts: Receipts | null;
  readonly attestation: Attestation;
  /** Which replica of a fleet this is; null: of none. */
  readonly replica: ReplicaIdentity | null;
  /** For requests that only this server can read. */
  readonly encryption: { readonly keys: EncryptionKeys; readonly replays: ReplayGuard };
  /** Of the model that is served, in hex; null: there is none. */
  readonly modelDigest: string | null;
  /** The names the model is served under, the first one's the default. */
  readonly modelNames: readonly string[];
  /** undefined: whatever name a client calls it by. */
  readonly hosts: HostPolicy | undefined;
  readonly allowedOrigins: readonly string[];
  /** Calls are read where the model decides whether to call. */
  readonly readsAutoCalls: boolean;
  readonly law: Decision<string>;
  readonly policy: Decision<string>;
  readonly bridge: Decision<string> & { readonly warning?: string };
  readonly version: string;
  /** When the server started, in seconds since 1970. */
  readonly startedSeconds: number;
}

export interface AppEnv {
  /** Absent where a test asks the app without a socket. */
  Bindings: Partial<HttpBindings>;
  Variables: {
    requestId: string;
    tenant: string;
    arrivedNs: number;
    /** What answers it, and the code of what refused it: for the access log. */
    generation?: Generation;
    errorCode?: string;
    /** Headers of every answer, streams included. */
    commonHeaders: Readonly<Record<string, string>>;
  };
}

export type AppContext = Context<AppEnv>;
