import { Dict, JsonError, readJsonValue, type TemplateValue } from '@bridgekeeper/engine/text';
import type { z } from '@hono/zod-openapi';
import { decodeBody } from '../http/body.ts';
import { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';
import type { ChatMessage, conversationFields } from './schema/chat.ts';

type Conversation = z.output<z.ZodObject<typeof conversationFields>>;
type Message = z.output<typeof ChatMessage>;

/**
 * The prompt's text. `request` is what was validated of the body `received`, which is read again
 * for the template: schemas and arguments reach it with their keys in order, 1.0 apart from 1, and
 * long integers whole. Throws ApiError for what is no text, and TextError for what the template
 * refuses.
 */
export function renderConversation(
  text: ModelText,
  request: Conversation,
  received: Uint8Array,
): string {
  const body = exactBody(received);
  const messages = body.get('messages') as TemplateValue[];
  const variables = body.get('chat_template_kwargs');
  return text.tokenizer.renderChat({
    messages: request.messages.map((message, at) => {
      return templateMessage(messages[at] as Dict, message, `messages.${at}`);
    }),
    tools: body.get('tools'),
    addGenerationPrompt: request.add_generation_prompt ?? true,
    variables: variables instanceof Dict ? variables : undefined,
  });
}

function exactBody(received: Uint8Array): Dict {
  try {
    return readJsonValue(decodeBody(received)) as Dict;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ApiError('invalid_json', `The body ${error.message}.`, undefined, { cause: error });
  }
}

/**
 * A message as templates expect it: OpenAI's newer name for `system` and its lists of parts become
 * the plain ones, what is null is not there, arguments of tool calls are objects, and reasoning has
 * both of the names in use.
 */
function templateMessage(exact: Dict, message: Message, path: string): Dict {
  const given = [...exact.entries()];
  const result = new Dict(given.filter(([key, value]) => key === 'content' || value !== null));
  if (message.role === 'developer') result.set('role', 'system');
  result.set('content', plainContent(message.content, path));
  const calls = exact.get('tool_calls');
  if (Array.isArray(calls) && calls.length > 0) {
    result.set(
      'tool_calls',
      calls.map((call, at) => templateCall(call as Dict, `${path}.tool_calls.${at}`)),
    );
  } else result.delete('tool_calls');
  const reasoning = message.reasoning ?? message.reasoning_content;
  if (reasoning != null) {
    result.set('reasoning', message.reasoning ?? reasoning);
    result.set('reasoning_content', message.reasoning_content ?? reasoning);
  }
  return result;
}

/** No arguments, and an empty text of them, are an empty object, as in vLLM. */
function templateCall(call: Dict, path: string): Dict {
  const named = call.get('function');
  if (!(named instanceof Dict)) return call;
  const given = named.get('arguments');
  const result = new Dict(named.entries());
  if (given === undefined || given === null || given === '') result.set('arguments', new Dict());
  else if (typeof given === 'string') {
    result.set('arguments', readArguments(given, `${path}.function.arguments`));
  }
  return new Dict([...call.entries(), ['function', result]]);
}

function readArguments(text: string, param: string): Dict {
  let reason = 'must be the text of a JSON object';
  try {
    const value = readJsonValue(text);
    if (value instanceof Dict) return value;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    reason = `${reason}, and ${error.message}`;
  }
  throw new ApiError('invalid_value', `${param} ${reason}.`, param);
}

function plainContent(content: Message['content'], path: string): string {
  if (content == null) return '';
  if (typeof content === 'string') return content;
  const texts = content.map((part, index) => {
    if (part.type === 'text' && part.text !== undefined) return part.text;
    if (part.type === 'refusal' && part.refusal !== undefined) return part.refusal;
    const param = `${path}.content.${index}`;
    const expected = 'must be a part of type "text" or "refusal"';
    throw new ApiError('unsupported_value', `${param} ${expected}.`, param);
  });
  return texts.join('\n');
}
