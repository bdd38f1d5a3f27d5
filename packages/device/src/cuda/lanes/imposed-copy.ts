import type { Law } from '@bridgekeeper/bridge';
import type { Driver } from '@bridgekeeper/native';
import { blockThreadUntil, type Channels } from '../channels.ts';
import { type Copy, type CopyCounters, type CopyTimes, issueCopy } from './copy.ts';

/** A law and where it is imposed. */
export interface ImposedLaw {
  readonly law: Law;
  readonly channels: Channels;
  readonly channel: number;
}

export interface CopyThread {
  readonly driver: Driver;
  readonly counters: CopyCounters;
  readonly nowNs: () => number;
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
  const { driver, nowNs, imposed } = thread;
  const issuedNs = nowNs();
  let streamReadyNs = issuedNs;
  if (ready !== null && !driver.isEventDone(ready)) {
    driver.call('cuEventSynchronize', ready);
    streamReadyNs = nowNs();
  }
  const issue = { issuedNs, streamReadyNs, hostIsFresh: copy.hostIsFresh };
  const schedule = imposed?.channels.schedule(imposed.channel, imposed.law, copy.crossing, issue);
  issueCopy(driver, thread.counters, copy, stream);
  driver.call('cuStreamSynchronize', stream);
  if (schedule !== undefined) blockThreadUntil(nowNs, schedule.completedNs);
  const completedNs = nowNs();
  const startedNs = schedule?.startedNs ?? streamReadyNs;
  return { issuedNs, startedNs, completedNs, issuerBlockedNs: completedNs - issuedNs };
}
