import type { StorageFormat } from '@bridgekeeper/device';
import type { CompiledGrammar } from '../grammar/compiled.ts';
import type { GrammarCounters } from '../grammar/grammar-pool.ts';
import type { PartCounters, TierCounters } from '../kv/tiers/accounts.ts';
import type { KvShare } from '../kv/tiers/kv-shares.ts';
import type { KvPart } from '../kv/tiers/movement.ts';
import type { CrossingShare } from '../traffic/shares.ts';

/** What a client asks of the engine: token ids in, token ids out. Text lives with the server. */

/** Sampling as vLLM and OpenAI define it. Ranges are checked once, by `checkSampling`. */
export interface SamplingParams {
  /** 0 is greedy. */
  readonly temperature: number;
  /** 0 is off. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Pairs of token id and bias. */
  readonly logitBias: readonly (readonly [token: number, bias: number])[];
  /** The only tokens that may be sampled; undefined: all may. */
  readonly allowedTokenIds: readonly number[] | undefined;
  /** Tokens that are never sampled. */
  readonly bannedTokenIds: readonly number[];
  /** Unsigned 64 bits; undefined lets the engine draw one. */
  readonly seed: bigint | undefined;
  readonly maxTokens: number;
  readonly minTokens: number;
  /**
   * Ids that end generation, the model's own end-of-sequence ids included unless they are ignored.
   */
  readonly stopTokenIds: readonly number[];
  /** undefined: none; n: the sampled token's logprob and the n best alternatives. */
  readonly logprobs: number | undefined;
  /** The same for every prompt token after the first. */
  readonly promptLogprobs: number | undefined;
}

/** What an engine does with its model: continue prompts, or say what they come to. */
export const ENGINE_TASKS = ['generate', 'embed', 'score'] as const;
export type EngineTask = (typeof ENGINE_TASKS)[number];

/**
 * What a prompt comes to, instead of tokens that follow it. `embed`: its last token's hidden state
 * after the final norm, at length 1. `score`: how likely the first of two tokens is to come next,
 * where it is one of both.
 */
export type Pooling =
  | { readonly task: 'embed' }
  | { readonly task: 'score'; readonly tokens: readonly [number, number] };

/** By whom, and how, a request's part of the engine is counted. */
export interface EngineShare {
  readonly owner: string;
  /** Tokens for this owner, to those for an owner of weight 1, where both want more. */
  readonly weight: number;
  /** Rows that the owner may hold at once; absent: as many as there are. */
  readonly maxRows?: number;
}

export interface GenerationRequest {
  /** Unique among the requests in flight. */
  readonly id: string;
  /** Whose KV it may share. */
  readonly tenant: string;
  /** Whose part of the engine it uses; absent: its tenant's, as one of equals. */
  readonly share?: EngineShare;
  readonly promptTokens: Uint32Array;
  /**
   * Tokens of its answer that an engine before this one computed: it goes on behind them, as after
   * a preemption, and its events bring what comes then. Absent: it begins.
   */
  readonly priorTokens?: Uint32Array;
  /** Of one that is pooled, none is sampled. */
  readonly sampling: SamplingParams;
  /** Absent: it generates. */
  readonly pooling?: Pooling;
  /**
   * What the answer may be, compiled for this model's vocabulary: only tokens that it admits are
   * sampled, stop ids only where it may end, and an answer that is complete ends with `stop`.
   * Absent: anything.
   */
  readonly grammar?: CompiledGrammar;
  /** Tokens that may be spent where the grammar counts them as thinking; absent: any number. */
  readonly thinkingBudget?: number;
}

/** `error`: the engine gave up on this request alone. */
export type FinishReason = 'stop' | 'length' | 'cancelled' | 'error';

