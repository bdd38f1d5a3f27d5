import { ApiError } from '../http/errors.ts';
import { tokenBounds } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import { type AnswerFormat, answer, checkStreamOptions } from '../openai/answer.ts';
import { textGrammar } from '../openai/answer-grammar.ts';
import type { AnswerDetail } from '../openai/answer-head.ts';
import { checkCounts } from '../openai/body-counts.ts';
import { CompletionChunks, completion } from '../openai/completion-format.ts';
import type { ServerContext } from '../openai/context.ts';
import { withExactSeed } from '../openai/exact-body.ts';
import { FieldCheck } from '../openai/field-check.ts';
import {
  checkChoices,
  detailOf,
  encode,
  modelFor,
  type OutputOptions,
  type Prompt,
  prepareGeneration,
  truncated,
} from '../openai/requests.ts';
import { Completion, CompletionRequest } from '../openai/schema/completions.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

/** OpenAI's default where a request does not say. */
const DEFAULT_MAX_TOKENS = 16;

async function promptsOf(ctx: ServerContext, request: CompletionRequest): Promise<Prompt[]> {
  const { prompt } = request;
  const single = typeof prompt === 'string' || typeof prompt[0] === 'number' || prompt.length === 0;
  const several = (single ? [prompt] : prompt) as readonly (string | readonly number[])[];
  if (several.length > ctx.limits.maxChoices) {
    const message = `prompt must have at most ${ctx.limits.maxChoices} entries.`;
    throw new ApiError('invalid_value', message, 'prompt');
  }
  checkChoices(ctx, several.length, request.n);
  return Promise.all(several.map((each) => promptOf(ctx, request, each)));
}

async function promptOf(
  ctx: ServerContext,
  request: CompletionRequest,
  prompt: string | readonly number[],
): Promise<Prompt> {
  const whole =
    typeof prompt === 'string'
      ? await encode(ctx, prompt, request.add_special_tokens ?? true, 'prompt')
      : Uint32Array.from(prompt);
  const tokens = truncated(ctx, request, whole, request.max_tokens ?? DEFAULT_MAX_TOKENS);
  if (!request.echo) return { tokens, echoText: '' };
  const isText = typeof prompt === 'string' && tokens.length === whole.length;
  return { tokens, echoText: isText ? prompt : decodePrompt(ctx, tokens) };
}

function decodePrompt(ctx: ServerContext, tokens: Uint32Array): string {
  const { vocabularySize } = ctx.engine.card;
  if (tokens.some((token) => token >= vocabularySize)) {
    const message = `prompt must hold token ids from 0 to ${vocabularySize - 1}.`;
    throw new ApiError('invalid_value', message, 'prompt');
  }
  // What does not fit the context is refused soon, without this work.
  if (tokens.length > ctx.engine.card.maxModelTokens) return '';
  // A character that the prompt only begins is shown when what follows completes it.
  return ctx.text.tokenizer.detokenizer({ skipSpecialTokens: false }).push(tokens);
}

function outputOptionsOf(request: CompletionRequest): OutputOptions {
  const maxTokens = request.max_tokens ?? DEFAULT_MAX_TOKENS;
  if (maxTokens === 0 && !request.echo) {
    throw new ApiError(
      'invalid_value',
      'max_tokens must be at least 1 without echo.',
      'max_tokens',
    );
  }
  const logprobs = request.logprobs ?? undefined;
  return {
    // The engine computes prompt logprobs on the way to a first token, which `max_tokens` 0 then
    // hides.
    maxTokens: Math.max(1, maxTokens),
    logprobs,
    promptLogprobs: request.prompt_logprobs ?? (request.echo ? logprobs : undefined),
    echoLogprobs: request.echo === true && logprobs !== undefined,
    hideOutput: maxTokens === 0,
  };
}

function formatFor(ctx: ServerContext, detail: AnswerDetail): AnswerFormat {
  const { text } = ctx;
  return {
    idFor: (requestId) => `cmpl-${requestId}`,
    chunks: (head, usage) => new CompletionChunks(head, text, usage, detail),
    document: (head, choices, usage) => completion(head, choices, usage, text, detail),
  };
}

/** POST /v1/completions */
export function completionsEndpoint(ctx: ServerContext): Endpoint {
  const fields = new FieldCheck(ctx.once, Object.keys(CompletionRequest.shape), true);
  const bounds = tokenBounds(ctx.engine.card.maxModelTokens);
  return {
    route: {
      method: 'post',
      path: '/v1/completions',
      summary: 'Continues text',
      request: { body: { content: jsonContent(CompletionRequest), required: true } },
      responses: {
        200: {
          description: 'The continuation, or with stream: true its chunks, ended by data: [DONE]',
          content: {
            ...jsonContent(Completion),
            'text/event-stream': { schema: Completion },
          },
        },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle: async (c) => {
      const { received, value } = await ctx.bodies.read(c, bounds);
      checkCounts(value);
      fields.check(c, value);
      const request = validate(CompletionRequest, withExactSeed(value, received));
      checkStreamOptions(request);
      const model = modelFor(ctx, request.model);
      const options = outputOptionsOf(request);
      const prompts = await promptsOf(ctx, request);
      const output = { ...options, held: await textGrammar(c, ctx, request, received) };
      const prepared = prepareGeneration(c, ctx, request, prompts, output);
      const parsed = { received, fields: request, model };
      return answer(c, ctx, parsed, prepared, formatFor(ctx, detailOf(request, output)));
    },
  };
}
