import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import { SETTINGS } from '../settings/table.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { renderConversation } from './conversation.ts';
import { exactBody } from './exact-body.ts';
import { ChatCompletionRequest } from './schema/chat.ts';

/** Writes down everything that it is given. */
const TEMPLATE =
  '{{ messages }}{% if tools %}{{ tools|tojson }}{% endif %}{{ x }}' +
  '{% if documents %}{{ documents|tojson }}{% endif %}{{ reasoning_effort }}';

const folders: string[] = [];
const texts: ModelText[] = [];

/** The bundled model's, with another template. */
async function openWith(template: string): Promise<ModelText> {
  const folder = await mkdtemp(join(tmpdir(), 'conversation-'));
  folders.push(folder);
  for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    await cp(join(SETTINGS.model.default, name), join(folder, name));
  }
  await writeFile(join(folder, 'chat_template.jinja'), template);
  const opened = await openModelText(folder);
  texts.push(opened);
  return opened;
}

let text: ModelText;

beforeAll(async () => {
  text = await openWith(TEMPLATE);
});

afterAll(async () => {
  for (const { encoder } of texts) await encoder.close();
  for (const folder of folders) await rm(folder, { recursive: true });
});

const USER = '"messages": [{"role": "user", "content": "x"}]';

/** The prompt of a body, as its text. */
function render(body: string, model = text): string {
  const received = new TextEncoder().encode(body);
  const request = validate(ChatCompletionRequest, JSON.parse(body));
  return renderConversation(model, request, exactBody(received));
}

/** Of one message, beside its role. */
function renderMessage(fields: string): string {
  return render(`{"messages": [{"role": "assistant", ${fields}}]}`);
}

function refusal(
  body: string,
  model = text,
): { readonly status: number; readonly param: string | undefined } {
  try {
    render(body, model);
  } catch (error) {
    const { status, param, message } = toApiError(error);
    expect(message).not.toContain('secret');
    return { status, param };
  }
  throw new Error('nothing was refused');
}

describe('what templates are given of a request', () => {
  test('keys in their order, floats apart from ints, and integers whole', () => {
    const tools = '[{"type": "function", "10": 1.0, "9": {"b": 1, "a": 9007199254740993}}]';
    const variables = '{"x": {"2": 1e2, "1": [0.50]}}';
    const body = `{${USER}, "tools": ${tools}, "chat_template_kwargs": ${variables}}`;
    expect(render(body)).toBe(`[{'role': 'user', 'content': 'x'}]${tools}{'2': 100.0, '1': [0.5]}`);
  });

  test('arguments of tool calls as objects, whether they came as text or not', () => {
    for (const given of [
      '"{\\"b\\": 1.0, \\"1\\": 2, \\"0\\": null}"',
      '{"b": 1.0, "1": 2, "0": null}',
    ]) {
      const named = `{"name": "f", "arguments": ${given}}`;
      const call = `{"id": "c", "function": ${named}, "type": "function"}`;
      expect(renderMessage(`"content": null, "tool_calls": [${call}]`)).toBe(
        "[{'role': 'assistant', 'content': '', 'tool_calls': [{'id': 'c', 'function': " +
          "{'name': 'f', 'arguments': {'b': 1.0, '1': 2, '0': None}}, 'type': 'function'}]}]",
      );
    }
  });

  test.each(['"arguments": ""', '"arguments": null', '"strict": true'])(
    'no arguments are an empty object: %s',
    (given) => {
      const rendered = renderMessage(`"content": "", "tool_calls": [{"function": {${given}}}]`);
      expect(rendered).toContain("'arguments': {}");
    },
  );

  test('reasoning has both of its names', () => {
    for (const name of ['reasoning', 'reasoning_content']) {
      const rendered = renderMessage(`"content": "a", "${name}": "why"`);
      expect(rendered).toContain("'reasoning': 'why'");
      expect(rendered).toContain("'reasoning_content': 'why'");
    }
    expect(renderMessage('"content": "a", "reasoning": "x", "reasoning_content": "y"')).toBe(
      "[{'role': 'assistant', 'content': 'a', 'reasoning': 'x', 'reasoning_content': 'y'}]",
    );
  });

  test('what is null, and an empty list of calls, is not there', () => {
    const nulls = '"name": null, "refusal": null, "tool_calls": [], "reasoning": null';
    expect(renderMessage(`"content": "a", ${nulls}`)).toBe(
      "[{'role': 'assistant', 'content': 'a'}]",
    );
  });

  test('documents, and a reasoning effort before the one among the variables', () => {
    const documents = '[{"title": "t", "2": 1.0}]';
    const plain = render(`{${USER}}`);
    expect(render(`{${USER}, "documents": ${documents}}`)).toBe(plain + documents);
    const variables = '"chat_template_kwargs": {"reasoning_effort": "low", "x": 1}';
    expect(render(`{${USER}, ${variables}}`)).toBe(`${plain}1low`);
    expect(render(`{${USER}, ${variables}, "reasoning_effort": "high"}`)).toBe(`${plain}1high`);
    expect(render(`{${USER}, "reasoning_effort": null, "documents": null}`)).toBe(plain);
  });

  test('parts of text and refusals are joined', () => {
    const parts = '[{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]';
    expect(renderMessage(`"content": ${parts}`)).toContain("'content': 'a\\nb'");
  });
});

