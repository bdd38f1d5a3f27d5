/// <reference lib="dom" />
import { createSignal } from 'solid-js';
import { fits, orNone, type Shape } from '../shape.ts';
import type { Snapshot } from '../timeline/recording.ts';
import { Recording } from '../timeline/recording.ts';
import { ask, events, key } from './api.ts';
import { heard, keep, live } from './connection.ts';

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
    /** Of one of the mean size, alone, by the bridge that is assumed; null: none is known. */
    readonly price_seconds: number | null;
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

/** Why a page was computed again: the page says it in words. */
export const RECOMPUTED_FOR = [
  'sooner',
  'lane_busy',
  'overlapped',
  'lane_slower',
  'failed',
  'not_written',
  'refused',
  'lost',
  'evicted',
] as const;
export type RecomputedFor = (typeof RECOMPUTED_FOR)[number];

export interface KvTotals {
  readonly resident: ByTier;
  readonly hits: ByTier;
  readonly spilled: number;
  readonly demoted: number;
  readonly restored: number;
  readonly recomputed: number;
  readonly recomputed_for: Readonly<Record<RecomputedFor, number>>;
  readonly avoided: number;
  readonly refused: number;
  readonly lost: number;
  readonly late: number;
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

const [recording, setRecording] = createSignal<Recording | null>(null);
const [bridge, setBridge] = createSignal<Bridge | null>(null);
/** How many moments came: a recording is filled, not replaced. */
const [arrived, setArrived] = createSignal(0);
const [samples, setSamples] = createSignal<readonly Sample[]>([]);

export { arrived, bridge, recording, samples };

/** Moments as text, as they came: so they cost the collector of garbage nothing until saved. */
let moments: string[] = [];
let momentsLength = 0;
let about = { device: '', accounts: [] as Snapshot['accounts'] };
const MOMENTS_KEPT = 600;
const CHARACTERS_KEPT = 32 * 2 ** 20;

/** What is on the page, as a file to open again. */
export function saved(): string {
  return `${JSON.stringify(about).slice(0, -1)},"moments":[${moments.join(',')}]}`;
}

/** Keeps a stream open for as long as the page is: what is shown is what came. */
export function watch(): Promise<never> {
  return keep(follow, key);
}

async function follow(): Promise<void> {
  const response = await ask('/v1/bridge/events');
  for await (const { event, data } of events(response)) {
    // What cannot be read tells nothing of how things are: what is shown is as old as it was.
    if (take(event, parsed(data), data)) heard();
  }
}

/** Whether it told something new. */
function take(event: string, told: unknown, text: string): boolean {
  if (event === 'snapshot') return begin(told);
  if (event === 'moment') return proceed(told, text);
  return event === 'bridge' && account(told);
}

/** null: it is no JSON, which is none of what is looked for either. */
function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function begin(told: unknown): boolean {
  if (!fits(told, { moments: Array.isArray, accounts: Array.isArray })) return unreadable();
  const first = told as Snapshot;
  const made = new Recording(first);
  about = { device: String(first.device), accounts: made.accounts };
  moments = [];
  momentsLength = 0;
  for (const moment of first.moments) remember(JSON.stringify(moment));
  live();
  setRecording(made);
  return true;
}

function proceed(moment: unknown, text: string): boolean {
  const isNew = recording()?.add(moment) === true;
  if (isNew) remember(text);
  setArrived((count) => count + 1);
  return isNew;
}

/** Is said below the lanes. */
function unreadable(): false {
  const now = recording();
  if (now !== null) now.malformed += 1;
  setArrived((count) => count + 1);
  return false;
}

function remember(text: string): void {
  moments.push(text);
  momentsLength += text.length;
  while (moments.length > MOMENTS_KEPT || momentsLength > CHARACTERS_KEPT) {
    momentsLength -= moments.shift()!.length;
  }
}

const BY_TIER: Shape = { device: 'number', host: 'number', disk: 'number' };
const KV_TOTALS = {
  resident: BY_TIER,
  hits: BY_TIER,
  spilled: 'number',
  demoted: 'number',
  restored: 'number',
  recomputed: 'number',
  recomputed_for: Object.fromEntries(RECOMPUTED_FOR.map((why) => [why, 'number'])),
  avoided: 'number',
  refused: 'number',
  lost: 'number',
  late: 'number',
} as const satisfies Shape;
const NAMED = { name: 'text', reason: 'text' } as const;

/** What of the document is shown. */
const BRIDGE: Shape = {
  device: {},
  law: NAMED,
  policy: NAMED,
  assumed_bridge: { ...NAMED, warning: orNone('text') },
  uptime_seconds: 'number',
  running: 'number',
  waiting: 'number',
  generated_tokens: 'number',
  steps_per_launch: 'number',
  steps_per_launch_reason: 'text',
  chunk_tokens: 'number',
  chunk_tokens_reason: 'text',
  per_generated_token: { crossings: 'number', bytes: 'number', launches: 'number' },
  lanes: [
    {
      id: 'text',
      kind: 'text',
      crossings: 'number',
      bytes: 'number',
      busy_seconds: 'number',
      blocked_seconds: 'number',
      utilisation: 'number',
    },
  ],
  ledger: [
    {
      purpose: 'text',
      direction: 'text',
      price_seconds: orNone('number'),
      crossings: 'number',
      bytes: 'number',
      busy_seconds: 'number',
      blocked_seconds: 'number',
    },
  ],
  kv: {
    ...KV_TOTALS,
    page_bytes: 'number',
    places: BY_TIER,
    host_ready_bytes: 'number',
    spill_queue_seconds: 'number',
    restore_queue_seconds: 'number',
    tenants: [{ ...KV_TOTALS, tenant: 'text' }],
  },
};

function account(told: unknown): boolean {
  if (!fits(told, BRIDGE)) return unreadable();
  const now = told as Bridge;
  const before = bridge();
  setBridge(now);
  const seconds = before === null ? 0 : now.uptime_seconds - before.uptime_seconds;
  // A server that started anew counts from nothing.
  if (before === null || seconds <= 0) return true;
  const tokens = now.generated_tokens - before.generated_tokens;
  const sample = {
    atSeconds: Date.now() / 1000,
    tokensPerSecond: tokens / seconds,
    running: now.running,
    waiting: now.waiting,
    pagesHeld: now.kv.resident.device,
  };
  setSamples((earlier) => [...earlier.slice(1 - SAMPLES_KEPT), sample]);
  return true;
}
