import type { Dict } from '@bridgekeeper/engine/text';
import { ApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import { checkCounts } from './body-counts.ts';
import type { AppContext, ServerContext } from './context.ts';
import { echoedMessage, renderConversation } from './conversation.ts';
import { plainValue } from './exact-values.ts';
import { refuseFields } from './fields.ts';
import type { PreparedGeneration } from './generation.ts';
import { encode, type OutputOptions, prepareGeneration, truncated } from './requests.ts';
import { ChatCompletionRequest } from './schema/chat.ts';

/** A conversation, from whichever API, on its way to an answer. */
export interface PreparedChat {
  readonly prepared: PreparedGeneration;
  readonly output: OutputOptions;
}

const OWN_FIELDS: ReadonlySet<string> = new Set(Object.keys(ChatCompletionRequest.shape));

/** The chat that a request of another API was made into, checked as one. Throws ApiError. */
export function readChat(body: Dict): ChatCompletionRequest {
  const plain = plainValue(body);
  checkCounts(plain);
  refuseFields(plain as Readonly<Record<string, unknown>>, OWN_FIELDS, new Map());
  return validate(ChatCompletionRequest, plain);
}

/** The tokens of a conversation's prompt. Throws ApiError and TextError. */
export async function encodeConversation(
  ctx: ServerContext,
  request: ChatCompletionRequest,
  body: Dict,
): Promise<Uint32Array> {
  const promptText = renderConversation(ctx.text, request, body);
  return encode(ctx, promptText, request.add_special_tokens ?? false, 'messages');
}

/**
 * Turns a conversation into the engine's requests. `request` is what was validated of `body`.
 * `prompt`: its tokens, where they are known already. Throws ApiError and TextError.
 */
export async function prepareChat(
  c: AppContext,
  ctx: ServerContext,
  request: ChatCompletionRequest,
  body: Dict,
  prompt?: Uint32Array,
): Promise<PreparedChat> {
  const output = {
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    logprobs: logprobsWanted(request),
    promptLogprobs: request.prompt_logprobs ?? undefined,
    echoLogprobs: false,
    hideOutput: false,
  };
  const encoded = prompt ?? (await encodeConversation(ctx, request, body));
  const tokens = truncated(ctx, request, encoded, output.maxTokens);
  const echoText = request.echo ? echoedMessage(request) : '';
  const prepared = prepareGeneration(c, ctx, request, [{ tokens, echoText }], output);
  return { prepared, output };
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
