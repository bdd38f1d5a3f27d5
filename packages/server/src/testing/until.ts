import { HOST_CLOCK } from '../host-clock.ts';

/** Far more than anything takes on a busy machine, and less than a test's own time limit. */
const LIMIT_SECONDS = 60;

/**
 * Waits until `condition` holds, a turn of the event loop at a time. Throws, with what it waited
 * for, where that does not come within `limitSeconds`.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitSeconds = LIMIT_SECONDS,
): Promise<void> {
  const endNs = HOST_CLOCK.nowNs() + limitSeconds * 1e9;
  while (!(await condition())) {
    if (HOST_CLOCK.nowNs() > endNs) throw new Error(`waited ${limitSeconds} s until ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
