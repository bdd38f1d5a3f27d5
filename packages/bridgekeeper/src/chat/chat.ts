import type { CliIo, Dialogue } from '../io.ts';
import { type AnswerEnd, type ChatTarget, type Message, streamAnswer } from './client.ts';
import { ChatError } from './errors.ts';

/** Everything but line ends and tabs: a terminal would obey them. */
const CONTROLS = /(?![\n\t])\p{Cc}/gu;

type Terminal = Dialogue & Pick<CliIo, 'err'>;

/**
 * Talks until the input ends or says `/exit`; `/new` forgets what was said. An answer that fails
 * leaves the conversation as it was before its question.
 */
export async function converse(
  target: ChatTarget,
  system: readonly Message[],
  io: Terminal,
): Promise<void> {
  let messages = system;
  for await (const line of io.lines('> ')) {
    const content = line.trim();
    if (content === '/exit') return;
    if (content === '/new') messages = system;
    if (content === '' || content === '/new') continue;
    const asked: readonly Message[] = [...messages, { role: 'user', content }];
    try {
      const { text } = await show(target, asked, io);
      messages = [...asked, { role: 'assistant', content: text }];
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      io.write('\n');
      io.err(error.message);
    }
  }
}

/** Writes an answer as it comes. Throws ChatError. */
export async function show(
  target: ChatTarget,
  messages: readonly Message[],
  io: Pick<Dialogue, 'write'>,
): Promise<{ readonly text: string; readonly end: AnswerEnd }> {
  const answer = await gather(target, messages, (piece) => io.write(piece.replace(CONTROLS, '')));
  io.write('\n');
  return answer;
}

/** The whole of an answer. Throws ChatError. */
export async function gather(
  target: ChatTarget,
  messages: readonly Message[],
  onPiece: (piece: string) => void = () => {},
): Promise<{ readonly text: string; readonly end: AnswerEnd }> {
  const pieces = streamAnswer(target, messages);
  let text = '';
  for (;;) {
    const { done, value } = await pieces.next();
    if (done) return { text, end: value };
    text += value;
    onPiece(value);
  }
}
