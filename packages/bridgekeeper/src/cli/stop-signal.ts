import type { CliIo } from '../io.ts';

/** A signal that comes this much later is no echo of the first, but impatience. */
const REPEATED_SIGNAL_NS = 1e9;

/** Aborts with the process's first signal; a later one ends the process. */
export function stopSignal(io: CliIo): AbortSignal {
  const stop = new AbortController();
  let firstNs: number | undefined;
  io.onSignal(() => {
    const nowNs = io.nowNs();
    firstNs ??= nowNs;
    if (nowNs - firstNs > REPEATED_SIGNAL_NS) io.exit(1);
    stop.abort();
  });
  return stop.signal;
}
