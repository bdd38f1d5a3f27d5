import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Dict, readJsonValue } from '@bridgekeeper/engine/text';
import { expect, test, vi } from 'vitest';
import type { ServerContext } from './openai/context.ts';
import { promptOf } from './openai/conversation-prompt.ts';
import { SETTINGS } from './settings/table.ts';
import { openModelText } from './text/model-text.ts';

const THREAD = new URL('./text-worker.js', import.meta.url);

test('long and short texts have the tokens the tokenizer gives them, in any order', async () => {
  const { encoder, tokenizer } = await openModelText(SETTINGS.model.default, { thread: THREAD });
  const texts = [1, 700, 3, 2000, 900].map((times) => 'The sea was calm ☃. '.repeat(times));
  const encoded = await Promise.all(texts.map((text) => encoder.encode(text, true)));
  expect(encoded).toEqual(texts.map((text) => tokenizer.encode(text, true)));
  await encoder.close();
  expect(await encoder.encode(texts[1]!, false)).toEqual(tokenizer.encode(texts[1]!, false));
  await encoder.close();
});

test('short texts of one turn are encoded here up to a bound, whoever they are of', async () => {
  const { encoder, tokenizer } = await openModelText(SETTINGS.model.default, { thread: THREAD });
  const here = vi.spyOn(tokenizer, 'encode');
  const decodedHere = vi.spyOn(tokenizer, 'decode');
  const charactersHere = () => here.mock.calls.reduce((sum, [text]) => sum + text.length, 0);
  const text = 'sea '.repeat(250);
  const encoded = await Promise.all(Array.from({ length: 20 }, () => encoder.encode(text, true)));
  expect(charactersHere()).toBeLessThanOrEqual(2048);
  await new Promise((resume) => setImmediate(resume));
  const before = charactersHere();
  await encoder.encode(text, true);
  expect(charactersHere() - before).toBe(text.length);
  expect(encoded).toEqual(Array(20).fill(tokenizer.encode(text, true)));
  await new Promise((resume) => setImmediate(resume));
  const tokens = Array.from({ length: 5000 }, (_, at) => 300 + (at % 3000));
  const [short, long] = await Promise.all([
    encoder.decode(tokens.slice(0, 100)),
    encoder.decode(tokens),
  ]);
  expect(decodedHere.mock.calls.map(([ids]) => ids.length)).toEqual([100]);
  expect([short, long]).toEqual([
    tokenizer.decode(tokens.slice(0, 100), false),
    tokenizer.decode(tokens, false),
  ]);
  await encoder.close();
});

test('the model is read once: what is there later is not looked at', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'text-worker-'));
  await cp(SETTINGS.model.default, folder, { recursive: true });
  const { encoder, tokenizer } = await openModelText(folder, { thread: THREAD });
  await rm(folder, { recursive: true });
  const text = 'sea '.repeat(3000);
  expect(await encoder.encode(text, true)).toEqual(tokenizer.encode(text, true));
  await encoder.close();
});

test('long conversations are rendered on the thread, refusals included', async () => {
  const text = await openModelText(SETTINGS.model.default, { thread: THREAD });
  const renderedHere = vi.spyOn(text.tokenizer, 'renderChat');
  const tokensOf = (content: string, more: object, maxModelTokens = 10_000) => {
    const request = { messages: [{ role: 'user', content }], ...more };
    const received = new TextEncoder().encode(JSON.stringify(request));
    const engine = { card: { maxModelTokens } };
    return promptOf({ engine, text } as ServerContext, request, received);
  };
  const tools = [{ description: 'x'.repeat(5000) }];
  const long = await tokensOf('The sea.', { tools });
  expect(renderedHere).not.toHaveBeenCalled();
  expect(long).toEqual(await tokensOf('The sea.', {}));
  expect(renderedHere).toHaveBeenCalledTimes(1);
  for (const more of [{}, { tools }]) {
    await expect(tokensOf('sea '.repeat(200), more, 10)).rejects.toMatchObject({
      code: 'context_length_exceeded',
      param: 'messages',
    });
    const bad = { ...more, continue_final_message: true };
    await expect(tokensOf('sea', bad)).rejects.toMatchObject({ code: 'invalid_value' });
    const taken = { ...more, chat_template_kwargs: { messages: 1 } };
    await expect(tokensOf('sea', taken)).rejects.toMatchObject({ code: 'bad-variable' });
  }
  await text.encoder.close();
});

test('so are those that are made of requests of other APIs', async () => {
  const text = await openModelText(SETTINGS.model.default, { thread: THREAD });
  const renderedHere = vi.spyOn(text.tokenizer, 'renderChat');
  const request = { messages: [{ role: 'user', content: 'The sea.' }] };
  const promptWith = (padding: number) => {
    const body = readJsonValue(
      `{"messages": [{"role": "user", "content": "The sea."}],
        "tools": [{"z": 1.0, "1": 12345678901234567890, "text": "${'☃'.repeat(padding)}"}]}`,
    );
    const engine = { card: { maxModelTokens: 10_000 } };
    return promptOf({ engine, text } as ServerContext, request as never, body as Dict);
  };
  const long = await promptWith(5000);
  expect(renderedHere).not.toHaveBeenCalled();
  expect(long).toEqual(await promptWith(1));
  expect(renderedHere).toHaveBeenCalledTimes(1);
  await text.encoder.close();
});
