import { checkRequest, type GenerationRequest, type Pooling } from '@bridgekeeper/engine';
import type { AnswerReader } from '../formats/answer-reader.ts';
import { saltedTenant } from '../http/auth.ts';
import { ApiError } from '../http/errors.ts';
import { requestIdFrom } from '../http/request-id.ts';
import type { AnswerGrammar } from './answer-grammar.ts';
import type { AnswerDetail } from './answer-head.ts';
import type { ChoiceOptions } from './choice.ts';
import type { AppContext, ServerContext } from './context.ts';
import type { PreparedGeneration } from './generation.ts';
import {
  bannedTokens,
  type GenerationFields,
  type SamplingChoices,
  samplingOf,
} from './sampling.ts';

export interface Prompt {
  readonly tokens: Uint32Array;
  /** Shown before the answer; empty unless `echo` asks for it. */
  readonly echoText: string;
  /** Absent: it is continued. */
  readonly pooling?: Pooling;
}

/** What an endpoint's own fields ask of the output, in the engine's terms. */
export interface OutputOptions {
  readonly maxTokens: number | undefined;
  readonly logprobs: number | undefined;
  readonly promptLogprobs: number | undefined;
  readonly hideOutput: boolean;
  readonly echoLogprobs: boolean;
  /** Tells reasoning and calls from text; absent: all of it is content. */
  readonly newReader?: (() => AnswerReader) | undefined;
  /** The answer ends when so many calls are whole. */
  readonly maxCalls?: number | undefined;
  /** What the answer is held to. */
  readonly held?: AnswerGrammar | undefined;
}

/** What an answer carries beside its text. */
export function detailOf(fields: GenerationFields, output: OutputOptions): AnswerDetail {
  return {
    logprobs: output.logprobs !== undefined,
    namesIds: fields.return_tokens_as_token_ids ?? false,
    tokenIds: fields.return_token_ids ?? false,
    promptLogprobs: fields.prompt_logprobs != null,
  };
}

/**
 * The last tokens of a prompt, as many as `truncate_prompt_tokens` says: what it leaves of a text's
 * special tokens is left. -1 keeps what fits before `maxTokens` tokens of output.
 */
export function truncated(
  { engine }: Pick<ServerContext, 'engine'>,
  { truncate_prompt_tokens: wanted }: GenerationFields,
  tokens: Uint32Array,
  maxTokens: number | undefined,
): Uint32Array {
  if (wanted == null) return tokens;
  const room = Math.max(1, engine.card.maxModelTokens - Math.max(1, maxTokens ?? 1));
  return tokens.slice(-(wanted === -1 ? room : wanted));
}

let submitted = 0;

/** A request is held against its own bounds here; against what is in flight by the engine. */
const NONE_OPEN: ReadonlyMap<string, unknown> = new Map();

/** The served name of the model a request means. Throws ApiError `model_not_found`. */
export function modelFor(ctx: ServerContext, name: string | null | undefined): string {
  if (name == null || name === '') return ctx.modelNames[0]!;
  if (ctx.modelNames.includes(name)) return name;
  const shown = JSON.stringify(name.slice(0, 200));
  throw new ApiError('model_not_found', `The model ${shown} does not exist here.`, 'model');
}

/** Throws ApiError where that makes too many choices. Cheap: also called before any encoding. */
export function checkChoices(
  { limits: { maxChoices } }: ServerContext,
  prompts: number,
  n: number | null | undefined,
): void {
  if (prompts * (n ?? 1) <= maxChoices) return;
  const message = `n times the number of prompts must be at most ${maxChoices}.`;
  throw new ApiError('invalid_value', message, 'n');
}

/**
 * Turns prompts and parameters into the engine's requests: `n` choices for each prompt. Throws
 * ApiError.
 */
export function prepareGeneration(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  prompts: readonly Prompt[],
  output: OutputOptions,
): PreparedGeneration {
  const n = fields.n ?? 1;
  if (prompts[0]?.pooling === undefined) checkChoices(ctx, prompts.length, n);
  const bannedTokenIds = bannedTokens(fields.bad_words ?? [], ctx.text);
  const fromHeader = c.req.header('x-request-id') !== undefined;
  return {
    requestId: fromHeader ? c.get('requestId') : requestIdFrom(fields.request_id),
    arrivedNs: c.get('arrivedNs'),
    choicesPerPrompt: n,
    requests: prompts.flatMap((prompt) => {
      const requestFor = (choice: number) =>
        requestOf(c, ctx, fields, prompt, output, { choice, bannedTokenIds });
      const first = requestFor(0);
      checkRequest(first, ctx.engine.card, NONE_OPEN);
      const options = optionsOf(fields, prompt, output);
      return Array.from({ length: n }, (_, choice) => ({
        request: choice === 0 ? first : requestFor(choice),
        options,
      }));
    }),
  };
}

function requestOf(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  prompt: Prompt,
  output: OutputOptions,
  chosen: Pick<SamplingChoices, 'choice' | 'bannedTokenIds'>,
): GenerationRequest {
  const room = ctx.engine.card.maxModelTokens - prompt.tokens.length;
  const { maxTokens, logprobs, promptLogprobs, held = {} } = output;
  const { grammar, thinkingBudget } = held;
  submitted += 1;
  return {
    id: `r${submitted}`,
    tenant: saltedTenant(c.get('tenant'), fields.cache_salt),
    share: ctx.quotas.shareOf(c.get('tenant')),
    promptTokens: prompt.tokens,
    ...(prompt.pooling === undefined ? {} : { pooling: prompt.pooling }),
    sampling: samplingOf(
      fields,
      { maxTokens, logprobs, promptLogprobs, room, ...chosen },
      ctx.text,
    ),
    ...(grammar === undefined ? {} : { grammar }),
    ...(thinkingBudget === undefined ? {} : { thinkingBudget }),
  };
}

function optionsOf(fields: GenerationFields, prompt: Prompt, output: OutputOptions): ChoiceOptions {
  const stops = typeof fields.stop === 'string' ? [fields.stop] : (fields.stop ?? []);
  return {
    stop: stops.filter((stop) => stop !== ''),
    includeStop: fields.include_stop_str_in_output ?? false,
    skipSpecialTokens: fields.skip_special_tokens ?? true,
    echoText: prompt.echoText,
    echoLogprobs: output.echoLogprobs,
    hideOutput: output.hideOutput,
    tokenIds: fields.return_token_ids ?? false,
    newReader: output.newReader,
    maxCalls: output.maxCalls,
  };
}

/**
 * Encodes text. Throws ApiError where it cannot fit the context, before any work where that is
 * plain.
 */
export async function encode(
  ctx: ServerContext,
  text: string,
  addSpecialTokens: boolean,
  param: string,
): Promise<Uint32Array> {
  const { maxModelTokens } = ctx.engine.card;
  const atLeast = Math.ceil(Buffer.byteLength(text) / ctx.text.tokenizer.maxTokenBytes);
  if (atLeast > maxModelTokens) {
    throw new ApiError(
      'context_length_exceeded',
      `This model's maximum context length is ${maxModelTokens} tokens. However, your request ` +
        `has at least ${atLeast} input tokens. Please reduce the length of the input.`,
      param,
    );
  }
  return ctx.text.encoder.encode(text, addSpecialTokens);
}
