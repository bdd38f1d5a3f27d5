import { ApiError } from '../http/errors.ts';
import { CONVERSATION_BOUNDS } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import { answer } from '../openai/answer.ts';
import type { WholeChoice } from '../openai/collect.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { modelFor } from '../openai/requests.ts';
import { checkPrompts, preparePooling, requireTask } from '../pooling/prepare.ts';
import { RerankDocument, RerankRequest, ScoreDocument, ScoreRequest } from '../pooling/schema.ts';
import { judgedBy, judgement, similarity } from '../pooling/scoring.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';
import { whole } from './whole-answer.ts';

const SCORE_PATHS = ['/v1/score', '/score'] as const;
const RERANK_PATHS = ['/v1/rerank', '/v2/rerank', '/rerank'] as const;

/** POST /score and /v1/score, as vLLM has them. */
export function scoreEndpoints(ctx: ServerContext): Endpoint[] {
  const fields = new FieldCheck(ctx.once, Object.keys(ScoreRequest.shape), true);
  const handle: Endpoint['handle'] = async (c) => {
    const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
    fields.check(c, value);
    const request = validate(ScoreRequest, value);
    const model = modelFor(ctx, request.model);
    const queries = textsOf(request.text_1 ?? request.queries, 'text_1');
    const documents = textsOf(request.text_2 ?? request.documents, 'text_2');
    const { prepared, scoresOf } = await compare(c, ctx, request, queries, documents, 'text_2');
    const format = whole('score', (head, choices, { prompt_tokens }) => ({
      ...head,
      data: scoresOf(choices).map((score, index) => ({ index, object: 'score', score })),
      usage: { prompt_tokens, total_tokens: prompt_tokens },
    }));
    return answer(c, ctx, { received, fields: {}, model }, prepared, format);
  };
  return SCORE_PATHS.map((path) => ({
    route: {
      method: 'post',
      path,
      summary: 'How well texts go with others',
      request: { body: { content: jsonContent(ScoreRequest), required: true } },
      responses: {
        200: { description: 'One score for each pair', content: jsonContent(ScoreDocument) },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle,
  }));
}

/** POST /rerank, /v1/rerank and /v2/rerank, as vLLM has them. */
export function rerankEndpoints(ctx: ServerContext): Endpoint[] {
  const fields = new FieldCheck(ctx.once, Object.keys(RerankRequest.shape), true);
  const handle: Endpoint['handle'] = async (c) => {
    const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
    fields.check(c, value);
    const request = validate(RerankRequest, value);
    const model = modelFor(ctx, request.model);
    const documents = request.documents.map((each) =>
      typeof each === 'string' ? each : each.text,
    );
    const compared = await compare(c, ctx, request, [request.query], documents, 'documents');
    const format = whole('rerank', ({ id }, choices, { prompt_tokens }) => {
      const results = compared.scoresOf(choices).map((score, index) => ({
        index,
        ...(request.return_documents === false ? {} : { document: { text: documents[index]! } }),
        relevance_score: score,
      }));
      results.sort((a, b) => b.relevance_score - a.relevance_score);
      const best = request.top_n ? results.slice(0, request.top_n) : results;
      const usage = { prompt_tokens, total_tokens: prompt_tokens };
      return { id, model, usage, results: best };
    });
    return answer(c, ctx, { received, fields: {}, model }, compared.prepared, format);
  };
  return RERANK_PATHS.map((path) => ({
    route: {
      method: 'post',
      path,
      summary: 'Documents in the order in which they fit a query',
      request: { body: { content: jsonContent(RerankRequest), required: true } },
      responses: {
        200: { description: 'The best first', content: jsonContent(RerankDocument) },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle,
  }));
}

function textsOf(texts: string | readonly string[] | null | undefined, param: string) {
  if (texts == null) throw new ApiError('invalid_value', `${param} is required.`, param);
  return typeof texts === 'string' ? [texts] : texts;
}

/**
 * Each document with its query, or all of them with the only one: judged by a model that scores,
 * and by the angle between their vectors for one that embeds.
 */
async function compare(
  c: AppContext,
  ctx: ServerContext,
  request: ScoreRequest | RerankRequest,
  queries: readonly string[],
  documents: readonly string[],
  param: string,
) {
  requireTask(ctx, 'score', 'embed');
  if (queries.length !== 1 && queries.length !== documents.length) {
    const message = 'text_1 must be one text, or as many as text_2.';
    throw new ApiError('invalid_value', message, 'text_1');
  }
  const queryOf = (at: number) => (queries.length === 1 ? 0 : at);
  const options = { param, addSpecialTokens: true };
  if (ctx.engine.card.task === 'score') {
    checkPrompts(ctx, documents.length, param);
    const pooling = judgedBy(ctx.text);
    const prompts = documents.map((document, at) =>
      judgement(ctx.text, queries[queryOf(at)]!, document, request.instruction),
    );
    const judged = { ...options, pooling, addSpecialTokens: false };
    const prepared = await preparePooling(c, ctx, request, prompts, judged);
    const scoresOf = (choices: readonly WholeChoice[]) => choices.map(({ pooled }) => pooled![0]!);
    return { prepared, scoresOf };
  }
  if (request.instruction != null) {
    const message = 'instruction cannot be honoured: put it before the texts that are embedded.';
    throw new ApiError('unsupported_value', message, 'instruction');
  }
  checkPrompts(ctx, queries.length + documents.length, param);
  const texts = [...queries, ...documents];
  const embedded = { ...options, pooling: { task: 'embed' } as const };
  const prepared = await preparePooling(c, ctx, request, texts, embedded);
  const scoresOf = (choices: readonly WholeChoice[]) => {
    const vectors = choices.map(({ pooled }) => pooled!);
    return documents.map((_, at) =>
      similarity(vectors[queryOf(at)]!, vectors[queries.length + at]!),
    );
  };
  return { prepared, scoresOf };
}
