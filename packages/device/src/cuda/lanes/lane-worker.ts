import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge/threads';
import type { Driver } from '@bridgekeeper/native';
import { SystemClock } from '../../clock/system-clock.ts';
import { DeviceError } from '../../errors.ts';
import { ImposedLaw } from '../../law/imposed-law.ts';
import { CopyCounters } from '../copies/copy.ts';
import { releaseHold } from '../copies/hold.ts';
import { createStream } from '../handles/handles.ts';
import { forbid, openDriver } from '../native.ts';
import { blockingCopy, type CopyThread } from './blocking-copy.ts';
import { LaneProgress } from './lane-phase.ts';
import type { CopyOrder, LaneFailure, LaneReply, LaneRequest, LaneStart } from './lane-protocol.ts';

// A worker lane's thread: it makes the copies it is sent, one at a time, blocking itself for each.

const start = workerData as LaneStart;
const port = parentPort;
invariant(port !== null, 'lane-worker runs as a worker thread');
const reply = (message: LaneReply) => port.postMessage(message);

function openContext(driver: Driver): bigint {
  const { context } = start;
  if (context === null) return driver.read('cuCtxCreate_v2', 0, start.ordinal).pointer;
  driver.call('cuCtxSetCurrent', context);
  return context;
}

const driver = openDriver(start.driverPath);
const context = openContext(driver);
const stream = createStream(driver, 'highest');
const clock = new SystemClock(start.clockOrigin);
const { profile } = start;
if (profile !== null) forbid(driver, profile.forbidden);
const thread: CopyThread = {
  driver,
  counters: new CopyCounters(start.counters),
  clock,
  imposed: ImposedLaw.onThread(start, clock),
  progress: new LaneProgress(start.progress),
};

function make(order: CopyOrder): LaneReply {
  const { number, hold } = order;
  try {
    const times = blockingCopy(thread, order.copy, order.ready, stream);
    return { kind: 'copied', number, times };
  } catch (error) {
    return { kind: 'failed', number, failure: failureOf(error) };
  } finally {
    // Also after a failure: the stream must not stand still for ever.
    if (hold !== null) releaseQuietly(hold);
    thread.progress?.enter('waits for a copy');
  }
}

function releaseQuietly(hold: number): void {
  try {
    releaseHold(driver, start.holdAddress, hold, stream);
  } catch {
    // The context has failed, and every stream of it with it.
  }
}

function failureOf(error: unknown): LaneFailure {
  if (error instanceof DeviceError) return { code: error.code, message: error.message };
  return { code: 'launch-failed', message: String(error) };
}

function close(): void {
  driver.release('cuStreamSynchronize', stream);
  driver.release('cuStreamDestroy_v2', stream);
  if (start.context === null) driver.release('cuCtxDestroy_v2', context);
  port!.close();
}

port.on('message', (request: LaneRequest) => {
  if (request === 'close') close();
  else reply(make(request));
});
reply({ kind: 'open' });
