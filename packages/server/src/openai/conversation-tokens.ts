import type { MarkedText } from '@bridgekeeper/engine/text';
import { ApiError, type ApiErrorCode } from '../http/errors.ts';
import type { ConversationWork, Refusal } from '../text/encoder.ts';
import type { ModelText } from '../text/model-text.ts';
import type { ServerContext } from './context.ts';
import { type Conversation, renderConversation } from './conversation.ts';

/** Bodies of more bytes are rendered on another thread: templates cost more than their text. */
const RENDERED_HERE_BYTES = 4096;

/**
 * The prompt of a conversation. Throws ApiError, and TextError for what the template or the
 * vocabulary refuses.
 */
export async function conversationTokens(
  { engine, text }: ServerContext,
  request: Conversation,
  received: Uint8Array,
): Promise<Uint32Array> {
  const addSpecialTokens = request.add_special_tokens ?? false;
  const maxTokens = engine.card.maxModelTokens;
  if (received.byteLength <= RENDERED_HERE_BYTES || !text.encoder.hasThread) {
    const prompt = renderConversation(text, request, received);
    requireRoom(text, prompt, maxTokens, 'messages');
    return text.encoder.encode(prompt, addSpecialTokens);
  }
  const work = { kind: 'conversation', request, received, addSpecialTokens, maxTokens } as const;
  const result = await text.encoder.conversation(work);
  if (result instanceof Uint32Array) return result;
  throw new ApiError(result.code as ApiErrorCode, result.message, result.param);
}

/** The same on the thread for it, whose errors are values. Throws TextError. */
export function performConversation(
  text: Pick<ModelText, 'tokenizer' | 'isLiteral'>,
  { request, received, addSpecialTokens, maxTokens }: ConversationWork,
): Uint32Array | Refusal {
  try {
    const prompt = renderConversation(text, request as Conversation, received);
    requireRoom(text, prompt, maxTokens, 'messages');
    return typeof prompt === 'string'
      ? text.tokenizer.encode(prompt, addSpecialTokens)
      : text.tokenizer.encodeMarked(prompt, addSpecialTokens);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { code: error.code, message: error.message, param: error.param };
  }
}

/** Throws ApiError where a text's length alone says that it cannot fit the context. */
export function requireRoom(
  { tokenizer }: Pick<ModelText, 'tokenizer'>,
  text: string | MarkedText,
  maxTokens: number,
  param: string,
): void {
  const bytes = Buffer.byteLength(typeof text === 'string' ? text : text.plain);
  const atLeast = Math.ceil(bytes / tokenizer.maxTokenBytes);
  if (atLeast <= maxTokens) return;
  throw new ApiError(
    'context_length_exceeded',
    `This model's maximum context length is ${maxTokens} tokens. However, your request ` +
      `has at least ${atLeast} input tokens. Please reduce the length of the input.`,
    param,
  );
}
