import { expect, test } from 'vitest';
import { SETTINGS } from '../settings/table.ts';
import { openModelText } from './model-text.ts';

test('long and short texts have the tokens the tokenizer gives them, in any order', async () => {
  const { encoder, tokenizer } = await openModelText(SETTINGS.model.default);
  const texts = [1, 700, 3, 2000, 900].map((times) => 'The sea was calm ☃. '.repeat(times));
  const encoded = await Promise.all(texts.map((text) => encoder.encode(text, true)));
  expect(encoded).toEqual(texts.map((text) => tokenizer.encode(text, true)));
  await encoder.close();
  expect(await encoder.encode(texts[1]!, false)).toEqual(tokenizer.encode(texts[1]!, false));
  await encoder.close();
});
