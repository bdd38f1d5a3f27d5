/** How far a run is. */
export interface ProgressCounts {
  readonly requests: number;
  readonly done: number;
  readonly failed: number;
  readonly chunks: number;
  readonly seconds: number;
}

const BAR_COLUMNS = 24;

/** One line for people: `[######------] 12/48 requests, 1 failed, 3.2 s, 410 chunks/s`. */
export function progressLine(counts: ProgressCounts): string {
  const { requests, done, failed, chunks, seconds } = counts;
  const filled = Math.floor((done / Math.max(1, requests)) * BAR_COLUMNS);
  const bar = '#'.repeat(filled).padEnd(BAR_COLUMNS, '-');
  const failures = failed === 0 ? '' : `, ${failed} failed`;
  const rate = seconds > 0 ? Math.round(chunks / seconds) : 0;
  const time = `${seconds.toFixed(1)} s, ${rate} chunks/s`;
  return `[${bar}] ${done}/${requests} requests${failures}, ${time}`;
}
