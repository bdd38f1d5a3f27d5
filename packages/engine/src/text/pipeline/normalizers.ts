import type { ConfigReader } from '../../models/config-reader.ts';
import { patternOf, WHITE_SPACE } from './patterns.ts';
import { precompiled } from './precompiled.ts';
import { byteLevelText, stepsOf, unsupportedStep } from './steps.ts';

/** What is done to text before it is split. */
export type Normalize = (text: string) => string;

const UNCHANGED: Normalize = (text) => text;
const FORMS: readonly string[] = ['NFC', 'NFD', 'NFKC', 'NFKD'];
const LEADING_SPACE = new RegExp(`^[${WHITE_SPACE}]+`, 'u');
const TRAILING_SPACE = new RegExp(`[${WHITE_SPACE}]+$`, 'u');
const ANY_SPACE = new RegExp(`[${WHITE_SPACE}]`, 'gu');

/** Characters one by one: a sigma at a word's end becomes the same as any other. */
function lowerCase(text: string): string {
  return text.includes('\u03a3')
    ? Array.from(text, (character) => character.toLowerCase()).join('')
    : text.toLowerCase();
}

function strip(step: ConfigReader): Normalize {
  const left = step.boolean('strip_left', true);
  const right = step.boolean('strip_right', true);
  return (text) => {
    const rest = left ? text.replace(LEADING_SPACE, '') : text;
    return right ? rest.replace(TRAILING_SPACE, '') : rest;
  };
}

const CONTROL = /(?![\t\n\r])[\p{C}\ufffd]/gu;
/** As the reference has them, one block's start mistyped. */
const CHINESE = new RegExp(
  '[\\u4e00-\\u9fff\\u3400-\\u4dbf\\uf900-\\ufaff' +
    '\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b81f}\\u{2b920}-\\u{2ceaf}\\u{2f800}-\\u{2fa1f}]',
  'gu',
);

function bert(step: ConfigReader): Normalize {
  const cleans = step.boolean('clean_text', true);
  const spaces = step.boolean('handle_chinese_chars', true);
  const lowers = step.boolean('lowercase', true);
  const strips = step.boolean('strip_accents', lowers);
  return (text) => {
    let result = text;
    if (cleans) result = result.replace(CONTROL, '').replace(ANY_SPACE, ' ');
    if (spaces) result = result.replace(CHINESE, ' $& ');
    if (strips) result = result.normalize('NFD').replace(/\p{Mn}/gu, '');
    return lowers ? lowerCase(result) : result;
  };
}

/** Some of the control characters. */
const NMT_CONTROL = /(?![\0\t\n\f\r\x80-\x8e\x90-\x9e])\p{Cc}/gu;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gu;

/** SentencePiece's preparation of text for machine translation. */
function nmt(text: string): string {
  return text.replace(NMT_CONTROL, '').replace(NMT_SPACES, ' ');
}

function replacing(step: ConfigReader): Normalize {
  const pattern = patternOf(step);
  const content = step.text('content');
  return (text) => text.replace(pattern, () => content);
}

/** The function of tokenizer.json's `normalizer`. Throws ModelError. */
export function normalizerOf(step: ConfigReader | undefined): Normalize {
  if (step === undefined) return UNCHANGED;
  const type = step.get('type');
  switch (type) {
    case 'Sequence': {
      const steps = stepsOf(step, 'normalizers').map(normalizerOf);
      return (text) => steps.reduce((result, normalize) => normalize(result), text);
    }
    case 'Prepend': {
      const prefix = step.text('prepend');
      return (text) => (text === '' ? text : prefix + text);
    }
    case 'Replace':
      return replacing(step);
    case 'Strip':
      return strip(step);
    case 'StripAccents':
      return (text) => text.replace(/\p{M}/gu, '');
    case 'Lowercase':
      return lowerCase;
    case 'BertNormalizer':
      return bert(step);
    case 'Nmt':
      return nmt;
    case 'ByteLevel':
      return byteLevelText;
    case 'Precompiled':
      return precompiled(step);
    default:
      if (typeof type === 'string' && FORMS.includes(type)) return (text) => text.normalize(type);
      throw unsupportedStep(step);
  }
}
