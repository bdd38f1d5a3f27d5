/** The thread of a lane: makes the copies it is ordered to make, one after the other. */

import { parentPort } from 'node:worker_threads';
import { SystemClock } from '../clock/system-clock.ts';
import { DeviceError } from '../errors.ts';
import { Channels } from '../law/channels.ts';
import { ImposedLaw } from '../law/imposed-law.ts';
import { Crosser } from './crosser.ts';
import type { CopyAnswer, CopyOrder, LaneMessage, LaneTask } from './messages.ts';
import { SharedControl } from './shared-control.ts';
import { becomeIdle } from './threads.ts';

function serve(task: LaneTask): void {
  const { port } = task;
  const control = new SharedControl(task.control);
  const clock = new SystemClock(task.clockOrigin);
  const imposed = ImposedLaw.onThread(task, clock, () => control.assertAlive());
  const crosser = new Crosser(task, control, new Channels(task.channels), imposed, clock);
  const answer = (order: CopyOrder): CopyAnswer => {
    const { number } = order;
    try {
      return { number, record: crosser.cross(order) };
    } catch (error) {
      const code = error instanceof DeviceError ? error.code : 'launch-failed';
      return { number, code, message: String(error instanceof Error ? error.message : error) };
    }
  };
  port.on('message', (message: LaneMessage) => {
    if (message !== 'close') {
      port.postMessage(answer(message));
      return;
    }
    port.close();
    becomeIdle();
  });
}

parentPort?.on('message', serve);
