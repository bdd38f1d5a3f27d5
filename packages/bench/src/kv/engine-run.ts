import {
  type Clock,
  type Profile,
  type ReferenceProfileName,
  referenceProfile,
} from '@bridgekeeper/bridge';
import { type Engine, GREEDY } from '@bridgekeeper/engine';
import type { TierPolicyName } from '@bridgekeeper/engine/measure';
import { Draws } from '@bridgekeeper/planner/workload';
import { quantile } from '@bridgekeeper/report';
import {
  buildEngine,
  configureEngine,
  type EngineConfig,
  type Settings,
  settingsWith,
} from '@bridgekeeper/server';
import type { PagedRequest } from './replay.ts';

export interface EngineRunOptions {
  readonly devicePages: number;
  readonly hostPages: number;
  readonly law: ReferenceProfileName;
  /** A tier policy; else there are no tiers. */
  readonly policy: string;
  readonly load: number;
  readonly pageTokens: number;
  readonly seed: number;
  readonly model: string;
}

export interface EngineRun {
  readonly timeScale: number;
  readonly metrics: Readonly<Record<string, number>>;
}

const MAX_ROWS = 64;
/** Requests that are run all at once, without caching, to learn how fast the engine is. */
const PACE_REQUESTS = 64;

/** Replays a trace through the engine on a modelled device, in virtual time. */
export async function runEngine(
  requests: readonly PagedRequest[],
  options: EngineRunOptions,
): Promise<EngineRun> {
  const { devicePages, hostPages, policy, load, pageTokens } = options;
  const longest = Math.max(...requests.map((each) => each.inputTokens + each.outputTokens));
  const base = {
    model: options.model,
    loadFormat: 'dummy',
    device: 'model',
    law: `emulate:${options.law}`,
    policy: 'auto',
    maxNumSeqs: MAX_ROWS,
    maxModelLen: longest + 1,
    maxNumBatchedTokens: 8192,
    blockSize: pageTokens,
    maxWaitingRequests: requests.length,
  } as const;
  const modelledGpu = studiedGpu(options.law);
  const configOf = (settings: Settings): EngineConfig => {
    return { ...configureEngine(settings, { mode: 'off' }), modelledGpu };
  };
  const paced = await buildEngine(configOf(settingsWith(base)));
  const pageBytes = paced.engine.card.memory.kvBytes / paced.engine.card.kvPages;
  const paceSeconds = await paceOf(paced, requests.slice(0, PACE_REQUESTS), options);
  const lasts = requests.at(-1)!.atSeconds - requests[0]!.atSeconds;
  const timeScale = (paceSeconds * requests.length) / load / Math.max(1, lasts);
  const tiers =
    policy === 'device only'
      ? {}
      : {
          kvOffloadingSize: (hostPages * pageBytes + 1) / 2 ** 30,
          kvTierPolicy: policy as TierPolicyName,
          kvSpillShare: 1,
        };
  const settings = settingsWith({ ...base, kvCacheMemoryBytes: devicePages * pageBytes, ...tiers });
  const run = await buildEngine(configOf(settings));
  try {
    const metrics = await replayThrough(run, requests, timeScale, options);
    return { timeScale, metrics };
  } finally {
    await run.engine.shutdown(0);
  }
}

/**
 * A GPU that computes Llama-3.1-8B's prompts as fast as the study says whose prices the tree is
 * replayed with: 2 x 8.0e9 operations for each of 512 tokens in 28.7 ms; the rate of its memory is
 * inference. It has room for whatever sizes are asked for.
 */
function studiedGpu(law: ReferenceProfileName): Profile {
  const profile = referenceProfile(law);
  const roofline = {
    ...profile.roofline,
    memoryBytes: 1e12,
    copyBytesPerSecond: 1.8e12,
    bf16FlopsPerSecond: 2.86e14,
    fp8FlopsPerSecond: 2.86e14,
  };
  return { ...profile, roofline };
}

interface Opened {
  readonly engine: Engine;
  readonly clock: Clock;
}

