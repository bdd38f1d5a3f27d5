import { hash32 } from '@bridgekeeper/device';

/** Texts of many scripts, with what tokenizers treat specially. Equal seeds give equal texts. */

const FRAGMENTS = [
  'the',
  'The quick brown fox',
  'HELLO World',
  "don't",
  "we'll we've I'm",
  'naïve café',
  'cafe\u0301 e\u0302\u0323',
  'ΟΔΟΣ όδος Σ',
  'İstanbul ıi',
  'straße ﬁne Ｆｕｌｌ',
  'привет мир',
  'Ёлка ё',
  'שלום עולם',
  'مرحبا بِكُم',
  'नमस्ते दुनिया',
  'ภาษาไทย',
  '한국어 각',
  '漢字かなカナ',
  '𠀀𠮷',
  '👍🏽👩‍👩‍👧',
  '0',
  '12',
  '3.14159',
  '٣٤',
  '½²Ⅷ㊿',
  '१२३',
  ' ',
  '  ',
  '   ',
  '\n',
  '\n\n',
  '\t',
  '\r\n',
  '\u00a0',
  '\u0085',
  '\u2003',
  '\ufeff',
  '\u200b',
  '\u200d',
  '\u0000',
  '\u0007',
  '\ufffd',
  '.',
  '...',
  ',!',
  '?!',
  '--',
  '$%^',
  '`~|',
  '¿¡«»',
  '、。',
  '_a_b',
  '(x[1])',
  'a-b',
  "'",
  '"',
  '\u2581',
  '\u2581\u2581a',
  '<0x41>',
  '##ing',
  '<s>',
  '</s>',
  '<unk>',
  '[MASK]',
  '<mark>',
  'whole',
  'Norm',
  'norm',
] as const;

/** Every character that the texts have. */
export const CHARACTERS: readonly string[] = [...new Set(FRAGMENTS.join(''))];

export function randomText(seed: number): string {
  const draw = (counter: number, below: number) => (hash32(seed, 4, counter) >>> 0) % below;
  const count = 1 + draw(0, 12);
  let text = '';
  for (let i = 0; i < count; i++) text += FRAGMENTS[draw(2 * i + 1, FRAGMENTS.length)]!;
  return text;
}
