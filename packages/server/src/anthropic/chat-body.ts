import { Dict, type TemplateValue } from '@bridgekeeper/engine/text';
import { ApiError } from '../http/errors.ts';
import { dictOf, wantDict, wantDicts, wantOneOf, wantText } from '../openai/exact-values.ts';

/** What fields of a chat are called in Anthropic's requests. */
export const FIELD_NAMES = {
  prompt: 'messages',
  stop: 'stop_sequences',
  response_format: 'output_config.format',
  reasoning_effort: 'output_config.effort',
  thinking_budget: 'thinking.budget_tokens',
  chat_template_kwargs: 'thinking',
  parallel_tool_calls: 'tool_choice.disable_parallel_tool_use',
  continue_final_message: 'messages',
  max_completion_tokens: 'max_tokens',
} as const;

/**
 * The chat that the body of a request for a message asks for. A last message of the assistant is
 * one to go on with. Throws ApiError.
 */
export function chatBodyOf(body: Dict): Dict {
  const system = textOf(body.get('system'), 'system');
  const given = wantDicts(body.get('messages'), 'messages');
  const messages = given.flatMap((message, at) => messagesOf(message, `messages.${at}`));
  if (system !== undefined) messages.unshift(dictOf({ role: 'system', content: system }));
  const chat = dictOf({ messages });
  const copy = (value: TemplateValue | undefined, name: string) => {
    if (value != null) chat.set(name, value);
  };
  copy(body.get('max_tokens'), 'max_completion_tokens');
  copy(body.get('stop_sequences'), 'stop');
  for (const name of ['stream', 'temperature', 'top_p', 'top_k']) copy(body.get(name), name);
  const tools = wantDicts(body.get('tools'), 'tools').map(toolOf);
  if (tools.length > 0) chat.set('tools', tools);
  chooseTool(body.get('tool_choice'), chat);
  think(body.get('thinking'), chat);
  const config = body.get('output_config');
  if (config instanceof Dict) {
    copy(config.get('effort'), 'reasoning_effort');
    copy(formatOf(config.get('format')), 'response_format');
  }
  if (messages.at(-1)?.get('role') === 'assistant') goOn(messages, chat);
  return chat;
}

function goOn(messages: readonly Dict[], chat: Dict): void {
  if (messages.at(-1)!.has('tool_calls')) {
    const message = 'messages must go on with the tool_result of every tool_use.';
    throw new ApiError('invalid_value', message, 'messages');
  }
  chat.set('add_generation_prompt', false);
  chat.set('continue_final_message', true);
}

/** Text, or blocks of text. */
function textOf(content: TemplateValue | undefined, param: string): TemplateValue | undefined {
  if (content == null || typeof content === 'string') return content ?? undefined;
  return wantDicts(content, param).map((block, at) => textBlock(block, `${param}.${at}`));
}

function textBlock(block: Dict, param: string): Dict {
  wantOneOf(block.get('type'), ['text'], `${param}.type`);
  return dictOf({ type: 'text', text: wantText(block.get('text'), `${param}.text`) });
}

/** Results of tools are messages of their own, before what the user says beside them. */
function messagesOf(message: Dict, param: string): Dict[] {
  const role = wantOneOf(message.get('role'), ['user', 'assistant', 'system'], `${param}.role`);
  const content = message.get('content');
  if (role === 'system' || typeof content === 'string') {
    return [dictOf({ role, content: textOf(content, `${param}.content`) })];
  }
  const blocks = wantDicts(content, `${param}.content`);
  return role === 'user'
    ? userMessages(blocks, `${param}.content`)
    : [assistantMessage(blocks, `${param}.content`)];
}

