import type { Clock } from '@bridgekeeper/bridge';

/**
 * Time as the server's edge needs it: injected everywhere else, so that tests decide what time it
 * is.
 */
export interface ServerClock extends Clock {
  /** Seconds since 1970, whole: `created` in the API. */
  unixSeconds(): number;
  /**
   * Calls `action` every `seconds` until the returned function is called; keeps no process alive.
   */
  every(seconds: number, action: () => void): () => void;
  /** Calls `action` once, `seconds` from now, unless the returned function is called before. */
  after(seconds: number, action: () => void): () => void;
}

/** The host's clock. */
export const HOST_CLOCK: ServerClock = {
  nowNs: () => Math.round(performance.now() * 1e6),
  sleepUntilNs: (wakeNs) => {
    const waitMs = Math.max(0, wakeNs / 1e6 - performance.now());
    return new Promise((resolve) => setTimeout(resolve, waitMs));
  },
  unixSeconds: () => Math.floor(Date.now() / 1000),
  every: (seconds, action) => {
    const timer = setInterval(action, seconds * 1000);
    timer.unref();
    return () => clearInterval(timer);
  },
  after: (seconds, action) => {
    const timer = setTimeout(action, seconds * 1000);
    return () => clearTimeout(timer);
  },
};

/** Milliseconds since 1970, by the host's clock. */
export const unixMs = (): number => Date.now();
