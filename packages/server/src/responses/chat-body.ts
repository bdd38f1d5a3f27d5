import { Dict, type TemplateValue } from '@bridgekeeper/engine/text';
import { ApiError } from '../http/errors.ts';
import { dictOf, wantDict, wantDicts, wantOneOf, wantText } from '../openai/exact-values.ts';
import { CHAT_FIELDS } from './schema.ts';

/** What fields of a chat are called in a request for a response. */
export const FIELD_NAMES = {
  messages: 'input',
  prompt: 'input',
  response_format: 'text.format',
  reasoning_effort: 'reasoning.effort',
  max_completion_tokens: 'max_output_tokens',
} as const;

/** The chat that the body of a request for a response asks for. Throws ApiError. */
export function chatBodyOf(body: Dict, messages: readonly Dict[]): Dict {
  const instructions = body.get('instructions');
  const first = instructions == null ? [] : [dictOf({ role: 'system', content: instructions })];
  const chat = dictOf({ messages: [...first, ...messages] });
  for (const name of CHAT_FIELDS) copy(body.get(name), name, chat);
  copy(body.get('max_output_tokens'), 'max_completion_tokens', chat);
  const tools = wantDicts(body.get('tools'), 'tools').map(toolOf);
  if (tools.length > 0) chat.set('tools', tools);
  copy(toolChoiceOf(body.get('tool_choice')), 'tool_choice', chat);
  const { text, reasoning } = { text: body.get('text'), reasoning: body.get('reasoning') };
  if (text instanceof Dict) copy(formatOf(text.get('format')), 'response_format', chat);
  if (reasoning instanceof Dict) copy(reasoning.get('effort'), 'reasoning_effort', chat);
  const include = body.get('include');
  if (Array.isArray(include) && include.includes('message.output_text.logprobs')) {
    chat.set('logprobs', true);
  }
  return chat;
}

function copy(value: TemplateValue | undefined, name: string, to: Dict): void {
  if (value != null) to.set(name, value);
}

function toolOf(tool: Dict, at: number): Dict {
  const param = `tools.${at}`;
  const type = wantText(tool.get('type'), `${param}.type`);
  if (type !== 'function') {
    const message = `${param}.type must be "function": this server runs no tools of its own.`;
    throw new ApiError('unsupported_value', message, `${param}.type`);
  }
  return dictOf({ type, function: pick(tool, ['name', 'description', 'parameters', 'strict']) });
}

function pick(from: Dict, names: readonly string[]): Dict {
  const entries = names.map((name) => [name, from.get(name) ?? undefined] as const);
  return dictOf(Object.fromEntries(entries));
}

function toolChoiceOf(choice: TemplateValue | undefined): TemplateValue | undefined {
  if (!(choice instanceof Dict)) return choice;
  const type = wantOneOf(choice.get('type'), ['function', 'allowed_tools'], 'tool_choice.type');
  if (type === 'function') return named(choice, 'tool_choice');
  const tools = wantDicts(choice.get('tools'), 'tool_choice.tools').map((tool, at) => {
    const param = `tool_choice.tools.${at}`;
    wantOneOf(tool.get('type'), ['function'], `${param}.type`);
    return named(tool, param);
  });
  return dictOf({ type, allowed_tools: dictOf({ mode: choice.get('mode'), tools }) });
}

function named(tool: Dict, param: string): Dict {
  const name = wantText(tool.get('name'), `${param}.name`);
  return dictOf({ type: 'function', function: dictOf({ name }) });
}

function formatOf(format: TemplateValue | undefined): TemplateValue | undefined {
  if (format == null) return undefined;
  const given = wantDict(format, 'text.format');
  if (given.get('type') !== 'json_schema') return given;
  const schema = pick(given, ['name', 'description', 'schema', 'strict']);
  return dictOf({ type: 'json_schema', json_schema: schema });
}
