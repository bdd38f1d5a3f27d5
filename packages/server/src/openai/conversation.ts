import type { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';
import type { ChatMessage, conversationFields } from './schema/chat.ts';

type Conversation = z.output<z.ZodObject<typeof conversationFields>>;
type Message = z.output<typeof ChatMessage>;

/**
 * The prompt's text. Throws ApiError for parts that are not text and for what the template refuses.
 */
export function renderConversation(text: ModelText, request: Conversation): string {
  return text.tokenizer.renderChat({
    messages: request.messages.map(plainMessage),
    tools: request.tools ?? undefined,
    addGenerationPrompt: request.add_generation_prompt ?? true,
    variables: request.chat_template_kwargs ?? {},
  });
}

/**
 * Templates know `system` and text: OpenAI's newer name for it and its lists of parts become those.
 */
function plainMessage(message: Message, at: number): Readonly<Record<string, unknown>> {
  const role = message.role === 'developer' ? 'system' : message.role;
  return { ...message, role, content: plainContent(message.content, at) };
}

function plainContent(content: Message['content'], at: number): string {
  if (content == null) return '';
  if (typeof content === 'string') return content;
  const texts = content.map((part, index) => {
    if (part.type === 'text' && part.text !== undefined) return part.text;
    const param = `messages.${at}.content.${index}`;
    throw new ApiError('unsupported_value', `${param} must be a part of type "text".`, param);
  });
  return texts.join('\n');
}
