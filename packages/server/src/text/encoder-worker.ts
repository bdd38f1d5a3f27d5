import { parentPort, workerData } from 'node:worker_threads';
import type { ModelFiles } from '@bridgekeeper/engine/models';
import { openTokenizer, TextError } from '@bridgekeeper/engine/text';

export interface EncodeTask {
  readonly id: number;
  readonly text: string;
  readonly addSpecialTokens: boolean;
}

export type EncodeReply =
  | { readonly id: number; readonly tokens: Uint32Array; readonly error?: undefined }
  | { readonly id: number; readonly tokens?: undefined; readonly error: string };

const tokenizer = await openTokenizer(workerData as ModelFiles);

function encode({ id, text, addSpecialTokens }: EncodeTask): EncodeReply {
  try {
    return { id, tokens: tokenizer.encode(text, addSpecialTokens) };
  } catch (error) {
    if (error instanceof TextError) return { id, error: error.message };
    throw error;
  }
}

parentPort!.on('message', (task: EncodeTask) => parentPort!.postMessage(encode(task)));
