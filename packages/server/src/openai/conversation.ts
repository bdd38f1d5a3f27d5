import { Dict, JsonError, readJsonValue, type TemplateValue } from '@bridgekeeper/engine/text';
import type { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';
import type { ChatMessage, conversationFields } from './schema/chat.ts';

type Conversation = z.output<z.ZodObject<typeof conversationFields>>;
type Message = z.output<typeof ChatMessage>;

/**
 * Marks the end of a message that is to be continued: transformers' own mark, which some templates
 * know. Templates keep or trim the space.
 */
const CONTINUE_MARK = 'CONTINUE_FINAL_MESSAGE_TAG ';

/**
 * The prompt's text. `request` is what was validated of `body`, which is read exactly for the
 * template: schemas and arguments reach it with their keys in order, 1.0 apart from 1, and long
 * integers whole. Throws ApiError for what is no text and for what the template makes nothing
 * of, and TextError for what the template refuses.
 */
export function renderConversation(text: ModelText, request: Conversation, body: Dict): string {
  const messages = body.get('messages') as TemplateValue[];
  const isContinued = request.continue_final_message === true;
  if (isContinued) checkContinued(request);
  refuseUnread(text, request);
  const converted = request.messages.map((message, at) => {
    return templateMessage(messages[at] as Dict, message, `messages.${at}`);
  });
  const last = converted.at(-1)!;
  if (isContinued) last.set('content', `${last.get('content') as string}${CONTINUE_MARK}`);
  const rendered = text.tokenizer.renderChat({
    messages: converted,
    tools: body.get('tools'),
    documents: body.get('documents'),
    addGenerationPrompt: request.add_generation_prompt ?? true,
    variables: variablesOf(text, body),
  });
  return isContinued ? openEnded(rendered) : rendered;
}

function checkContinued(request: Conversation): void {
  const param = 'continue_final_message';
  if (request.add_generation_prompt !== false) {
    const message = `${param} can only be given with add_generation_prompt: false.`;
    throw new ApiError('invalid_value', message, param);
  }
  if (request.messages.at(-1)!.content == null) {
    throw new ApiError('invalid_value', `${param} needs content in the final message.`, param);
  }
}

/** Variables by which templates let a model think or not. */
const THINKING_SWITCHES = ['enable_thinking', 'thinking'] as const;

/** Fields that are nothing but variables of the template, and what stands for them in some. */
const TEMPLATE_FIELDS = [
  ['documents', []],
  ['reasoning_effort', THINKING_SWITCHES],
] as const;

function refuseUnread({ tokenizer }: ModelText, request: Conversation): void {
  for (const [name, others] of TEMPLATE_FIELDS) {
    // Without a template rendering fails, and says so.
    const { chatTemplate } = tokenizer;
    if (request[name] == null || !chatTemplate.isPresent) continue;
    if ([name, ...others].some((each) => chatTemplate.mentions(each))) continue;
    const message = `${name} cannot be honoured: this model's chat template makes nothing of it.`;
    throw new ApiError('unsupported_value', message, name);
  }
}

/** Where the template knows no effort but can let the model think or not, `none` is not. */
function variablesOf({ tokenizer }: ModelText, body: Dict): Dict | undefined {
  const given = body.get('chat_template_kwargs');
  const variables = given instanceof Dict ? given : undefined;
  const effort = body.get('reasoning_effort') ?? null;
  if (effort === null) return variables;
  const { chatTemplate } = tokenizer;
  const all = new Dict(variables?.entries());
  if (chatTemplate.mentions('reasoning_effort')) all.set('reasoning_effort', effort);
  else {
    const unsaid = THINKING_SWITCHES.filter((name) => all.get(name) === undefined);
    for (const name of unsaid) if (chatTemplate.mentions(name)) all.set(name, effort !== 'none');
  }
  return all;
}

/** The text up to the mark, as transformers cuts it: a template that trims gets no space back. */
function openEnded(rendered: string): string {
  const at = rendered.lastIndexOf(CONTINUE_MARK.trimEnd());
  if (at < 0) {
    const message = 'The chat template leaves out the final message, which cannot be continued.';
    throw new ApiError('invalid_value', message, 'continue_final_message');
  }
  const text = rendered.slice(0, at);
  return rendered.startsWith(CONTINUE_MARK, at) ? text : text.trimEnd();
}

/** The content of the last message, where the answer goes on in that. */
export function continuedContent(request: Conversation): string | undefined {
  if (request.continue_final_message !== true) return undefined;
  return plainContent(request.messages.at(-1)!.content, `messages.${request.messages.length - 1}`);
}

/** The text of the last message, where the answer goes on in its role; for `echo`. */
export function echoedMessage(request: Conversation): string {
  const last = request.messages.at(-1)!;
  const continues = request.add_generation_prompt === false || last.role === 'assistant';
  return continues ? plainContent(last.content, `messages.${request.messages.length - 1}`) : '';
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