export interface TokenLogprobs {
  /** Natural logarithm. */
  readonly logprob: number;
  /** 1 is the most likely token. */
  readonly rank: number;
  /** Best first. */
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

/** What one engine step brought for one request. */
export interface GenerationEvent {
  readonly id: string;
  readonly tokens: readonly number[];
  /** One for each of `tokens`, when asked for. */
  readonly logprobs?: readonly TokenLogprobs[];
  /** One for each prompt token after the first, once, when asked for. */
  readonly promptLogprobs?: readonly TokenLogprobs[];
  /** The embedding, or the score alone, with the finish of a request that is pooled. */
  readonly pooled?: Float32Array;
  readonly finish?: {
    readonly reason: FinishReason;
    /** The stop token id, when one ended it; none where its grammar was complete. */
    readonly stopToken?: number;
    /** For `error`: a message fit for the client. */
    readonly message?: string;
    /** Prompt tokens that came from the prefix cache. */
    readonly cachedTokens: number;
    readonly timing: RequestTiming;
    /** What crossed the bridge for it; absent where the engine ended without having counted. */
    readonly crossings?: readonly CrossingShare[];
    /** What it had of KV below the device; absent: nothing. */
    readonly kv?: readonly KvShare[];
    /** With `error`: the engine itself ended, and this request's part in it is not known. */
    readonly isLost?: true;
    /** It began on an engine before the one that finished it. */
    readonly isResumed?: true;
  };
}

/**
 * What a client returns that has done no more with an event than to take note of it, so that
 * nothing can be waiting for what it did: a simulated clock goes on at once.
 */
export const NOTED = Symbol('noted');

/** Told what one engine step brought for a request. */
export type OnEvent = (event: GenerationEvent) => unknown;

/** Durations of one finished request on the engine's clock. */
export interface RequestTiming {
  readonly queuedNs: number;
  readonly prefillNs: number;
  readonly decodeNs: number;
  readonly preemptions: number;
}

/** Where the device's memory goes, and how many KV tokens that leaves room for. Plain data. */
export interface MemoryBudget {
  readonly deviceBytes: number;
  readonly utilization: number;
  readonly weightBytes: number;
  /** Hidden states between operations, and logits. */
  readonly activationBytes: number;
  /** What operations keep within themselves. */
  readonly workspaceBytes: number;
  /** Rows, batches, commands and results. */
  readonly stateBytes: number;
  readonly kvFormat: StorageFormat;
  /** Of all KV. */
  readonly kvBytes: number;
  readonly kvPages: number;
  /** Of layers that see their whole context. */
  readonly kvTokens: number;
  /** Of a model that keeps a constant state: those that are kept, and what they take. */
  readonly snapshots: number;
  readonly snapshotBytes: number;
  /** What of KV is for layers that see `tokens` alone; null: it is in the pages of all others. */
  readonly window: {
    readonly tokens: number;
    readonly pages: number;
    readonly bytes: number;
  } | null;
  /** Why there are no more pages: memory ends, this much was asked for, or rows use no more. */
  readonly kvLimit: 'memory' | 'request' | 'rows';
  readonly maxModelTokens: number;
  /** Sequences of `maxModelTokens` that fit at once. */
  readonly concurrency: number;
}

/** Everything the server needs to know of the model that the engine holds. */
export interface EngineCard {
  readonly modelPath: string;
  /** Of the seal that every byte loaded was verified against, hex; null: it was not verified. */
  readonly sealRoot: string | null;
  readonly architecture: string;
  readonly task: EngineTask;
  /** Of hidden states, and so of embeddings. */
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly maxModelTokens: number;
  readonly maxRows: number;
  /** Requests that may wait beyond those in rows. */
  readonly maxWaiting: number;
  /** Room for grammars on the device, and so the largest one; 0: requests may have none. */
  readonly grammarBytes: number;
  readonly device: Readonly<Record<string, string | number | boolean>>;
  readonly policy: string;
  readonly law: string;
  readonly kvPages: number;
  readonly pageTokens: number;
  readonly memory: MemoryBudget;
  readonly kvParts: readonly KvPartPlaces[];
  /** What of the checkpoint was left aside. */
  readonly notes: readonly string[];
  readonly weightBytes: number;
  readonly loadSeconds: number;
  /** Compiling, timing and capturing what steps launch. */
  readonly prepareSeconds: number;
}

/**
 * Counters since start (monotonic) and gauges (now): the source of /metrics and of the summary
 * line.
 */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  /** 0 to 1. */
  readonly kvUsage: number;
  readonly prefixQueriedTokens: number;
  readonly prefixHitTokens: number;
  readonly preemptions: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Sampling steps, of prompts and of decoding. */
  readonly steps: number;
  /** Decode steps that a launch holds now. */
  readonly stepsPerLaunch: number;
  /** Why so many. */
  readonly stepsReason: string;
  /** Tokens that a launch with prompts may compute while rows decode. */
  readonly chunkTokens: number;
  /** Why so many. */
  readonly chunkReason: string;
  /** undefined: nothing is ever drafted. */
  readonly speculation?: SpeculationStats | undefined;
  readonly launches: number;
  readonly graphLaunches: number;
  readonly grammars: GrammarStats;
  readonly kv: KvStats;
  readonly snapshots: SnapshotStats;
  readonly bridge: BridgeStats;
}

/** What drafting by n-gram does now, and counters since start. */
export interface SpeculationStats {
  /** Tokens that launches draft for each row now; 0: it would not pay. */
  readonly draftsPerStep: number;
  readonly reason: string;
  /** Steps of rows for which tokens were drafted, these, and those that were right. */
  readonly drafts: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
}

/** States of rows that are kept, and counters since start; all 0 of models without such states. */
export interface SnapshotStats {
  readonly held: number;
  readonly places: number;
  readonly taken: number;
  /** Prompts that went on from one. */
  readonly used: number;
  readonly evicted: number;
}

/** A part of KV that moves by itself, and how many of it each tier may hold. */
export interface KvPartPlaces {
  readonly part: KvPart;
  /** Of one: a page, a page of windows, the state of a row. */
  readonly bytes: number;
  readonly places: readonly [device: number, host: number, disk: number];
}

