/** The thread that the encoder starts: whatever takes long with text is done here. */
import { parentPort, workerData } from 'node:worker_threads';
import { MarkedText, openTokenizer, TextError } from '@bridgekeeper/engine/text';
import { HOST_CLOCK } from './host-clock.ts';
import { performConversation } from './openai/conversation-prompt.ts';
import type { EncoderReply, EncoderTask, EncoderWork, WorkerText } from './text/encoder.ts';

const { files, isLiteral } = workerData as WorkerText;
const now = () => new Date(HOST_CLOCK.unixSeconds() * 1000);
const tokenizer = await openTokenizer(files, { now });

function resultOf(work: EncoderWork): NonNullable<EncoderReply['result']> {
  switch (work.kind) {
    case 'encode':
      return tokenizer.encode(work.text, work.addSpecialTokens);
    case 'encode-marked':
      return tokenizer.encodeMarked(new MarkedText(work.marked), work.addSpecialTokens);
    case 'decode':
      return tokenizer.decode(work.tokens, false);
    case 'conversation':
      return performConversation({ tokenizer, isLiteral }, work);
  }
}

function perform({ id, work }: EncoderTask): EncoderReply {
  try {
    return { id, result: resultOf(work) };
  } catch (error) {
    if (!(error instanceof TextError)) throw error;
    return { id, error: { code: error.code, message: error.message } };
  }
}

parentPort!.on('message', (task: EncoderTask) => parentPort!.postMessage(perform(task)));
