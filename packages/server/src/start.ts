import { basename, resolve } from 'node:path';
import type { MachineSources } from '@bridgekeeper/attest/node';
import type { Vocabulary } from '@bridgekeeper/device';
import type { EngineClient, EngineError } from '@bridgekeeper/engine';
import { openModel, pinSeal, type SealPolicy } from '@bridgekeeper/engine/seal';
import { createApp } from './app.ts';
import { EncryptionKeys } from './encryption/keys.ts';
import { ReplayGuard } from './encryption/replay-guard.ts';
import { chooseTask } from './engine/config/choose-task.ts';
import { type PhaseTime, StartTimeline } from './engine/start-timeline.ts';
import type { StartedEngine } from './engine/started-engine.ts';
import { openEvidence, type ServerEvidence } from './evidence/evidence.ts';
import type { VersionInfo } from './evidence/software.ts';
import { GrammarService } from './grammar/service.ts';
import type { ServerClock } from './host-clock.ts';
import { KeyRing, tenantOfKey } from './http/auth.ts';
import { JsonBodies } from './http/body.ts';
import { HostPolicy } from './http/host-policy.ts';
import { HttpServer, requireFreeAddress } from './http/http-server.ts';
import { type ApiKey, type KeyLimits, readKeyFile } from './http/key-file.ts';
import { Lifecycle } from './http/lifecycle.ts';
import { Quotas } from './http/quotas.ts';
import { LiveFeed } from './live/feed.ts';
import type { Logger } from './logging/logger.ts';
import { OnceLog } from './logging/once-log.ts';
import { summarise } from './logging/summary.ts';
import { ServerMetrics } from './metrics/server-metrics.ts';
import type { ServerContext } from './openai/context.ts';
import { RequestLog } from './openai/request-log.ts';
import { ResponseStore } from './openai/response-store.ts';
import { WakeQueue } from './openai/wake-queue.ts';
import { Planning } from './plan/planning.ts';
import { openReceipts } from './receipts/open.ts';
import type { Receipts } from './receipts/receipts.ts';
import { readSealPolicy } from './seal/seal-policy.ts';
import { UsageError } from './settings/resolve.ts';
import type { Settings } from './settings/table.ts';
import { type ModelText, openModelText } from './text/model-text.ts';

export interface ServerParts {
  /**
   * `seal` is what is asked of the model's, `vocabulary` what grammars see of its tokens. Throws
   * EngineError or ModelError.
   */
  readonly startEngine: (
    settings: Settings,
    log: Logger,
    seal: SealPolicy,
    timeline: StartTimeline,
    vocabulary: Vocabulary,
    /** The same, with its key read anew: for an engine that is started again. */
    sealAgain: () => Promise<SealPolicy>,
  ) => Promise<StartedEngine>;
  readonly log: Logger;
  readonly clock: ServerClock;
  readonly version: VersionInfo;
  /** When the process began, by the clock; absent: now. */
  readonly startedNs?: number;
  /** Where receipts are kept unless a setting says otherwise; absent: in memory. */
  readonly receiptsFile?: string;
  /** Where evidence of this machine comes from, where that is not the usual place. */
  readonly machine?: MachineSources;
  /** What keeps other processes from the receipts' file, where that is not the system's flock. */
  readonly lockFile?: (fd: number) => boolean;
}

export interface RunningServer {
  readonly url: string;
  readonly modelName: string;
  readonly engine: EngineClient;
  /** What the start took, in order. */
  readonly phases: readonly PhaseTime[];
  /** Resolves if the engine dies; open answers have been failed then, and /health says so. */
  readonly engineFailed: Promise<EngineError>;
  /** Finishes open answers for up to `graceSeconds`, fails the rest, closes every connection. */
  stop(graceSeconds: number): Promise<void>;
}

/** Tokens kept for a stream whose client does not read. */
const MAX_PENDING_TOKENS = 4096;
const MAX_CHOICES = 256;
const TEXT_THREAD = new URL('./text-worker.js', import.meta.url);
/** Of one tenant, whatever they take. */
const MAX_RESPONSES = 4096;
const EXPIRY_SECONDS = 60;

/**
 * Starts engine and server. Throws UsageError, ModelError or EngineError, with nothing left
 * running.
 */
export async function startServer(settings: Settings, parts: ServerParts): Promise<RunningServer> {
  const { clock, log, startedNs = clock.nowNs() } = parts;
  const timeline = new StartTimeline(clock, startedNs, (line) => log.info(line));
  // Before minutes of loading, and not after them.
  await requireFreeAddress(settings);
  const keys = await readKeys(settings);
  const seal = await readSealPolicy(settings);
  try {
    return await startWith(settings, keys, seal, parts, timeline);
  } finally {
    seal.userKey?.fill(0);
  }
}

