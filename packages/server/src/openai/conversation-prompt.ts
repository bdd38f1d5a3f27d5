import { Dict, exactJson, type MarkedText, type TemplateValue } from '@bridgekeeper/engine/text';
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
  const received = text.encoder.hasThread ? longBody(body) : undefined;
  if (received === undefined) {
    const prompt = renderConversation(text, request, exactBody(body));
    requireRoom(text, prompt, maxTokens, 'messages');
    const tokens = await text.encoder.encode(prompt, addSpecialTokens);
    return { text: plainOf(prompt), tokens };
  }
  const work = {
    kind: 'conversation',
    request,
    received,
    addSpecialTokens,
    maxTokens,
  } as const;
  const result = await text.encoder.conversation(work);
  if ('tokens' in result) return result;
  throw new ApiError(result.code as ApiErrorCode, result.message, result.param);
}

/** A body that is rendered on another thread, in bytes; undefined: it is rendered here. */
function longBody(body: Uint8Array | Dict): Uint8Array | undefined {
  if (!(body instanceof Dict)) return body.byteLength > RENDERED_HERE_BYTES ? body : undefined;
  if (charactersLeft(body, RENDERED_HERE_BYTES) >= 0) return undefined;
  try {
    return new TextEncoder().encode(exactJson(body));
  } catch {
    // More than any template may make: to render it says so.
    return undefined;
  }
}

/** What is left of `room` behind the value's characters; less than 0 as soon as it is used up. */
function charactersLeft(value: TemplateValue, room: number): number {
  if (typeof value === 'string') return room - value.length - 2;
  let left = room - 2;
  const take = (part: TemplateValue) => {
    left = charactersLeft(part, left);
  };
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length && left >= 0; at++) take(value[at]!);
  } else if (value instanceof Dict) {
    for (const [key, part] of value.entries()) {
      if (left < 0) break;
      take(String(key));
      take(part);
    }
  }
  return left;
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
