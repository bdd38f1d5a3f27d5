import { parentPort } from 'node:worker_threads';
import type { LoadQuestion, Predicted } from '@bridgekeeper/control';
import { PlanError } from '@bridgekeeper/planner';
import { predictLoad } from './predict-load.ts';

/** What a load came to, or why it cannot be. */
export type PredictAnswer =
  | { readonly predicted: Predicted }
  | { readonly code: 'bad-request' | 'does-not-fit' | null; readonly message: string };

const port = parentPort!;

port.on('message', async (question: LoadQuestion) => {
  port.postMessage(await answerTo(question));
});

async function answerTo(question: LoadQuestion): Promise<PredictAnswer> {
  try {
    return { predicted: await predictLoad(question) };
  } catch (error) {
    const { message } = error as Error;
    if (!(error instanceof PlanError)) return { code: null, message };
    return { code: error.code === 'does-not-fit' ? 'does-not-fit' : 'bad-request', message };
  }
}