/** What holds for a key unless its line in the file of keys says otherwise. */
function limitsOf(settings: Settings): KeyLimits {
  return {
    weight: 1,
    maxRunning: settings.maxRunningPerKey,
    maxWaiting: settings.maxWaitingPerKey,
    tokensPerMinute: settings.tokensPerMinutePerKey,
  };
}

/** Those of the flag and those of the file; the file's limits where both have a key. */
async function readKeys(settings: Settings): Promise<readonly ApiKey[]> {
  const { apiKey, apiKeyFile } = settings;
  const limits = limitsOf(settings);
  const inFile = apiKeyFile === undefined ? [] : await readKeyFile(apiKeyFile, limits);
  const known = new Set(inFile.map(({ key }) => key));
  const others = apiKey.filter((key) => !known.has(key)).map((key) => ({ key, limits }));
  return [...inFile, ...others];
}

async function startWith(
  settings: Settings,
  keys: readonly ApiKey[],
  seal: SealPolicy,
  parts: ServerParts,
  timeline: StartTimeline,
): Promise<RunningServer> {
  const { clock, log, receiptsFile, machine = {}, lockFile: lock } = parts;
  timeline.begin('model');
  const model = await openModel(settings.model, seal);
  const text = await openModelText(model.files, {
    isLiteral: settings.literalUserText,
    thread: TEXT_THREAD,
    formats: { tools: settings.toolCallParser, reasoning: settings.reasoningParser },
  });
  requireLiteral(text);
  const modelNames = namesOf(settings);
  const receipts = await openReceipts(settings, { defaultFile: receiptsFile, log, clock, lock });
  let started: StartedEngine | undefined;
  try {
    const task = await chooseTask(settings, model.files);
    log.info(`task ${task.value} (${task.reason})`);
    const decided = { ...settings, task: task.value };
    const pinned = pinSeal(seal, model);
    const sealAgain = async () => {
      const { userKey } = await readSealPolicy(settings);
      return { ...pinned, userKey };
    };
    const { vocabulary } = text;
    started = await parts.startEngine(decided, log, pinned, timeline, vocabulary, sealAgain);
    timeline.begin('evidence');
    const modelName = modelNames[0]!;
    const encryptionKeys = await EncryptionKeys.make(clock);
    const evidence = await openEvidence(decided, started, {
      clock,
      machine,
      receipts,
      modelName,
      version: parts.version,
      encryptionKeys: () => encryptionKeys.current(),
    });
    started.restarts?.checkBefore(evidence.requireSameModel);
    const ctx = contextOf(settings, parts, {
      started,
      text,
      modelNames,
      receipts,
      evidence,
      keys,
      encryptionKeys,
    });
    timeline.begin('listening');
    const http = new HttpServer(createApp(ctx), settings, clock);
    const url = await http.listen();
    return running(settings, { ctx, http, url, evidence, phases: timeline.finish() });
  } catch (error) {
    await started?.engine.shutdown(0);
    await receipts?.close();
    throw error;
  }
}

/** Throws UsageError where text is to be taken literally and this tokenizer cannot. */
function requireLiteral({ isLiteral, tokenizer: { unmarkable } }: ModelText): void {
  if (!isLiteral || unmarkable === undefined) return;
  throw new UsageError('bad-value', `--literal-user-text cannot be kept: ${unmarkable}`);
}

function namesOf({ servedModelName, model }: Settings): readonly string[] {
  return servedModelName.length > 0 ? servedModelName : [basename(resolve(model))];
}

interface Opened {
  readonly keys: readonly ApiKey[];
  readonly started: StartedEngine;
  readonly text: ServerContext['text'];
  readonly modelNames: readonly string[];
  readonly receipts: Receipts | null;
  readonly evidence: ServerEvidence;
  readonly encryptionKeys: EncryptionKeys;
}

