import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ApiError } from '../http/errors.ts';
import { SETTINGS } from '../settings/table.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { renderConversation } from './conversation.ts';

/** Repeats what it is given. */
const TEMPLATE =
  '{{ messages | tojson }}|{{ tools | tojson if tools else "no tools" }}|' +
  '{{ add_generation_prompt }}|{{ colour | default("none") }}';

let folder: string;
let text: ModelText;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-conversation-'));
  for (const name of ['config.json', 'generation_config.json', 'tokenizer.json']) {
    await cp(join(SETTINGS.model.default, name), join(folder, name));
  }
  const configuration = JSON.stringify({ chat_template: TEMPLATE });
  await writeFile(join(folder, 'tokenizer_config.json'), configuration);
  text = await openModelText(folder);
});
afterAll(() => rm(folder, { recursive: true }));

type Conversation = Parameters<typeof renderConversation>[1];

/** What the template is given. */
function given(request: Conversation) {
  const parts = renderConversation(text, request).split('|');
  const [messages, tools, addGenerationPrompt, colour] = parts as [string, ...string[]];
  return { messages: JSON.parse(messages), tools, addGenerationPrompt, colour };
}

const contentOf = (content: Conversation['messages'][0]['content']) =>
  given({ messages: [{ role: 'user', content }] }).messages[0].content;

describe('a template is given', () => {
  test('messages as they are, with `system` for `developer`', () => {
    const messages = [
      { role: 'developer', content: 'a' },
      { role: 'user', content: 'b', name: 'Ann' },
      { role: 'assistant', content: 'c' },
    ];
    expect(given({ messages }).messages).toEqual([
      { role: 'system', content: 'a' },
      ...messages.slice(1),
    ]);
  });

  test('text, whatever form it came in', () => {
    expect(contentOf('a')).toBe('a');
    expect(contentOf(null)).toBe('');
    expect(contentOf(undefined)).toBe('');
    expect(contentOf([])).toBe('');
    expect(
      contentOf([
        { type: 'text', text: 'a' },
        { type: 'text', text: 'b' },
      ]),
    ).toBe('a\nb');
  });

  test('tools, its own variables, and that an answer is to follow', () => {
    const messages = [{ role: 'user', content: 'a' }];
    expect(given({ messages })).toMatchObject({
      tools: 'no tools',
      addGenerationPrompt: expect.stringMatching(/^true$/i),
      colour: 'none',
    });
    const tools = [{ type: 'function' }];
    const more = { add_generation_prompt: false, chat_template_kwargs: { colour: 'red' } };
    const all = given({ messages, tools, ...more });
    expect(JSON.parse(all.tools!)).toEqual(tools);
    expect(all).toMatchObject({
      addGenerationPrompt: expect.stringMatching(/^false$/i),
      colour: 'red',
    });
    const nulls = { tools: null, add_generation_prompt: null, chat_template_kwargs: null };
    expect(given({ messages, ...nulls })).toEqual(given({ messages }));
  });
});

test('a part that is no text is refused, with where it is', () => {
  const wrong = [{ type: 'text', text: 'a' }, { type: 'image_url' }];
  const messages = [
    { role: 'user', content: 'a' },
    { role: 'user', content: wrong },
  ];
  const refused = (parts: typeof wrong): ApiError => {
    try {
      renderConversation(text, { messages: [messages[0]!, { role: 'user', content: parts }] });
    } catch (error) {
      return error as ApiError;
    }
    throw new Error('it was accepted');
  };
  expect(refused(wrong)).toMatchObject({
    code: 'unsupported_value',
    param: 'messages.1.content.1',
    message: 'messages.1.content.1 must be a part of type "text".',
  });
  expect(refused([{ type: 'text' }] as never).param).toBe('messages.1.content.0');
  expect(refused([{ type: 'input_text', text: 'a' }]).param).toBe('messages.1.content.0');
});
