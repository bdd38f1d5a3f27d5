import { parentPort } from 'node:worker_threads';
import { PlanError } from '../errors.ts';
import { simulate } from '../simulate/simulate.ts';
import type { Answer, Order } from './messages.ts';

const answer = (message: Answer) => parentPort!.postMessage(message);

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