/** Seconds that one of these requests takes of a busy engine. */
async function paceOf(
  { engine, clock }: Opened,
  requests: readonly PagedRequest[],
  options: EngineRunOptions,
): Promise<number> {
  try {
    const startedNs = clock.nowNs();
    const alone = requests.map((each, index) => ({ ...each, tenant: `pace ${index}` }));
    await Promise.all(alone.map((each, index) => ask(engine, clock, each, index, options)));
    return (clock.nowNs() - startedNs) / 1e9 / requests.length;
  } finally {
    await engine.shutdown(0);
  }
}

async function replayThrough(
  { engine, clock }: Opened,
  requests: readonly PagedRequest[],
  timeScale: number,
  options: EngineRunOptions,
): Promise<EngineRun['metrics']> {
  const startNs = clock.nowNs();
  const before = engine.stats();
  const first = requests[0]!.atSeconds;
  const open: Promise<number>[] = [];
  for (const [index, request] of requests.entries()) {
    await clock.sleepUntilNs(startNs + (request.atSeconds - first) * timeScale * 1e9);
    open.push(ask(engine, clock, request, index, options));
  }
  const ttftMs = await Promise.all(open);
  const reusable = reusableOf(requests);
  const ofReuse = ttftMs.filter((_, index) => reusable[index]! > 0).sort((a, b) => a - b);
  const after = engine.stats();
  const { totals } = after.bridge;
  const sum = (purpose: string, field: 'bytes' | 'busyNs') =>
    totals.filter((each) => each.purpose === purpose).reduce((all, each) => all + each[field], 0);
  const pageBytes = engine.card.memory.kvBytes / engine.card.kvPages;
  const hits = after.prefixHitTokens - before.prefixHitTokens;
  const reusablePages = reusable.reduce((all, pages) => all + pages, 0);
  return {
    hitFraction: hits / requests.reduce((all, { inputTokens }) => all + inputTokens, 0),
    hitOfReusableFraction: hits / Math.max(1, reusablePages * options.pageTokens),
    spilledPages: sum('kv-spill', 'bytes') / pageBytes,
    restoredPages: sum('kv-restore', 'bytes') / pageBytes,
    spilledBytes: sum('kv-spill', 'bytes'),
    restoredBytes: sum('kv-restore', 'bytes'),
    laneSeconds: (sum('kv-spill', 'busyNs') + sum('kv-restore', 'busyNs')) / 1e9,
    meanTtftMs: ofReuse.reduce((all, each) => all + each, 0) / Math.max(1, ofReuse.length),
    p99TtftMs: ofReuse.length > 0 ? quantile(ofReuse, 0.99) : 0,
    virtualSeconds: (clock.nowNs() - startNs) / 1e9,
  };
}

/** Full pages of each request's prompt that an earlier one had. */
function reusableOf(requests: readonly PagedRequest[]): number[] {
  const seen = new Set<number>();
  return requests.map(({ ids }) => {
    let pages = 0;
    while (pages < ids.length - 1 && seen.has(ids[pages]!)) pages += 1;
    for (const id of ids) seen.add(id);
    return pages;
  });
}

/** Milliseconds until its first token. */
function ask(
  engine: Engine,
  clock: Clock,
  { ids, tenant, inputTokens, outputTokens }: PagedRequest,
  index: number,
  { pageTokens, seed }: EngineRunOptions,
): Promise<number> {
  const { vocabularySize } = engine.card;
  const promptTokens = new Uint32Array(inputTokens);
  for (const [page, id] of ids.entries()) {
    const draws = new Draws(seed, 'chunk', id);
    const end = Math.min(inputTokens, (page + 1) * pageTokens);
    for (let at = page * pageTokens; at < end; at++) {
      promptTokens[at] = draws.integer(0, vocabularySize - 1);
    }
  }
  const sampling = { ...GREEDY, maxTokens: outputTokens };
  const startedNs = clock.nowNs();
  return new Promise((resolve, reject) => {
    let firstNs: number | undefined;
    engine.submit({ id: `${tenant}.${index}`, tenant, promptTokens, sampling }, (event) => {
      if (event.tokens.length > 0) firstNs ??= clock.nowNs();
      if (event.finish?.reason === 'error') reject(new Error(event.finish.message));
      else if (event.finish !== undefined) resolve(((firstNs ?? clock.nowNs()) - startedNs) / 1e6);
    });
  });
}