describe('refusals name the place and quote nothing', () => {
  const call = (args: string) => {
    const calls = `[{"function": {"arguments": "{}"}}, {"function": {"arguments": ${args}}}]`;
    const answer = `{"role": "assistant", "content": null, "tool_calls": ${calls}}`;
    return `{"messages": [{"role": "user", "content": "x"}, ${answer}]}`;
  };

  test.each(['"secret"', '"[1]"', '"{\\"a\\": secret}"', '"1"', '"null"', '7', '[1]'])(
    'arguments that are no JSON object: %s',
    (args) => {
      const param = 'messages.1.tool_calls.1.function.arguments';
      expect(refusal(call(args))).toEqual({ status: 400, param });
    },
  );

  test('nesting is bounded, in a body and in arguments', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(refusal(`{${USER}, "tools": [{"a": ${deep}}]}`).status).toBe(400);
    expect(refusal(`{${USER}, "chat_template_kwargs": {"x": ${deep}}}`).status).toBe(400);
    expect(refusal(call(JSON.stringify(`{"a": ${deep}}`))).status).toBe(400);
  });

  test('variables that templates rely on cannot be replaced', () => {
    const body = `{${USER}, "chat_template_kwargs": {"range": "secret"}}`;
    expect(refusal(body)).toEqual({ status: 400, param: 'messages' });
  });
});

describe('a final message that is continued', () => {
  const conversation = (content: string) =>
    `{"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": ` +
    `${JSON.stringify(content)}}], "continue_final_message": true, "add_generation_prompt": false}`;
  const TURNS = '{% for m in messages %}<{{ m.role }}>{{ m.content CUT }}</>{% endfor %}';

  test('is where the prompt ends, with the space that the template leaves it', async () => {
    const kept = await openWith(TURNS.replace('CUT', ''));
    const trimmed = await openWith(TURNS.replace('CUT', '| trim'));
    const head = '<user>a b</><assistant>';
    expect(render(conversation('a b'), kept)).toBe(`${head}a b`);
    expect(render(conversation(' a b\n '), kept)).toBe(`${head} a b\n `);
    expect(render(conversation(' a b\n '), trimmed)).toBe(`${head}a b`);
    expect(render(conversation(''), kept)).toBe(head);
  });

  test('is refused where the template leaves it out, and without content', async () => {
    const first = await openWith('{{ messages[0].content }}');
    const refused = { status: 400, param: 'continue_final_message' };
    expect(refusal(conversation('secret'), first)).toEqual(refused);
    expect(refusal(conversation('').replace('""', 'null'), text)).toEqual(refused);
  });
});