export interface KvPartStats extends KvPartPlaces {
  /** null: it is of pages of contexts, which are counted by tenant and in more detail. */
  readonly moved: PartCounters | null;
}

/** Where KV pages are, and what became of them since the start. */
export interface KvStats {
  readonly pageBytes: number;
  /** Pages of layers that see `tokens` alone; null: they are in the pages of all others. */
  readonly window: {
    readonly tokens: number;
    readonly pageBytes: number;
    readonly pages: number;
    /** Those that requests look back at. */
    readonly held: number;
  } | null;
  /** Pages that each tier may hold: device, host, disk. */
  readonly places: readonly [device: number, host: number, disk: number];
  /** The same of each part, the first of which is `context`, and what became of the others. */
  readonly parts: readonly KvPartStats[];
  /** Host memory that is there by now; the rest is still being allocated, or was refused. */
  readonly hostReadyBytes: number;
  /** Lane time that waits, as far as its price is known. */
  readonly spillQueueNs: number;
  readonly restoreQueueNs: number;
  readonly total: TierCounters;
  /** Of the tenants that have most pages. */
  readonly tenants: readonly TenantPages[];
}

export interface TenantPages {
  readonly tenant: string;
  readonly counters: TierCounters;
}

/** Grammars on the device: what is there now, and counters since start. */
export interface GrammarStats extends Readonly<GrammarCounters> {
  readonly held: number;
  readonly heldBytes: number;
}

/** The ledger's totals and the lanes' state, as /v1/bridge shows them. */
export interface BridgeStats {
  readonly law: string;
  readonly totals: readonly {
    readonly purpose: string;
    readonly direction: string;
    readonly crossings: number;
    readonly bytes: number;
    readonly busyNs: number;
    readonly blockedNs: number;
  }[];
  readonly lanes: readonly {
    readonly id: string;
    readonly kind: string;
    readonly crossings: number;
    readonly bytes: number;
    readonly busyNs: number;
    /** How long the lane's own thread stood still. */
    readonly blockedNs: number;
  }[];
  readonly uptimeNs: number;
}

export type EngineErrorCode =
  | 'bad-request'
  | 'prompt-too-long'
  | 'queue-full'
  | 'shutting-down'
  | 'asleep'
  | 'sleep-refused'
  | 'engine-failed'
  | 'restarting'
  | 'bad-model'
  | 'out-of-memory';

/** The border of the engine. The message is fit for a client and never carries prompt text. */
export class EngineError extends Error {
  override readonly name = 'EngineError';
  readonly code: EngineErrorCode;
  /** The parameter at fault, where there is one. */
  readonly parameter: string | undefined;

  constructor(code: EngineErrorCode, message: string, parameter?: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.parameter = parameter;
  }
}

/** What requests are told meanwhile. */
export const ASLEEP = 'the engine is asleep: it takes requests again after POST /wake_up';

/** How an engine is to be put to sleep. */
export interface SleepRequest {
  /** 1: weights are kept in host memory; 2: they are read from the model's folder again. */
  readonly level: 1 | 2;
  /** What is in flight ends with an error, or is waited for. */
  readonly mode: 'abort' | 'wait';
  /** Whether KV stays where it is, and prefixes are found after waking up. */
  readonly keepsKv: boolean;
}

/** The engine as the server sees it: in a worker thread, in this one, or a stub. */
export interface EngineClient {
  readonly card: EngineCard;
  /**
   * Queues a request; throws EngineError. `onEvents` is called once per engine step that brought
   * something for this request; the last event carries `finish`, and none comes after it.
   */
  submit(request: GenerationRequest, onEvent: OnEvent): void;
  /** The request ends with `cancelled` soon; unknown ids are ignored. */
  cancel(id: string): void;
  /** The last known stats: never waits for a step. */
  stats(): EngineStats;
  /**
   * Gives the device's memory back until `wakeUp`. From now on requests are refused with `asleep`;
   * resolves when the memory is free. One that is asleep stays as it is. Throws EngineError
   * `sleep-refused` where it cannot be done: then the engine is awake as before.
   */
  sleep(request: SleepRequest): Promise<void>;
  /**
   * Resolves when requests are taken again, which may be at once. Throws EngineError
   * `sleep-refused` where the device's memory is taken by others: then the engine still sleeps.
   * Whatever else fails ends the engine.
   */
  wakeUp(): Promise<void>;
  /** Whether requests are refused with `asleep`. */
  readonly isAsleep: boolean;
  /**
   * Rejects new requests, waits up to `graceMs` for those in flight, fails the rest, and ends.
   * Idempotent.
   */
  shutdown(graceMs: number): Promise<void>;
  /** Resolves, with the reason, if the engine dies. */
  readonly failed: Promise<EngineError>;
}
