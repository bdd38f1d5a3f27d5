import type { Account, Moment, Snapshot } from './recording.ts';

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
