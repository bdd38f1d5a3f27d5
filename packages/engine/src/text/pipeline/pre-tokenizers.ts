import type { ConfigReader } from '../../models/config-reader.ts';
import { literally, PUNCTUATION, patternOf, WHITE_SPACE, WORD } from './patterns.ts';
import { byteLevelText, stepsOf, unsupportedStep } from './steps.ts';

/**
 * Splits text into the pieces that the model sees one by one. An empty one stands for text that was
 * removed. `isFirst`: the text begins the whole.
 */
export type PreTokenize = (text: string, isFirst: boolean) => string[];

/** What becomes of the pattern's matches. */
const BEHAVIORS = [
  'Removed',
  'Isolated',
  'MergedWithPrevious',
  'MergedWithNext',
  'Contiguous',
] as const;
type Behavior = (typeof BEHAVIORS)[number];

interface Span {
  text: string;
  readonly matched: boolean;
}

/** All of `text`, in spans that match and spans between them. */
function spansOf(text: string, pattern: RegExp, invert: boolean): Span[] {
  const spans: Span[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > end) spans.push({ text: text.slice(end, match.index), matched: invert });
    spans.push({ text: match[0], matched: !invert });
    end = match.index + match[0].length;
  }
  if (end < text.length) spans.push({ text: text.slice(end), matched: invert });
  return spans;
}

function merged(spans: readonly Span[], behavior: Behavior): readonly Span[] {
  switch (behavior) {
    case 'Removed':
      return spans.map((span) => (span.matched ? { ...span, text: '' } : span));
    case 'Isolated':
      return spans;
    case 'Contiguous':
      return joined(spans, (span, previous) => span.matched === previous);
    case 'MergedWithPrevious':
      return joined(spans, (span, previous) => span.matched && !previous);
    case 'MergedWithNext': {
      const backwards = joined(
        [...spans].reverse(),
        (span, previous) => span.matched && !previous,
        true,
      );
      return backwards.reverse();
    }
  }
}

/** Joins each span that `joins` to the one before it, or, from the end, to the one after it. */
function joined(
  spans: readonly Span[],
  joins: (span: Span, previousMatched: boolean) => boolean,
  fromEnd = false,
): Span[] {
  const result: Span[] = [];
  let previousMatched = false;
  for (const span of spans) {
    const last = result.at(-1);
    if (last !== undefined && joins(span, previousMatched)) {
      last.text = fromEnd ? span.text + last.text : last.text + span.text;
    } else {
      result.push({ ...span });
    }
    previousMatched = span.matched;
  }
  return result;
}

function splitting(pattern: RegExp, behavior: Behavior, invert = false): PreTokenize {
  return (text) => {
    const pieces: string[] = [];
    for (const span of merged(spansOf(text, pattern, invert), behavior)) {
      if (span.text !== '' || behavior === 'Removed') pieces.push(span.text);
    }
    return pieces;
  };
}

function behaviorOf(step: ConfigReader, fallback?: Behavior): Behavior {
  const behavior = step.choice('behavior', BEHAVIORS, fallback);
  if (behavior !== undefined) return behavior;
  throw step.error('malformed', 'behavior', `is missing: ${BEHAVIORS.join(', ')}`);
}

const GPT2_WORDS = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${WHITE_SPACE}\\p{L}\\p{N}]+` +
    `|[${WHITE_SPACE}]+(?![^${WHITE_SPACE}])|[${WHITE_SPACE}]+`,
  'gu',
);

function byteLevel(step: ConfigReader): PreTokenize {
  const addsSpace = step.boolean('add_prefix_space', true);
  const splits = step.boolean('use_regex', true);
  return (text) => {
    const whole = addsSpace && !text.startsWith(' ') ? ` ${text}` : text;
    // Whatever the expression does not match would be lost, and it matches everything.
    const words = splits ? (whole.match(GPT2_WORDS) ?? []) : [whole];
    return words.map(byteLevelText);
  };
}

function metaspace(step: ConfigReader): PreTokenize {
  const mark = step.text('replacement', '\u2581');
  const legacy = step.boolean('add_prefix_space', true) ? 'always' : 'never';
  const scheme = step.choice('prepend_scheme', ['always', 'first', 'never'], legacy);
  const splits = step.boolean('split', true);
  const beforeMarks = new RegExp(`(?=${literally(mark)})`, 'u');
  return (text, isFirst) => {
    let marked = text.replaceAll(' ', mark);
    const prepends = scheme === 'always' || (scheme === 'first' && isFirst);
    if (prepends && !marked.startsWith(mark)) marked = mark + marked;
    return splits ? marked.split(beforeMarks) : [marked];
  };
}

function fixedLength(step: ConfigReader): PreTokenize {
  const length = step.integer('length', 1, 5);
  const chunk = new RegExp(`[^]{1,${length}}`, 'gu');
  return (text) => text.match(chunk) ?? [];
}

const SPACES = new RegExp(`[${WHITE_SPACE}]`, 'gu');
const MARKS = new RegExp(`[${PUNCTUATION}]`, 'gu');
const WORDS = new RegExp(`[${WORD}]+|[^${WORD}${WHITE_SPACE}]+`, 'gu');
const NUMERALS = /\p{N}/gu;

function sequence(steps: readonly PreTokenize[]): PreTokenize {
  return (text, isFirst) => {
    let pieces = [text];
    for (const split of steps) {
      pieces = pieces.flatMap((piece, index) =>
        piece === '' ? [''] : split(piece, isFirst && index === 0),
      );
    }
    return pieces;
  };
}

/** The function of tokenizer.json's `pre_tokenizer`. Throws ModelError. */
export function preTokenizerOf(step: ConfigReader | undefined): PreTokenize {
  if (step === undefined) return (text) => [text];
  switch (step.get('type')) {
    case 'Sequence':
      return sequence(stepsOf(step, 'pretokenizers').map(preTokenizerOf));
    case 'ByteLevel':
      return byteLevel(step);
    case 'Metaspace':
      return metaspace(step);
    case 'Split':
      return splitting(patternOf(step), behaviorOf(step), step.boolean('invert', false));
    case 'Digits':
      return splitting(
        NUMERALS,
        step.boolean('individual_digits', false) ? 'Isolated' : 'Contiguous',
      );
    case 'Punctuation':
      return splitting(MARKS, behaviorOf(step, 'Isolated'));
    case 'Whitespace':
      return splitting(WORDS, 'Removed', true);
    case 'WhitespaceSplit':
      return splitting(SPACES, 'Removed');
    case 'BertPreTokenizer':
      return sequence([splitting(SPACES, 'Removed'), splitting(MARKS, 'Isolated')]);
    case 'CharDelimiterSplit': {
      const delimiter = step.text('delimiter');
      return (text) => text.split(delimiter);
    }
    case 'FixedLength':
      return fixedLength(step);
    default:
      throw unsupportedStep(step);
  }
}
