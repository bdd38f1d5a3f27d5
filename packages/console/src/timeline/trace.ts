import type { Account, Moment, Recording, Snapshot } from './recording.ts';
import type { Slices } from './slices.ts';

/** What is read of one of Chrome's trace events. */
interface TraceEvent {
  readonly ph?: unknown;
  readonly name?: unknown;
  readonly tid?: unknown;
  readonly ts?: unknown;
  readonly dur?: unknown;
  readonly args?: unknown;
}

const GPU = 'GPU';
const LANE = /^lane /;
const EVENTS_MAX = 5_000_000;
const GPU_THREAD = 1;

/**
 * A trace of the bridge, as this page and `bridgekeeper plan --perfetto` write it, as a recording:
 * a thread `GPU` has launches, every other one is a lane. Throws Error where it is none.
 */
export function recordingOfTrace(events: readonly unknown[]): Snapshot {
  if (events.length > EVENTS_MAX) {
    throw new Error(`it has ${events.length} events, more than the ${EVENTS_MAX} that are shown`);
  }
  const names = new Map<number, string>();
  const accounts: Account[] = [];
  const accountIndex = new Map<string, number>();
  const lanes: string[] = [];
  const slices: { event: TraceEvent; ts: number; dur: number; thread: string }[] = [];
  for (const event of events as readonly TraceEvent[]) {
    if (typeof event !== 'object' || event === null) continue;
    const { ph, name, tid, ts, dur } = event;
    if (ph === 'M' && name === 'thread_name' && typeof tid === 'number') {
      const { name: title } = (event.args ?? {}) as { readonly name?: unknown };
      if (typeof title === 'string') names.set(tid, title.replace(LANE, ''));
    }
    if (ph !== 'X' || typeof ts !== 'number' || typeof dur !== 'number') continue;
    if (!Number.isFinite(ts) || !(dur >= 0)) continue;
    const thread = names.get(tid as number) ?? `thread ${String(tid)}`;
    slices.push({ event, ts, dur, thread });
  }
  if (slices.length === 0) throw new Error('it has no slices');
  slices.sort((a, b) => a.ts - b.ts);
  const nowUs = slices.reduce((last, { ts, dur }) => Math.max(last, ts + dur), 0);
  const crossings: number[][] = [];
  const launches: number[][] = [];
  for (const { event, ts, dur, thread } of slices) {
    const args = (event.args ?? {}) as Readonly<Record<string, unknown>>;
    const number = (name: string) => {
      const value = args[name];
      return typeof value === 'number' && Number.isFinite(value) ? value : 0;
    };
    const ago = nowUs - ts;
    if (thread === GPU) {
      launches.push([ago, dur, number('steps'), number('rows'), number('promptTokens')]);
      continue;
    }
    if (!lanes.includes(thread)) lanes.push(thread);
    const direction = args.direction === 'h2d' ? 'h2d' : 'd2h';
    const purpose = String(event.name);
    const key = `${purpose} ${direction}`;
    let account = accountIndex.get(key);
    if (account === undefined) {
      account = accounts.push({ purpose, direction }) - 1;
      accountIndex.set(key, account);
    }
    const lane = lanes.indexOf(thread);
    const blocked = number('issuerBlockedUs');
    const count = number('crossings') || 1;
    crossings.push([lane, account, ago, dur, number('tollUs'), blocked, number('bytes'), count]);
  }
  const moment: Moment = {
    seq: 1,
    now_us: nowUs,
    server_us: nowUs,
    lanes,
    crossings,
    launches,
    dropped: 0,
  };
  return { device: 'trace', accounts, moments: [moment] };
}

/**
 * What of a recording lies within a stretch of time, as Chrome's trace events, which Perfetto
 * (ui.perfetto.dev) opens: as the server writes what is live. Microseconds.
 */
export function traceOf(recording: Recording, fromUs: number, toUs: number): string {
  const events: object[] = [];
  const named = (name: string, text: string, tid: number) => {
    events.push({ ph: 'M', name, pid: 1, tid, args: { name: text } });
  };
  const row = (slices: Slices, tid: number, about: (index: number) => [string, object]) => {
    for (let index = slices.firstEndingAfter(fromUs); index < slices.length; index++) {
      const ts = slices.startUs(index);
      if (ts >= toUs) break;
      const [name, args] = about(index);
      const dur = slices.endUs(index) - ts;
      events.push({ ph: 'X', name, cat: 'bridge', pid: 1, tid, ts, dur, args });
    }
  };
  named('process_name', 'bridgekeeper', GPU_THREAD);
  named('thread_name', GPU, GPU_THREAD);
  row(recording.launches, GPU_THREAD, (index) => {
    const { count: steps, rows, promptTokens } = recording.launches.at(index);
    return [promptTokens > 0 ? 'prompts' : 'decode', { steps, rows, promptTokens }];
  });
  for (const [lane, { name, slices }] of recording.lanes.entries()) {
    const tid = GPU_THREAD + 1 + lane;
    named('thread_name', `lane ${name}`, tid);
    row(slices, tid, (index) => {
      const { account, bytes, tollUs, blockedUs: issuerBlockedUs, count } = slices.at(index);
      const { purpose, direction } = recording.accounts[account]!;
      return [purpose, { direction, bytes, tollUs, issuerBlockedUs, crossings: count }];
    });
  }
  return JSON.stringify({ displayTimeUnit: 'ms', traceEvents: events });
}
