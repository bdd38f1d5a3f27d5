import type { EngineTask, Pooling } from '@bridgekeeper/engine';
import { ApiError } from '../http/errors.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import type { PreparedGeneration } from '../openai/generation.ts';
import { encode, prepareGeneration } from '../openai/requests.ts';

/** OpenAI takes as many inputs. */
const MAX_PROMPTS = 2048;

interface PoolingFields {
  readonly truncate_prompt_tokens?: number | null | undefined;
  readonly cache_salt?: string | null | undefined;
  readonly request_id?: string | null | undefined;
}

/** A text, or token ids as they are. */
export type PooledPrompt = string | readonly number[];

/** Throws ApiError where the model is not there for that. */
export function requireTask(ctx: ServerContext, ...tasks: readonly EngineTask[]): void {
  const { task } = ctx.engine.card;
  if (tasks.includes(task)) return;
  const does = { generate: 'generates text', embed: 'embeds text', score: 'scores texts' } as const;
  const message =
    `model ${JSON.stringify(ctx.modelNames[0])} ${does[task]}: this needs a server that was ` +
    `started with --task ${tasks.join(' or ')}.`;
  throw new ApiError('unsupported_value', message, 'model');
}

/** Throws ApiError where there are more than can be open at once; `param` names them. */
export function checkPrompts({ engine }: ServerContext, count: number, param: string): void {
  const most = Math.min(MAX_PROMPTS, engine.card.maxRows + engine.card.maxWaiting);
  if (count <= most) return;
  throw new ApiError('invalid_value', `${param} must come to at most ${most} prompts.`, param);
}

/** Makes one request of each prompt. `param` is where they are from. Throws ApiError. */
export async function preparePooling(
  c: AppContext,
  ctx: ServerContext,
  fields: PoolingFields,
  prompts: readonly PooledPrompt[],
  options: {
    readonly pooling: Pooling;
    readonly param: string;
    readonly addSpecialTokens: boolean;
  },
): Promise<PreparedGeneration> {
  const { pooling, param, addSpecialTokens } = options;
  const encoded = await Promise.all(
    prompts.map(async (prompt) => {
      const tokens =
        typeof prompt === 'string'
          ? await encode(ctx, prompt, addSpecialTokens, param)
          : Uint32Array.from(prompt);
      return {
        tokens: await shortened(ctx, fields, tokens, addSpecialTokens),
        echoText: '',
        pooling,
      };
    }),
  );
  const output = {
    maxTokens: 1,
    logprobs: undefined,
    promptLogprobs: undefined,
    echoLogprobs: false,
    hideOutput: true,
  };
  const { cache_salt, request_id } = fields;
  return prepareGeneration(c, ctx, { cache_salt, request_id }, encoded, output);
}

/** The first tokens: a token that ends every text, and is what it is pooled from, stays its end. */
async function shortened(
  ctx: ServerContext,
  { truncate_prompt_tokens: wanted }: PoolingFields,
  tokens: Uint32Array,
  addSpecialTokens: boolean,
): Promise<Uint32Array> {
  if (wanted == null) return tokens;
  const most = wanted === -1 ? ctx.engine.card.maxModelTokens : wanted;
  if (tokens.length <= most) return tokens;
  const kept = tokens.slice(0, most);
  const own = addSpecialTokens ? await ctx.text.encoder.encode('', true) : new Uint32Array();
  const last = tokens.at(-1)!;
  if (own.at(-1) === last) kept[most - 1] = last;
  return kept;
}
