import type { Dict } from '@bridgekeeper/engine/text';
import { toApiError } from '../http/errors.ts';
import type { ServerContext } from '../openai/context.ts';
import { type ChatPrompt, promptOf } from '../openai/prepare-chat.ts';
import type { ChatCompletionRequest } from '../openai/schema/chat.ts';

/**
 * The prompt of a conversation without as many of its first messages as it takes to fit: those
 * before a message of the user, so that no result is left without its call. What comes from the
 * system stays. Throws ApiError where the last turn alone does not fit.
 */
export async function fitting(
  ctx: ServerContext,
  request: ChatCompletionRequest,
  body: Dict,
): Promise<ChatPrompt> {
  const messages = body.get('messages') as Dict[];
  const isSystem = ({ role }: { readonly role: string }) =>
    role === 'system' || role === 'developer';
  const cuts = request.messages.flatMap(({ role }, at) => (role === 'user' ? [at] : []));
  const without = async (cut: number) => {
    const isKept = (at: number) => at >= cut || isSystem(request.messages[at]!);
    body.set(
      'messages',
      messages.filter((_, at) => isKept(at)),
    );
    const kept = request.messages.filter((_, at) => isKept(at));
    const prompt = await promptOf(ctx, { ...request, messages: kept }, body);
    return prompt.tokens.length < ctx.engine.card.maxModelTokens ? prompt : undefined;
  };
  const tried = async (cut: number) => {
    try {
      return await without(cut);
    } catch (error) {
      if (toApiError(error).code === 'context_length_exceeded') return undefined;
      throw error;
    }
  };
  const whole = await tried(0);
  if (whole !== undefined) return whole;
  // The fewest of the cuts that leave what fits.
  let tooFew = -1;
  let enough = cuts.length - 1;
  let found: ChatPrompt | undefined;
  while (enough - tooFew > 1) {
    const middle = (tooFew + enough) >> 1;
    const prompt = await tried(cuts[middle]!);
    if (prompt === undefined) tooFew = middle;
    else {
      enough = middle;
      found = prompt;
    }
  }
  if (found === undefined && enough >= 0) found = await tried(cuts[enough]!);
  if (found !== undefined) return found;
  body.set('messages', messages);
  return promptOf(ctx, request, body);
}
