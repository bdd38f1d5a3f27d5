/** The thread of a lane: makes the copies it is ordered to make, one after the other. */

import { parentPort, workerData } from 'node:worker_threads';
import { SystemClock } from '../clock/system-clock.ts';
import { DeviceError } from '../errors.ts';
import { Channels } from '../law/channels.ts';
import { ImposedLaw } from '../law/imposed-law.ts';
import { Crosser } from './crosser.ts';
import type { CopyAnswer, CopyOrder, LaneMessage, LaneWorkerData } from './messages.ts';
import { SharedControl } from './shared-control.ts';

const start = workerData as LaneWorkerData;
const control = new SharedControl(start.control);
const clock = new SystemClock(start.clockOrigin);
const imposed = ImposedLaw.onThread(start, clock, () => control.assertAlive());
const crosser = new Crosser(start, control, new Channels(start.channels), imposed, clock);

function answer(order: CopyOrder): CopyAnswer {
  const { number } = order;
  try {
    return { number, record: crosser.cross(order) };
  } catch (error) {
    const code = error instanceof DeviceError ? error.code : 'launch-failed';
    return { number, code, message: String(error instanceof Error ? error.message : error) };
  }
}

parentPort?.on('message', (message: LaneMessage) => {
  if (message === 'close') parentPort?.close();
  else parentPort?.postMessage(answer(message));
});
