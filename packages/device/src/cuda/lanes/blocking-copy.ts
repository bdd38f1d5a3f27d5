import type { Clock } from '@bridgekeeper/bridge';
import type { Driver } from '@bridgekeeper/native';
import type { ImposedLaw } from '../../law/imposed-law.ts';
import { type Copy, type CopyCounters, type CopyTimes, issueCopy } from '../copies/copy.ts';

export interface CopyThread {
  readonly driver: Driver;
  readonly counters: CopyCounters;
  readonly clock: Pick<Clock, 'nowNs'>;
  /** null: crossings cost what they cost. */
  readonly imposed: ImposedLaw | null;
}

/**
 * Makes one copy and blocks this thread for it: waits for the work before it, which `ready` marks
 * (null: there is none), copies on `stream`, and stays until the bytes have arrived and the imposed
 * law, if there is one, says so too.
 */
export function blockingCopy(
  thread: CopyThread,
  copy: Copy,
  ready: bigint | null,
  stream: bigint,
): CopyTimes {
  const { driver, clock, imposed } = thread;
  const issuedNs = clock.nowNs();
  let streamReadyNs = issuedNs;
  if (ready !== null && !driver.isEventDone(ready)) {
    driver.call('cuEventSynchronize', ready);
    streamReadyNs = clock.nowNs();
  }
  const { crossing, hostIsFresh } = copy;
  const schedule = imposed?.schedule(crossing, issuedNs, streamReadyNs, hostIsFresh);
  issueCopy(driver, thread.counters, copy, stream);
  driver.call('cuStreamSynchronize', stream);
  if (schedule !== undefined) imposed?.blockUntil(schedule.completedNs);
  const completedNs = clock.nowNs();
  const startedNs = schedule?.startedNs ?? streamReadyNs;
  return { issuedNs, startedNs, completedNs, issuerBlockedNs: completedNs - issuedNs };
}
