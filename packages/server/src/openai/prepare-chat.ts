import type { Dict } from '@bridgekeeper/engine/text';
import { ApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import { chatGrammar } from './answer-grammar.ts';
import type { AnswerDetail } from './answer-head.ts';
import { checkCounts } from './body-counts.ts';
import type { AppContext, ServerContext } from './context.ts';
import { echoedMessage, renderConversation } from './conversation.ts';
import { plainValue } from './exact-values.ts';
import { refuseFields } from './fields.ts';
import type { PreparedGeneration } from './generation.ts';
import { readerFor } from './reader.ts';
import { detailOf, encode, prepareGeneration, truncated } from './requests.ts';
import { ChatCompletionRequest } from './schema/chat.ts';
import { toolUseOf } from './tool-use.ts';

/** A conversation, from whichever API, on its way to an answer. */
export interface PreparedChat {
  readonly prepared: PreparedGeneration;
  readonly detail: AnswerDetail;
}

const OWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(ChatCompletionRequest.shape));

/** The chat that a request of another API was made into, checked as one. Throws ApiError. */
export function readChat(body: Dict): ChatCompletionRequest {
  const plain = plainValue(body);
  checkCounts(plain);
  refuseFields(plain as Readonly<Record<string, unknown>>, OWN_FIELDS, new Map());
  return validate(ChatCompletionRequest, plain);
}

/** The text of a conversation's prompt, and its tokens. */
export interface ChatPrompt {
  readonly text: string;
  readonly tokens: Uint32Array;
}

/** `request` is what was validated of `body`. Throws ApiError and TextError. */
export async function promptOf(
  ctx: ServerContext,
  request: ChatCompletionRequest,
  body: Dict,
): Promise<ChatPrompt> {
  const text = renderConversation(ctx.text, request, body);
  const tokens = await encode(ctx, text, request.add_special_tokens ?? false, 'messages');
  return { text, tokens };
}

/**
 * Turns a conversation into the engine's requests. `request` is what was validated of `body`;
 * `render` makes its prompt, once what needs less work was checked. Throws ApiError and TextError.
 */
export async function prepareChat(
  c: AppContext,
  ctx: ServerContext,
  request: ChatCompletionRequest,
  body: Dict,
  render = promptOf,
): Promise<PreparedChat> {
  const logprobs = logprobsWanted(request);
  const toolUse = toolUseOf(ctx, request);
  const prompt = await render(ctx, request, body);
  const maxTokens = request.max_completion_tokens ?? request.max_tokens ?? undefined;
  const tokens = truncated(ctx, request, prompt.tokens, maxTokens);
  const echoText = request.echo ? echoedMessage(request) : '';
  const output = {
    maxTokens,
    logprobs,
    promptLogprobs: request.prompt_logprobs ?? undefined,
    echoLogprobs: false,
    hideOutput: false,
    newReader: readerFor(ctx, request, prompt.text, toolUse),
    maxCalls: toolUse?.isParallel === false ? 1 : undefined,
    held: await chatGrammar(c, ctx, request, { body, promptText: prompt.text, toolUse }),
  };
  const hidesReasoning = request.include_reasoning === false;
  const detail = { ...detailOf(request, output), hidesReasoning };
  const prepared = prepareGeneration(c, ctx, request, [{ tokens, echoText }], output);
  return { prepared, detail };
}

function logprobsWanted(request: ChatCompletionRequest): number | undefined {
  if (request.logprobs) return request.top_logprobs ?? 0;
  if (request.top_logprobs != null && request.top_logprobs > 0) {
    throw new ApiError(
      'invalid_value',
      'top_logprobs can only be given with logprobs: true.',
      'top_logprobs',
    );
  }
  return undefined;
}
