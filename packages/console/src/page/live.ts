/// <reference lib="dom" />
import { createSignal } from 'solid-js';
import type { Moment, Snapshot } from '../timeline/recording.ts';
import { Recording } from '../timeline/recording.ts';
import { ask, events, key, ServerError } from './api.ts';

/** As GET /v1/bridge answers. */
export interface Bridge {
  readonly device: Readonly<Record<string, string | number | boolean>>;
  readonly law: { readonly name: string; readonly reason: string };
  readonly policy: { readonly name: string; readonly reason: string };
  readonly assumed_bridge: { readonly name: string; readonly reason: string; warning?: string };
  readonly uptime_seconds: number;
  readonly running: number;
  readonly waiting: number;
  readonly generated_tokens: number;
  readonly steps_per_launch: number;
  readonly steps_per_launch_reason: string;
  readonly chunk_tokens: number;
  readonly chunk_tokens_reason: string;
  readonly per_generated_token: Readonly<Record<'crossings' | 'bytes' | 'launches', number>>;
  readonly lanes: readonly {
    readonly id: string;
    readonly kind: string;
    readonly crossings: number;
    readonly bytes: number;
    readonly busy_seconds: number;
    readonly blocked_seconds: number;
    readonly utilisation: number;
  }[];
  readonly ledger: readonly {
    readonly purpose: string;
    readonly direction: string;
    readonly crossings: number;
    readonly bytes: number;
    readonly busy_seconds: number;
    readonly blocked_seconds: number;
  }[];
  readonly kv: KvTotals & {
    readonly page_bytes: number;
    readonly places: ByTier;
    readonly host_ready_bytes: number;
    readonly spill_queue_seconds: number;
    readonly restore_queue_seconds: number;
    readonly tenants: readonly (KvTotals & { readonly tenant: string })[];
  };
}

export type ByTier = Readonly<Record<'device' | 'host' | 'disk', number>>;

export interface KvTotals {
  readonly resident: ByTier;
  readonly hits: ByTier;
  readonly spilled: number;
  readonly demoted: number;
  readonly restored: number;
  readonly recomputed: number;
  readonly avoided: number;
  readonly refused: number;
  readonly lost: number;
}

/** Of the last two minutes, one a second. */
export interface Sample {
  readonly atSeconds: number;
  readonly tokensPerSecond: number;
  readonly running: number;
  readonly waiting: number;
  readonly pagesHeld: number;
}

const SAMPLES_KEPT = 120;

export type Connection =
  | { readonly state: 'connecting' | 'live' }
  | { readonly state: 'lost'; readonly reason: string };

const [connection, setConnection] = createSignal<Connection>({ state: 'connecting' });
const [recording, setRecording] = createSignal<Recording | null>(null);
const [bridge, setBridge] = createSignal<Bridge | null>(null);
const [samples, setSamples] = createSignal<readonly Sample[]>([]);
/** When anything last came, by this machine's clock. */
const [heardMs, setHeardMs] = createSignal(0);

export { bridge, connection, heardMs, recording, samples };

/** A recording from a file is shown in place of the server's until it is closed. */
const [file, setFile] = createSignal<{ name: string; recording: Recording } | null>(null);

export { file };

export function closeFile(): void {
  setFile(null);
}

/** Throws Error where it is no recording. */
export async function openFile(given: File): Promise<void> {
  const snapshot = JSON.parse(await given.text()) as Partial<Snapshot>;
  if (!Array.isArray(snapshot.accounts) || !Array.isArray(snapshot.moments)) {
    throw new Error(`${given.name} is no recording: it is saved by "Save" here, or from
      GET /v1/bridge/timeline.`);
  }
  const whole = new Recording(snapshot as Snapshot, Number.POSITIVE_INFINITY);
  setFile({ name: given.name, recording: whole });
}

let moments: Moment[] = [];
let snapshot: Snapshot | null = null;
const MOMENTS_KEPT = 600;

/** What is on the page, as a file to open again. */
export function saved(): string {
  return JSON.stringify({ ...snapshot, moments });
}

const RETRY_MS = 1_000;

/** Keeps a stream open for as long as the page is: what is shown is what came. */
export async function watch(): Promise<never> {
  for (;;) {
    const from = key();
    try {
      await follow();
      setConnection({ state: 'lost', reason: 'the server closed the stream' });
    } catch (error) {
      const reason = error instanceof ServerError ? error.message : 'the server does not answer';
      setConnection({ state: 'lost', reason });
    }
    const untilMs = Date.now() + RETRY_MS;
    // A new key is tried at once.
    while (Date.now() < untilMs && key() === from) await new Promise((go) => setTimeout(go, 100));
  }
}

async function follow(): Promise<void> {
  const response = await ask('/v1/bridge/events');
  for await (const { event, data } of events(response)) {
    setHeardMs(Date.now());
    if (event === 'snapshot') begin(JSON.parse(data) as Snapshot);
    else if (event === 'moment') proceed(JSON.parse(data) as Moment);
    else if (event === 'bridge') account(JSON.parse(data) as Bridge);
  }
}

function begin(first: Snapshot): void {
  snapshot = first;
  moments = [...first.moments];
  setConnection({ state: 'live' });
  setRecording(new Recording(first));
}

function proceed(moment: Moment): void {
  moments.push(moment);
  if (moments.length > MOMENTS_KEPT) moments.splice(0, moments.length - MOMENTS_KEPT);
  recording()?.add(moment);
}

function account(now: Bridge): void {
  const before = bridge();
  setBridge(now);
  const seconds = before === null ? 0 : now.uptime_seconds - before.uptime_seconds;
  // A server that started anew counts from nothing.
  if (before === null || seconds <= 0) return;
  const tokens = now.generated_tokens - before.generated_tokens;
  const sample = {
    atSeconds: Date.now() / 1000,
    tokensPerSecond: tokens / seconds,
    running: now.running,
    waiting: now.waiting,
    pagesHeld: now.kv.resident.device,
  };
  setSamples((earlier) => [...earlier.slice(1 - SAMPLES_KEPT), sample]);
}
