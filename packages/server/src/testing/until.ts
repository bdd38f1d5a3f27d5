import { HOST_CLOCK } from '../host-clock.ts';

/** Far more than anything takes on a busy machine, and less than a test's own time limit. */
const LIMIT_SECONDS = 60;
/** So many turns of the event loop come at once: what is near is there within them. */
const TURNS = 100;
/** Between looks after these: whoever is waited for may be another thread, which wants the core. */
const PAUSE_NS = 2e6;

/**
 * Waits until `condition` holds, a turn of the event loop at a time, and with pauses where it takes
 * longer. Throws, with what it waited for, where that does not come within `limitSeconds`.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitSeconds = LIMIT_SECONDS,
): Promise<void> {
  const endNs = HOST_CLOCK.nowNs() + limitSeconds * 1e9;
  for (let turns = 0; !(await condition()); turns++) {
    const nowNs = HOST_CLOCK.nowNs();
    if (nowNs > endNs) throw new Error(`waited ${limitSeconds} s until ${what}`);
    if (turns < TURNS) await new Promise((resolve) => setImmediate(resolve));
    else await HOST_CLOCK.sleepUntilNs(nowNs + PAUSE_NS);
  }
}
