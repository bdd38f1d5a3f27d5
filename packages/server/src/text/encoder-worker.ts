import { parentPort, workerData } from 'node:worker_threads';
import type { ModelFiles } from '@bridgekeeper/engine/models';
import { openTokenizer, TextError } from '@bridgekeeper/engine/text';

/** Text to encode, or tokens to decode. */
export type EncoderWork =
  | { readonly text: string; readonly addSpecialTokens: boolean }
  | { readonly tokens: Uint32Array };

export interface EncoderTask {
  readonly id: number;
  readonly work: EncoderWork;
}

export type EncoderReply =
  | { readonly id: number; readonly result: Uint32Array | string; readonly error?: undefined }
  | { readonly id: number; readonly result?: undefined; readonly error: string };

const tokenizer = await openTokenizer(workerData as ModelFiles);

function perform({ id, work }: EncoderTask): EncoderReply {
  try {
    const result =
      'text' in work
        ? tokenizer.encode(work.text, work.addSpecialTokens)
        : tokenizer.decode(work.tokens, false);
    return { id, result };
  } catch (error) {
    if (error instanceof TextError) return { id, error: error.message };
    throw error;
  }
}

parentPort!.on('message', (task: EncoderTask) => parentPort!.postMessage(perform(task)));
