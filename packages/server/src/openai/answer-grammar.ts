import type { CompiledGrammar } from '@bridgekeeper/engine';
import { GrammarError } from '@bridgekeeper/engine/grammar';
import type { Dict } from '@bridgekeeper/engine/text';
import type { AnswerRules } from '../formats/answer-grammar.ts';
import { startOf } from '../formats/answer-reader.ts';
import { saltedTenant } from '../http/auth.ts';
import { ApiError } from '../http/errors.ts';
import { type AnswerContent, answerContent } from './answer-content.ts';
import type { AppContext, ServerContext } from './context.ts';
import { continuedContent } from './conversation.ts';
import { exactBody } from './exact-body.ts';
import type { GenerationFields } from './sampling.ts';
import type { ChatCompletionRequest } from './schema/chat.ts';
import type { ToolUse } from './tool-use.ts';

/** What holds an answer to something: tables for the engine, and how long it may think. */
export interface AnswerGrammar {
  readonly grammar?: CompiledGrammar | undefined;
  readonly thinkingBudget?: number | undefined;
}

/** As in vLLM: there is no token that both would admit. */
const MIN_TOKENS_GIVES_WAY =
  'requests have min_tokens and hold answers to a grammar: one that is complete ends all the same';

/** The grammar of a text that is continued. Throws ApiError. */
export async function textGrammar(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  received: Uint8Array,
): Promise<AnswerGrammar> {
  const content = answerContent(fields, () => exactBody(received));
  if (content === undefined) return {};
  return { grammar: await compile(c, ctx, fields, { content, answer: undefined }, content.param) };
}

/**
 * The grammar of an answer in a conversation, around what the request says of its content: the
 * model's reasoning, and calls of tools where one must come or where their arguments are strict.
 * Throws ApiError.
 */
export async function chatGrammar(
  c: AppContext,
  ctx: ServerContext,
  request: ChatCompletionRequest,
  {
    body,
    promptText,
    toolUse,
  }: {
    readonly body: Uint8Array | Dict;
    readonly promptText: string;
    readonly toolUse: ToolUse | undefined;
  },
): Promise<AnswerGrammar> {
  const content = answerContent(request, () => exactBody(body));
  const budget = request.thinking_budget ?? request.thinking_token_budget ?? undefined;
  const thinkingBudget = budget === -1 ? undefined : budget;
  const isHeld = toolUse?.mustCall === true || toolUse?.tools.some(({ isStrict }) => isStrict);
  if (content === undefined && !isHeld && thinkingBudget === undefined) return {};
  const { format } = ctx.text;
  const param =
    content?.param ?? (isHeld ? 'tools' : budget === undefined ? undefined : 'thinking_budget');
  const reasons = format?.format.kind === 'harmony' || format?.format.reasoning !== undefined;
  if (thinkingBudget !== undefined && !reasons) {
    const message = 'thinking_budget cannot be honoured: how this model reasons is not known.';
    throw new ApiError('unsupported_value', message, 'thinking_budget');
  }
  if (format === undefined) {
    return { grammar: await compile(c, ctx, request, { content, answer: undefined }, param) };
  }
  const start = startOf(format.format, promptText, continuedContent(request));
  const answer: AnswerRules = {
    names: format.names,
    reasoning: start.reasoning,
    calls: toolUse === undefined ? 'never' : toolUse.mustCall ? 'must' : 'may',
    hasBudget: thinkingBudget !== undefined,
    tools: toolUse?.tools ?? [],
    isParallel: toolUse?.isParallel ?? true,
    tokens: format.marks.tokens,
  };
  const grammar = await compile(c, ctx, request, { content, answer }, param);
  return { grammar, thinkingBudget };
}

async function compile(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  {
    content,
    answer,
  }: { readonly content: AnswerContent | undefined; readonly answer: AnswerRules | undefined },
  param: string | undefined,
): Promise<CompiledGrammar> {
  if (ctx.engine.card.grammarBytes === 0) {
    const message = `${param} cannot be honoured: the server's --grammar-pool-bytes is 0.`;
    throw new ApiError('unsupported_value', message, param);
  }
  if ((fields.min_tokens ?? 0) > 0) ctx.once.warn('min_tokens', MIN_TOKENS_GIVES_WAY);
  const tenant = saltedTenant(c.get('tenant'), fields.cache_salt);
  try {
    return await ctx.grammars.compile(tenant, { content: content?.rule, answer });
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const isWrong = ['syntax', 'unknown-rule', 'empty', 'contradiction'].includes(error.code);
    const code = isWrong ? 'invalid_value' : 'unsupported_value';
    throw new ApiError(code, `${param} cannot be honoured: ${error.message}.`, param, {
      cause: error,
    });
  }
}
