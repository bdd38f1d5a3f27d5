import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import type { ConfigReader } from '../../models/config-reader.ts';

/** Character classes as Rust and Oniguruma have them, for the inside of brackets. */
export const WHITE_SPACE = '\\p{White_Space}';
export const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
export const PUNCTUATION = '\\p{P}!-\\/:-@\\[-`\\{-~';

/**
 * Oniguruma's syntax as JavaScript's: the library's own translation, which it keeps to itself.
 */
function translated(source: string): RegExp {
  const splitting = { type: 'Split', pattern: { Regex: source }, behavior: 'Isolated' };
  const { pre_tokenizer } = new HuggingFaceTokenizer(
    {
      model: { type: 'BPE', vocab: {}, merges: [] },
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { ...splitting, invert: false },
      post_processor: null,
      decoder: null,
    },
    {},
  );
  return (pre_tokenizer as unknown as { readonly pattern: RegExp }).pattern;
}

/** The source of an expression that matches `text` and nothing else. */
export function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}

/** The pattern under "pattern": {String} or {Regex}. Throws ModelError. */
export function patternOf(step: ConfigReader): RegExp {
  const pattern = step.object('pattern');
  const literal = pattern?.get('String');
  if (typeof literal === 'string' && literal !== '') {
    return new RegExp(literally(literal), 'gu');
  }
  const source = pattern?.get('Regex');
  if (typeof source !== 'string') {
    throw step.error('malformed', 'pattern', 'must be {"String": text} or {"Regex": text}');
  }
  try {
    return translated(source);
  } catch {
    throw step.error('unsupported', 'pattern', 'is an expression that cannot be translated');
  }
}
