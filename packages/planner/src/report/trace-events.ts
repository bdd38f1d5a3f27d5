import type { Prediction } from '../simulate/prediction.ts';

/**
 * The windows of predictions as Chrome's trace events, which Perfetto (ui.perfetto.dev) opens: a
 * process for each engine and law, a thread for each lane. Times are microseconds of virtual time.
 */
export function traceEvents(predictions: readonly Prediction[]): string {
  const events = predictions.flatMap(({ engine, law, timeline }, process) => {
    const pid = process + 1;
    const lanes = [...new Set(timeline.map(({ lane }) => lane))];
    const named = (name: string, text: string, tid?: number) => {
      return { ph: 'M', name, pid, ...(tid === undefined ? {} : { tid }), args: { name: text } };
    };
    return [
      named('process_name', `${engine}, ${law}`),
      ...lanes.map((lane, index) => named('thread_name', lane, index + 1)),
      ...timeline.map(({ lane, name, startNs, endNs }) => ({
        ph: 'X',
        name,
        cat: 'plan',
        pid,
        tid: lanes.indexOf(lane) + 1,
        ts: startNs / 1000,
        dur: (endNs - startNs) / 1000,
      })),
    ];
  });
  return JSON.stringify({ displayTimeUnit: 'ms', traceEvents: events });
}
