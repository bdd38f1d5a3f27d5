/** The thread of a lane: makes the copies it is ordered to make, one after the other. */

import { parentPort, workerData } from 'node:worker_threads';
import { profileLaw } from '@bridgekeeper/bridge';
import { SystemClock } from '../clock/system-clock.ts';
import { DeviceError } from '../errors.ts';
import { Channel } from './channel.ts';
import { Crosser } from './crosser.ts';
import type { CopyAnswer, CopyOrder, LaneMessage, LaneWorkerData } from './messages.ts';
import { SharedControl } from './shared-control.ts';

const { id, slot, control, channel, profile, clockOrigin } = workerData as LaneWorkerData;
const crosser = new Crosser(
  { id, slot },
  new SharedControl(control),
  new Channel(channel),
  profile && profileLaw(profile),
  new SystemClock(clockOrigin),
);

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
