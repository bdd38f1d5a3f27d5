import { basename, resolve } from 'node:path';
import type { EngineClient, EngineError } from '@bridgekeeper/engine';
import type { ServerClock } from '../edge/time.ts';
import type { Logger } from '../logging/logger.ts';
import { summarise } from '../logging/summary.ts';
import { ServerMetrics } from '../metrics/server-metrics.ts';
import type { Settings } from '../settings/table.ts';
import { createApp } from './app.ts';
import { KeyRing } from './auth.ts';
import type { Reasoned, ServerContext } from './context.ts';
import { HttpServer } from './http-server.ts';
import { Lifecycle } from './lifecycle.ts';
import { openModelText } from './model-text.ts';
import { WakeQueue } from './wake-queue.ts';

/** An engine, and what was chosen for it and why. */
export interface StartedEngine {
  readonly engine: EngineClient;
  readonly law: Reasoned;
  readonly policy: Reasoned;
  /** What the choices were derived from. */
  readonly bridge: Reasoned & { readonly warning?: string };
}

export interface ServerParts {
  /** Throws EngineError or ModelError. */
  readonly startEngine: (settings: Settings, log: Logger) => Promise<StartedEngine>;
  readonly log: Logger;
  readonly clock: ServerClock;
  readonly version: string;
}

export interface RunningServer {
  readonly url: string;
  readonly modelName: string;
  readonly engine: EngineClient;
  /** Resolves if the engine dies; open answers have been failed then, and /health says so. */
  readonly engineFailed: Promise<EngineError>;
  /** Finishes open answers for up to `graceSeconds`, fails the rest, closes every connection. */
  stop(graceSeconds: number): Promise<void>;
}

/** Tokens kept for a stream whose client does not read. */
const MAX_PENDING_TOKENS = 4096;
const MAX_CHOICES = 256;

/**
 * Starts engine and server. Throws UsageError, ModelError or EngineError, with nothing left
 * running.
 */
export async function startServer(settings: Settings, parts: ServerParts): Promise<RunningServer> {
  const text = await openModelText(settings.model);
  const started = await parts.startEngine(settings, parts.log);
  try {
    const ctx = contextOf(settings, parts, started, text);
    const http = new HttpServer(createApp(ctx), settings, parts.clock);
    const url = await http.listen();
    return running(settings, ctx, http, url);
  } catch (error) {
    await started.engine.shutdown(0);
    throw error;
  }
}

function contextOf(
  settings: Settings,
  { log, clock, version }: ServerParts,
  { engine, law, policy, bridge }: StartedEngine,
  text: ServerContext['text'],
): ServerContext {
  const { servedModelName, model } = settings;
  const modelNames = servedModelName.length > 0 ? servedModelName : [basename(resolve(model))];
  return {
    engine,
    text,
    clock,
    log,
    version,
    law,
    policy,
    bridge,
    modelNames,
    metrics: new ServerMetrics(engine, modelNames[0]!),
    keys: new KeyRing(settings.apiKey),
    wakes: new WakeQueue(clock),
    lifecycle: new Lifecycle(),
    limits: {
      maxBodyBytes: settings.maxBodyBytes,
      maxChoices: MAX_CHOICES,
      maxPendingTokens: MAX_PENDING_TOKENS,
      stallSeconds: settings.stallTimeout,
    },
    allowedOrigins: settings.allowedOrigins,
    startedSeconds: clock.unixSeconds(),
  };
}

function running(
  settings: Settings,
  ctx: ServerContext,
  http: HttpServer,
  url: string,
): RunningServer {
  const { engine, lifecycle } = ctx;
  const stopSummaries = logSummaries(ctx, settings.logInterval);
  const engineFailed = engine.failed.then((error) => {
    ctx.log.fatal({ code: error.code }, error.message);
    lifecycle.fail(error);
    return error;
  });
  let stopped: Promise<void> | undefined;
  const stop = async (graceSeconds: number) => {
    lifecycle.stop();
    http.stopAccepting();
    await engine.shutdown(graceSeconds * 1000);
    lifecycle.endOpen();
    stopSummaries();
    await http.close();
    await ctx.text.encoder.close();
  };
  return {
    url,
    modelName: ctx.modelNames[0]!,
    engine,
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
    const { text, idle } = summarise(before, after, (afterNs - beforeNs) / 1e9);
    log[idle ? 'debug' : 'info'](text);
    before = after;
    beforeNs = afterNs;
  });
}
