import { expect, test, vi } from 'vitest';
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
