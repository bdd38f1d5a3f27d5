import type { Clock } from '@bridgekeeper/bridge';
import { TopError } from './errors.ts';
import { type BridgeDocument, type MomentDocument, type Shown, screen } from './screen.ts';
import { events, getJson, type TopTarget } from './server.ts';

const WINDOW_US = 10e6;
const RETRY_NS = 1e9;
const NS = 1e9;
/** Ten moments a second come while all is well. */
const SILENT_NS = 2e9;

interface Timeline {
  readonly accounts: unknown;
  readonly moments: readonly MomentDocument[];
}

/** Looks once. Throws TopError. */
export async function look(target: TopTarget): Promise<Shown> {
  const bridge = (await getJson(target, '/v1/bridge')) as BridgeDocument;
  // An engine that cannot be watched has a ledger all the same.
  const timeline = await getJson(target, '/v1/bridge/timeline').catch((error: unknown) => {
    if (error instanceof TopError && error.code === 'refused') return { moments: [] };
    throw error;
  });
  const { moments } = timeline as Timeline;
  return { bridge, moments, tokensPerSecond: null, age: null };
}

/** What came so far, and when. */
class Heard {
  bridge: BridgeDocument | null = null;
  moments: MomentDocument[] = [];
  tokensPerSecond: number | null = null;
  lastNs = 0;
  reason: string | null = null;

  take(event: string, data: unknown, nowNs: number): void {
    this.lastNs = nowNs;
    this.reason = null;
    if (event === 'snapshot') this.moments = [...(data as Timeline).moments];
    if (event === 'moment') this.#moment(data as MomentDocument);
    if (event === 'bridge') this.#account(data as BridgeDocument);
  }

  shown(nowNs: number): Shown {
    const { bridge, moments, tokensPerSecond } = this;
    const ageNs = nowNs - this.lastNs;
    const isSilent = this.lastNs > 0 && ageNs > SILENT_NS;
    const reason = this.reason ?? (isSilent ? 'the server is silent' : null);
    const age = reason === null ? null : { seconds: ageNs / NS, reason };
    return { bridge, moments, tokensPerSecond, age };
  }

  #moment(moment: MomentDocument): void {
    if (moment.seq <= (this.moments.at(-1)?.seq ?? 0)) return;
    const oldestUs = moment.now_us - WINDOW_US;
    this.moments = [...this.moments.filter(({ now_us: us }) => us >= oldestUs), moment];
  }

  #account(now: BridgeDocument): void {
    const before = this.bridge;
    this.bridge = now;
    const seconds = before === null ? 0 : now.uptime_seconds - before.uptime_seconds;
    // A server that started anew counts from nothing.
    if (before === null || seconds <= 0) return;
    this.tokensPerSecond = (now.generated_tokens - before.generated_tokens) / seconds;
  }
}

export interface WatchOptions {
  readonly target: TopTarget;
  readonly clock: Clock;
  readonly intervalSeconds: number;
  readonly width: number;
  readonly isJson: boolean;
  readonly stop: AbortSignal;
  readonly write: (text: string) => void;
}

/** Puts the cursor home, and what is left of an older screen away. */
const HOME = '\x1b[H';
const REST_OF_LINE = '\x1b[K';
const REST_OF_SCREEN = '\x1b[J';

/** Draws again and again until it is stopped; a server that vanishes is waited for. */
export async function watch(options: WatchOptions): Promise<void> {
  const { target, clock, intervalSeconds, width, isJson, stop, write } = options;
  const heard = new Heard();
  const following = follow(target, clock, stop, heard);
  while (!stop.aborted) {
    const shown = heard.shown(clock.nowNs());
    if (isJson) write(`${JSON.stringify(shown)}\n`);
    else {
      const lines = screen(target.url, shown, width);
      const text = lines.map((line) => `${line}${REST_OF_LINE}\n`).join('');
      write(`${HOME}${text}${REST_OF_SCREEN}`);
    }
    await until(clock, clock.nowNs() + intervalSeconds * NS, stop);
  }
  await following;
}

async function follow(
  target: TopTarget,
  clock: Clock,
  stop: AbortSignal,
  heard: Heard,
): Promise<void> {
  while (!stop.aborted) {
    try {
      for await (const { event, data } of events(target, stop)) {
        heard.take(event, data, clock.nowNs());
      }
      heard.reason = 'the server ended the stream';
    } catch (error) {
      if (!(error instanceof TopError)) throw error;
      heard.reason = error.message;
    }
    await until(clock, clock.nowNs() + RETRY_NS, stop);
  }
}

/** Of a recording; an hour at ten a second is 36,000. */
const MOMENTS_MAX = 200_000;

/**
 * Follows for so many seconds; resolves to a recording that the console opens. Throws TopError
 * where nothing could be heard at all.
 */
export async function record(
  target: TopTarget,
  clock: Clock,
  seconds: number,
  stop: AbortSignal,
  onProgress: (doneSeconds: number, moments: number) => void,
): Promise<string> {
  const moments: MomentDocument[] = [];
  let head: unknown = null;
  const ended = new AbortController();
  const end = () => ended.abort();
  stop.addEventListener('abort', end);
  const startNs = clock.nowNs();
  const timer = until(clock, startNs + seconds * NS, ended.signal).then(end);
  try {
    for await (const { event, data } of events(target, ended.signal)) {
      if (event === 'snapshot') head = { ...(data as Timeline), moments: undefined };
      if (event !== 'moment' || moments.length >= MOMENTS_MAX) continue;
      moments.push(data as MomentDocument);
      onProgress((clock.nowNs() - startNs) / NS, moments.length);
    }
  } catch (error) {
    // What was heard until then is worth keeping.
    if (!ended.signal.aborted && moments.length === 0) throw error;
  } finally {
    ended.abort();
    stop.removeEventListener('abort', end);
    await timer;
  }
  if (moments.length === 0) throw new TopError('broken', `${target.url} told of nothing`);
  return JSON.stringify({ ...(head as object), moments });
}

const SLICE_NS = 0.2e9;

/** Sleeps, but not past a stop. */
async function until(clock: Clock, untilNs: number, stop: AbortSignal): Promise<void> {
  while (!stop.aborted && clock.nowNs() < untilNs) {
    await clock.sleepUntilNs(Math.min(untilNs, clock.nowNs() + SLICE_NS));
  }
}