function contextOf(
  settings: Settings,
  { log, clock, version }: ServerParts,
  { keys, started, text, modelNames, receipts, evidence, encryptionKeys }: Opened,
): ServerContext {
  const { engine, live, restarts, law, policy, bridge } = started;
  const counts = receipts === null ? undefined : () => receipts.counts;
  return {
    engine,
    text,
    grammars: new GrammarService(clock),
    clock,
    log,
    once: new OnceLog(log),
    logsAccess: settings.accessLog,
    version: version.version,
    law,
    policy,
    bridge,
    modelNames,
    receipts,
    attestation: evidence.attestation,
    encryption: { keys: encryptionKeys, replays: new ReplayGuard() },
    modelDigest: evidence.modelDigest,
    restarts: restarts ?? null,
    metrics: new ServerMetrics(engine, modelNames[0]!, {
      receipts: counts,
      restarts: restarts && (() => restarts.restarts),
    }),
    responses: new ResponseStore(
      {
        maxBytes: settings.responseStoreBytes,
        maxResponses: MAX_RESPONSES,
        keptSeconds: settings.responseStoreSeconds,
      },
      () => clock.unixSeconds(),
    ),
    bodies: new JsonBodies(settings.maxBodyBytes),
    keys: new KeyRing(
      keys.map(({ key }) => key),
      settings.operatorKey,
      settings.gatewayKey,
    ),
    replica: replicaOf(settings),
    quotas: new Quotas(
      new Map(keys.map(({ key, limits }) => [tenantOfKey(key), limits])),
      limitsOf(settings),
      engine.card,
      clock,
    ),
    wakes: new WakeQueue(clock),
    requests: new RequestLog(clock),
    planning: new Planning(clock, {
      modelPath: engine.card.modelPath,
      modelName: modelNames[0]!,
      profile: started.profile,
    }),
    live: live === undefined ? null : new LiveFeed(live, clock),
    lifecycle: new Lifecycle({
      isAsleep: () => engine.isAsleep,
      restarting: () => restarts?.restarting ?? null,
    }),
    hasSleepMode: settings.enableSleepMode,
    limits: {
      maxChoices: MAX_CHOICES,
      maxPendingTokens: MAX_PENDING_TOKENS,
      stallSeconds: settings.stallTimeout,
    },
    hosts: hostPolicyOf(settings, keys.length + settings.gatewayKey.length > 0),
    allowedOrigins: settings.allowedOrigins,
    readsAutoCalls: settings.enableAutoToolChoice,
    startedSeconds: clock.unixSeconds(),
  };
}

function replicaOf({
  replicaId,
  tenancyEpoch,
  fabricLogIndex,
}: Settings): ServerContext['replica'] {
  if (replicaId === undefined) return null;
  return { id: replicaId, tenancyEpoch, logIndex: fabricLogIndex ?? null };
}

/** A page without a key does nothing on a server with keys, and cannot reach a socket file. */
function hostPolicyOf(
  { uds, host, allowedHosts }: Settings,
  hasKeys: boolean,
): HostPolicy | undefined {
  if (uds !== undefined || (hasKeys && allowedHosts.length === 0)) return undefined;
  return new HostPolicy([host, ...allowedHosts]);
}

interface Listening {
  readonly ctx: ServerContext;
  readonly http: HttpServer;
  readonly url: string;
  readonly evidence: ServerEvidence;
  readonly phases: readonly PhaseTime[];
}

function running(settings: Settings, listening: Listening): RunningServer {
  const { ctx, http, url, evidence, phases } = listening;
  const { engine, lifecycle } = ctx;
  const stopSummaries = logSummaries(ctx, settings.logInterval);
  const stopExpiry = ctx.clock.every(EXPIRY_SECONDS, () => ctx.responses.expire());
  const engineFailed = engine.failed.then((error) => {
    ctx.log.fatal({ code: error.code }, error.message);
    lifecycle.fail(error);
    return error;
  });
  let stopped: Promise<void> | undefined;
  const stop = async (graceSeconds: number) => {
    lifecycle.stop();
    http.stopAccepting();
    ctx.live?.close();
    await engine.shutdown(graceSeconds * 1000);
    lifecycle.endOpen();
    stopSummaries();
    stopExpiry();
    await http.close();
    await evidence.close();
    await ctx.text.encoder.close();
    await ctx.grammars.close();
  };
  return {
    url,
    modelName: ctx.modelNames[0]!,
    engine,
    phases,
    engineFailed,
    stop: (graceSeconds) => {
      stopped ??= stop(graceSeconds);
      return stopped;
    },
  };
}

/** One line an interval: for people while there is work, for debugging while there is none. */
function logSummaries({ engine, clock, log }: ServerContext, seconds: number): () => void {
  let before = engine.stats();
  let beforeNs = clock.nowNs();
  return clock.every(seconds, () => {
    const after = engine.stats();
    const afterNs = clock.nowNs();
    // Another engine began to count anew.
    const isOther = after.bridge.uptimeNs < before.bridge.uptimeNs;
    if (!isOther) {
      const { text, idle } = summarise(before, after, (afterNs - beforeNs) / 1e9);
      log[idle ? 'debug' : 'info'](text);
    }
    before = after;
    beforeNs = afterNs;
  });
}
