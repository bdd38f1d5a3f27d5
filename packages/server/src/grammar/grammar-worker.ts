import { parentPort } from 'node:worker_threads';
import { compileGrammar, GrammarError } from '@bridgekeeper/engine/grammar';
import { taskGrammar } from './content.ts';
import type { WorkerReply, WorkerTask } from './task.ts';

function perform({ id, task }: WorkerTask): WorkerReply {
  try {
    const compiled = compileGrammar(taskGrammar(task));
    const words = new Uint32Array(new SharedArrayBuffer(compiled.byteLength));
    words.set(compiled);
    return { id, words };
  } catch (error) {
    if (error instanceof GrammarError) return { id, code: error.code, message: error.message };
    throw error;
  }
}

parentPort!.on('message', (task: WorkerTask) => parentPort!.postMessage(perform(task)));
