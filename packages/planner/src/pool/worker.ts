import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { PlanError } from '../errors.ts';
import { simulate } from '../simulate/simulate.ts';
import type { Answer, Order } from './messages.ts';

const answer = (message: Answer) => parentPort!.postMessage(message);

if ((workerData as { readonly isBackground: boolean }).isBackground) stepBack();

parentPort!.on('message', ({ index, scenario }: Order) => {
  simulate(scenario).then(
    (prediction) => answer({ index, prediction }),
    (error: unknown) => {
      const code = error instanceof PlanError ? error.code : undefined;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      const message = error instanceof PlanError ? error.message : text;
      answer({ index, code, message });
    },
  );
});

/** By the scheduler's weights a thirtieth of what another thread gets where both want all. */
const NICENESS = 15;

/** Less priority for this thread alone, which Linux has; elsewhere it keeps its own. */
function stepBack(): void {
  try {
    const thread = readlinkSync('/proc/thread-self').split('/').at(-1);
    setPriority(Number(thread), NICENESS);
  } catch {
    // There is no such folder, or no such right.
  }
}
