import { AnswerReader, startOf } from '../formats/answer-reader.ts';
import { newCallId } from './call-id.ts';
import type { ServerContext } from './context.ts';
import { continuedContent } from './conversation.ts';
import type { ChatCompletionRequest } from './schema/chat.ts';
import type { ToolUse } from './tool-use.ts';

/** Makes what reads an answer to this prompt, for each choice; undefined: answers are text. */
export function readerFor(
  { text: { format } }: Pick<ServerContext, 'text'>,
  request: ChatCompletionRequest,
  promptText: string,
  toolUse: ToolUse | undefined,
): (() => AnswerReader) | undefined {
  if (format === undefined) return undefined;
  const ids = format.format.kind === 'tags' ? format.format.tools?.callIds : undefined;
  const options = {
    tools: toolUse && new Map(toolUse.tools.map(({ name, parameters }) => [name, parameters])),
    start: startOf(format.format, promptText, continuedContent(request)),
    keepsCalls: request.stream !== true,
    newCallId: () => newCallId(ids),
  };
  return () => new AnswerReader(format.format, format.marks, options);
}
