import { ApiError } from '../http/errors.ts';
import { CONVERSATION_BOUNDS } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import { type AnswerFormat, answer, checkStreamOptions } from '../openai/answer.ts';
import { chatGrammar } from '../openai/answer-grammar.ts';
import type { AnswerDetail } from '../openai/answer-head.ts';
import { checkCounts } from '../openai/body-counts.ts';
import { ChatChunks, chatCompletion } from '../openai/chat-format.ts';
import type { ServerContext } from '../openai/context.ts';
import { echoedMessage, renderConversation } from '../openai/conversation.ts';
import { withExactSeed } from '../openai/exact-body.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { readerFor } from '../openai/reader.ts';
import { detailOf, encode, modelFor, prepareGeneration, truncated } from '../openai/requests.ts';
import {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
} from '../openai/schema/chat.ts';
import { toolUseOf } from '../openai/tool-use.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

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

function formatFor(ctx: ServerContext, detail: AnswerDetail): AnswerFormat {
  const { text } = ctx;
  return {
    idPrefix: 'chatcmpl',
    chunks: (head, usage) => new ChatChunks(head, text, usage, detail),
    document: (head, choices, usage) => chatCompletion(head, choices, usage, text, detail),
  };
}

/** POST /v1/chat/completions */
export function chatEndpoint(ctx: ServerContext): Endpoint {
  const fields = new FieldCheck(ctx.log, Object.keys(ChatCompletionRequest.shape), true);
  return {
    route: {
      method: 'post',
      path: '/v1/chat/completions',
      summary: 'Answers a conversation',
      request: { body: { content: jsonContent(ChatCompletionRequest), required: true } },
      responses: {
        200: {
          description: 'The answer, or with stream: true its chunks, ended by data: [DONE]',
          content: {
            ...jsonContent(ChatCompletion),
            'text/event-stream': { schema: ChatCompletionChunk },
          },
        },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle: async (c) => {
      const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
      checkCounts(value);
      fields.check(c, value);
      const request = validate(ChatCompletionRequest, withExactSeed(value, received));
      checkStreamOptions(request);
      const model = modelFor(ctx, request.model);
      const logprobs = logprobsWanted(request);
      const toolUse = toolUseOf(ctx, request);
      await ctx.bodies.turnFor(received);
      const promptText = renderConversation(ctx.text, request, received);
      const encoded = await encode(
        ctx,
        promptText,
        request.add_special_tokens ?? false,
        'messages',
      );
      const maxTokens = request.max_completion_tokens ?? request.max_tokens ?? undefined;
      const tokens = truncated(ctx, request, encoded, maxTokens);
      const echoText = request.echo ? echoedMessage(request) : '';
      const output = {
        maxTokens,
        logprobs,
        promptLogprobs: request.prompt_logprobs ?? undefined,
        echoLogprobs: false,
        hideOutput: false,
        newReader: readerFor(ctx, request, promptText, toolUse),
        maxCalls: toolUse?.isParallel === false ? 1 : undefined,
        held: await chatGrammar(c, ctx, request, { received, promptText, toolUse }),
      };
      const hidesReasoning = request.include_reasoning === false;
      const detail = { ...detailOf(request, output), hidesReasoning };
      const prepared = prepareGeneration(c, ctx, request, [{ tokens, echoText }], output);
      const parsed = { received, fields: request, model };
      return answer(c, ctx, parsed, prepared, formatFor(ctx, detail));
    },
  };
}
