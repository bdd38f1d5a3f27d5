import { ACCOUNTS } from '@bridgekeeper/bridge';
import type { LiveMoment } from './feed.ts';

/**
 * What the engine did as Chrome's trace events, which Perfetto (ui.perfetto.dev) opens: a thread
 * for the GPU, one for each lane, one for what the launching thread waited for. Microseconds.
 */
export function traceEventsOf(moments: readonly LiveMoment[]): string {
  const lanes = moments.at(-1)?.lanes ?? [];
  const named = (name: string, text: string, tid: number) => {
    return { ph: 'M', name, pid: 1, tid, args: { name: text } };
  };
  const slice = (name: string, tid: number, ts: number, dur: number, args: object) => {
    return { ph: 'X', name, cat: 'bridge', pid: 1, tid, ts, dur, args };
  };
  const events = moments.flatMap(({ now_us: now, crossings, launches }) => [
    ...launches.map(([ago, dur, steps, rows, promptTokens]) => {
      const name = promptTokens > 0 ? 'prompts' : 'decode';
      return slice(name, GPU, now - ago, dur, { steps, rows, promptTokens });
    }),
    ...crossings.map(([lane, account, ago, dur, toll, blocked, bytes, count]) => {
      const { purpose, direction } = ACCOUNTS[account]!;
      const args = { direction, bytes, tollUs: toll, issuerBlockedUs: blocked, crossings: count };
      return slice(purpose, FIRST_LANE + lane, now - ago, dur, args);
    }),
  ]);
  const names = [
    named('process_name', 'bridgekeeper', GPU),
    named('thread_name', 'GPU', GPU),
    ...lanes.map((lane, index) => named('thread_name', `lane ${lane}`, FIRST_LANE + index)),
  ];
  return JSON.stringify({ displayTimeUnit: 'ms', traceEvents: [...names, ...events] });
}

const GPU = 1;
const FIRST_LANE = 2;
