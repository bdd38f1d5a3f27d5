/** Time as a client needs it; tests bring their own. */
export interface ClientClock {
  /** Milliseconds since 1970: what validity is judged at. */
  unixMs(): number;
  /** Never goes back: how old a report is. */
  monotonicMs(): number;
  /** Calls `action` once unless the returned function is called before; keeps no process alive. */
  after(ms: number, action: () => void): () => void;
}

/** The clock of this machine. */
export const SYSTEM_CLOCK: ClientClock = {
  unixMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (ms, action) => {
    const timer = setTimeout(action, ms);
    // A number in browsers.
    (timer as Partial<NodeJS.Timeout>).unref?.();
    return () => clearTimeout(timer);
  },
};