function userMessages(blocks: readonly Dict[], param: string): Dict[] {
  const results: Dict[] = [];
  const parts: Dict[] = [];
  blocks.forEach((block, index) => {
    const at = `${param}.${index}`;
    if (wantOneOf(block.get('type'), ['text', 'tool_result'], `${at}.type`) === 'text') {
      parts.push(textBlock(block, at));
      return;
    }
    results.push(
      dictOf({
        role: 'tool',
        tool_call_id: wantText(block.get('tool_use_id'), `${at}.tool_use_id`),
        content: textOf(block.get('content'), `${at}.content`) ?? '',
      }),
    );
  });
  if (parts.length === 0 && results.length > 0) return results;
  return [...results, dictOf({ role: 'user', content: parts })];
}

function assistantMessage(blocks: readonly Dict[], param: string): Dict {
  const parts: Dict[] = [];
  const calls: Dict[] = [];
  let thought = '';
  blocks.forEach((block, index) => {
    const at = `${param}.${index}`;
    switch (wantOneOf(block.get('type'), ['text', 'thinking', 'tool_use'], `${at}.type`)) {
      case 'text':
        parts.push(textBlock(block, at));
        return;
      case 'thinking':
        thought += wantText(block.get('thinking'), `${at}.thinking`);
        return;
      case 'tool_use': {
        const called = dictOf({
          name: wantText(block.get('name'), `${at}.name`),
          arguments: wantDict(block.get('input'), `${at}.input`),
        });
        const id = wantText(block.get('id'), `${at}.id`);
        calls.push(dictOf({ id, type: 'function', function: called }));
      }
    }
  });
  return dictOf({
    role: 'assistant',
    content: parts,
    reasoning_content: thought === '' ? undefined : thought,
    tool_calls: calls.length === 0 ? undefined : calls,
  });
}

function toolOf(tool: Dict, at: number): Dict {
  const param = `tools.${at}`;
  const type = tool.get('type') ?? 'custom';
  if (type !== 'custom') {
    const message = `${param}.type must be "custom": this server has no tools of its own.`;
    throw new ApiError('unsupported_value', message, `${param}.type`);
  }
  const described = dictOf({
    name: wantText(tool.get('name'), `${param}.name`),
    description: tool.get('description') ?? undefined,
    parameters: wantDict(tool.get('input_schema'), `${param}.input_schema`),
    strict: tool.get('strict') ?? undefined,
  });
  return dictOf({ type: 'function', function: described });
}

const CHOICES = { auto: 'auto', any: 'required', none: 'none' } as const;

function chooseTool(choice: TemplateValue | undefined, chat: Dict): void {
  if (!(choice instanceof Dict)) return;
  const type = wantOneOf(choice.get('type'), ['auto', 'any', 'tool', 'none'], 'tool_choice.type');
  if (choice.get('disable_parallel_tool_use') === true) chat.set('parallel_tool_calls', false);
  if (type !== 'tool') {
    chat.set('tool_choice', CHOICES[type]);
    return;
  }
  const name = wantText(choice.get('name'), 'tool_choice.name');
  chat.set('tool_choice', dictOf({ type: 'function', function: dictOf({ name }) }));
}

/** `adaptive` leaves it to the model. */
function think(thinking: TemplateValue | undefined, chat: Dict): void {
  if (!(thinking instanceof Dict)) return;
  const type = thinking.get('type');
  if (type === 'adaptive') return;
  const thinks = type === 'enabled';
  // Templates have one name for it or the other.
  chat.set('chat_template_kwargs', dictOf({ enable_thinking: thinks, thinking: thinks }));
  if (type !== 'enabled') return;
  const budget = thinking.get('budget_tokens');
  if (budget == null) {
    const param = 'thinking.budget_tokens';
    throw new ApiError('invalid_value', `${param} is required where thinking is enabled.`, param);
  }
  chat.set('thinking_budget', budget);
}

function formatOf(format: TemplateValue | undefined): TemplateValue | undefined {
  if (format == null) return undefined;
  const schema = wantDict(
    wantDict(format, 'output_config.format').get('schema'),
    'output_config.format.schema',
  );
  return dictOf({
    type: 'json_schema',
    json_schema: dictOf({ name: 'output', schema, strict: true }),
  });
}
