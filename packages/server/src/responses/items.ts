import { Dict, JsonError, readJsonValue, type TemplateValue } from '@bridgekeeper/engine/text';
import { ApiError } from '../http/errors.ts';
import { dictOf, wantDict, wantDicts, wantOneOf, wantText } from '../openai/exact-values.ts';

const ROLES = ['user', 'assistant', 'system', 'developer'] as const;

/** The items of `input`: a text is one message of the user. `find`: what ids refer to. */
export function itemsOf(
  input: TemplateValue | undefined,
  find: (ids: ReadonlySet<string>) => ReadonlyMap<string, Dict>,
): Dict[] {
  if (typeof input === 'string') {
    return [dictOf({ type: 'message', role: 'user', content: input })];
  }
  const given = wantDicts(input, 'input');
  const referred = given.map((item, at) => {
    if (typeOf(item, `input.${at}`) !== 'item_reference') return undefined;
    return wantText(item.get('id'), `input.${at}.id`);
  });
  const found = find(new Set(referred.filter((id) => id !== undefined)));
  return given.map((item, at) => {
    const id = referred[at];
    if (id === undefined) return item;
    const kept = found.get(id);
    if (kept !== undefined) return kept;
    const param = `input.${at}.id`;
    const message = `${param} refers to an item that is not kept here: send the item itself.`;
    throw new ApiError('invalid_value', message, param);
  });
}

function typeOf(item: Dict, param: string): string {
  const type = item.get('type');
  return type == null && item.has('role') ? 'message' : wantText(type, `${param}.type`);
}

/**
 * Items as messages of a chat: what the assistant says, thinks and calls between two messages of
 * others is one message of it. `param` is what the items are called. Throws ApiError for what no
 * message can say.
 */
export function messagesOf(items: readonly Dict[], param: string): Dict[] {
  const messages: Dict[] = [];
  const callNames = new Map<string, string>();
  /** The message that the assistant's next items belong to. */
  let own: Dict | undefined;
  const ownMessage = (isTaken: (message: Dict) => boolean): Dict => {
    if (own === undefined || isTaken(own)) {
      own = dictOf({ role: 'assistant', content: '' });
      messages.push(own);
    }
    return own;
  };
  items.forEach((item, index) => {
    const at = `${param}.${index}`;
    switch (typeOf(item, at)) {
      case 'message': {
        const role = wantOneOf(item.get('role'), ROLES, `${at}.role`);
        const content = contentOf(item.get('content'), `${at}.content`);
        if (role === 'assistant') {
          ownMessage((said) => said.has('tool_calls') || said.get('content') !== '').set(
            'content',
            content,
          );
          return;
        }
        own = undefined;
        messages.push(dictOf({ role, content }));
        return;
      }
      case 'reasoning': {
        const text = reasoningOf(item, at);
        if (text === '') return;
        const isBegun = (said: Dict) => said.has('tool_calls') || said.get('content') !== '';
        const message = ownMessage(isBegun);
        message.set('reasoning_content', `${message.get('reasoning_content') ?? ''}${text}`);
        return;
      }
      case 'function_call': {
        const { id, call } = callOf(item, at);
        callNames.set(id, wantText(item.get('name'), `${at}.name`));
        const message = ownMessage(() => false);
        const calls = message.get('tool_calls') as TemplateValue[] | undefined;
        if (calls === undefined) message.set('tool_calls', [call]);
        else calls.push(call);
        return;
      }
      case 'function_call_output': {
        own = undefined;
        const id = wantText(item.get('call_id'), `${at}.call_id`);
        const content = contentOf(item.get('output'), `${at}.output`);
        messages.push(dictOf({ role: 'tool', tool_call_id: id, name: callNames.get(id), content }));
        return;
      }
      default:
        throw new ApiError(
          'unsupported_value',
          `${at}.type must be "message", "reasoning", "function_call", "function_call_output" or ` +
            '"item_reference".',
          `${at}.type`,
        );
    }
  });
  return messages;
}

const TEXT_PARTS = ['input_text', 'output_text', 'text', 'refusal'] as const;

/** Text, or parts of text, as parts of a chat's message. */
function contentOf(content: TemplateValue | undefined, param: string): TemplateValue {
  if (typeof content === 'string') return content;
  if (content == null) throw new ApiError('invalid_value', `${param} is required.`, param);
  return wantDicts(content, param).map((part, at) => {
    const type = wantOneOf(part.get('type'), TEXT_PARTS, `${param}.${at}.type`);
    const field = type === 'refusal' ? 'refusal' : 'text';
    return dictOf({ type: 'text', text: wantText(part.get(field), `${param}.${at}.${field}`) });
  });
}

/** What was thought, as this server gives it: in the open. Summaries are of others' reasoning. */
function reasoningOf(item: Dict, param: string): string {
  const parts = wantDicts(item.get('content'), `${param}.content`);
  const summary = wantDicts(item.get('summary'), `${param}.summary`);
  if (item.get('encrypted_content') != null && parts.length === 0) {
    const name = `${param}.encrypted_content`;
    const message = `${name} cannot be honoured: it is of another server, and cannot be read here.`;
    throw new ApiError('unsupported_value', message, name);
  }
  const texts = parts.length > 0 ? parts : summary;
  const name = parts.length > 0 ? 'content' : 'summary';
  return texts
    .map((part, at) => wantText(part.get('text'), `${param}.${name}.${at}.text`))
    .join('\n');
}

function callOf(item: Dict, param: string): { readonly id: string; readonly call: Dict } {
  const id = wantText(item.get('call_id'), `${param}.call_id`);
  const name = wantText(item.get('name'), `${param}.name`);
  const text = wantText(item.get('arguments'), `${param}.arguments`);
  if (text !== '') checkArguments(text, `${param}.arguments`);
  const called = dictOf({ name, arguments: text });
  return { id, call: dictOf({ id, type: 'function', function: called }) };
}

function checkArguments(text: string, param: string): void {
  try {
    wantDict(readJsonValue(text), param);
  } catch (error) {
    if (error instanceof JsonError || error instanceof ApiError) {
      const message = `${param} must be the text of a JSON object.`;
      throw new ApiError('invalid_value', message, param, { cause: error });
    }
    throw error;
  }
}

/** Copies of items with ids, as they are kept and listed. */
export function withIds(items: readonly Dict[], newId: (prefix: string) => string): Dict[] {
  return items.map((item) => {
    if (typeof item.get('id') === 'string') return item;
    const type = item.get('type');
    const prefix = PREFIXES[typeof type === 'string' ? type : 'message'] ?? 'item';
    return new Dict([['id', newId(prefix)], ['type', 'message'], ...item.entries()]);
  });
}

const PREFIXES: Readonly<Record<string, string>> = {
  message: 'msg',
  reasoning: 'rs',
  function_call: 'fc',
  function_call_output: 'fco',
};
