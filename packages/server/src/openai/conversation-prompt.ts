import { Dict, type MarkedText } from '@bridgekeeper/engine/text';
import { ApiError, type ApiErrorCode } from '../http/errors.ts';
import type { ChatPrompt, ConversationWork, Refusal } from '../text/encoder.ts';
import type { ModelText } from '../text/model-text.ts';
import type { ServerContext } from './context.ts';
import { type Conversation, renderConversation } from './conversation.ts';
import { exactBody } from './exact-body.ts';

/** Bodies of more bytes are rendered on another thread: templates cost more than their text. */
const RENDERED_HERE_BYTES = 4096;

/**
 * The prompt of a conversation. `request` is what was validated of `body`: what was received, or
 * what was made of a request of another API. Throws ApiError, and TextError for what the template
 * or the vocabulary refuses.
 */
export async function promptOf(
  { engine, text }: ServerContext,
  request: Conversation,
  body: Uint8Array | Dict,
): Promise<ChatPrompt> {
  const addSpecialTokens = request.add_special_tokens ?? false;
  const maxTokens = engine.card.maxModelTokens;
  const isShort = body instanceof Dict || body.byteLength <= RENDERED_HERE_BYTES;
  if (isShort || !text.encoder.hasThread) {
    const prompt = renderConversation(text, request, exactBody(body));
    requireRoom(text, prompt, maxTokens, 'messages');
    const tokens = await text.encoder.encode(prompt, addSpecialTokens);
    return { text: plainOf(prompt), tokens };
  }
  const work = {
    kind: 'conversation',
    request,
    received: body,
    addSpecialTokens,
    maxTokens,
  } as const;
  const result = await text.encoder.conversation(work);
  if ('tokens' in result) return result;
  throw new ApiError(result.code as ApiErrorCode, result.message, result.param);
}

/** The same on the thread for it, whose errors are values. Throws TextError. */
export function performConversation(
  text: Pick<ModelText, 'tokenizer' | 'isLiteral'>,
  { request, received, addSpecialTokens, maxTokens }: ConversationWork,
): ChatPrompt | Refusal {
  try {
    const prompt = renderConversation(text, request as Conversation, exactBody(received));
    requireRoom(text, prompt, maxTokens, 'messages');
    const tokens =
      typeof prompt === 'string'
        ? text.tokenizer.encode(prompt, addSpecialTokens)
        : text.tokenizer.encodeMarked(prompt, addSpecialTokens);
    return { text: plainOf(prompt), tokens };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { code: error.code, message: error.message, param: error.param };
  }
}

function plainOf(prompt: string | MarkedText): string {
  return typeof prompt === 'string' ? prompt : prompt.plain;
}

/** Throws ApiError where a text's length alone says that it cannot fit the context. */
export function requireRoom(
  { tokenizer }: Pick<ModelText, 'tokenizer'>,
  text: string | MarkedText,
  maxTokens: number,
  param: string,
): void {
  const bytes = Buffer.byteLength(plainOf(text));
  const atLeast = Math.ceil(bytes / tokenizer.maxTokenBytes);
  if (atLeast <= maxTokens) return;
  throw new ApiError(
    'context_length_exceeded',
    `This model's maximum context length is ${maxTokens} tokens. However, your request ` +
      `has at least ${atLeast} input tokens. Please reduce the length of the input.`,
    param,
  );
}
