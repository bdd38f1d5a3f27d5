import type { Expression, Grammar, Tag } from '@bridgekeeper/engine/grammar';
import type { AnswerFormat, AnswerStart } from './answer-reader.ts';
import { type CallRules, CallWriter, choice, repeat, sequence, text } from './call-writer.ts';
import type { ToolFormat } from './calls.ts';
import { type FormatNames, formatOf } from './catalogue.ts';
import { HARMONY } from './harmony.ts';
import type { ReasoningFormat } from './reasoning.ts';

/** What an answer is held to, beside its content. Plain data: it may cross threads. */
export interface AnswerRules extends CallRules {
  /** Of the model's format. */
  readonly names: FormatNames;
  readonly reasoning: AnswerStart['reasoning'];
  /** Whether calls may come, or must; `never`: what looks like one is text. */
  readonly calls: 'never' | 'may' | 'must';
  /** Reasoning is counted: there must be some. */
  readonly hasBudget: boolean;
}

/** Between reasoning and what is held to something. */
const GAP = repeat(text('\n'), 0, 2);

/**
 * The grammar of an answer: reasoning, where the model reasons, then calls or content. `must` is
 * what the content must be where there is no call; undefined: any text. Throws GrammarError.
 */
export function answerGrammar(options: AnswerRules, must: Grammar | undefined): Grammar {
  const writer = new CallWriter(options);
  const content = must && writer.adopt(must, 'content');
  const format = formatOf(options.names);
  const outline =
    format?.kind === 'harmony'
      ? harmonyOutline(options, writer, content)
      : tagsOutline(options, writer, content, format);
  return outlined(outline, writer, options);
}

/** An answer's two regions. */
interface Outline {
  /** undefined: the answer does not reason. */
  readonly reasoning:
    | {
        /** What opens it; undefined: it is open. */
        readonly open: Expression | undefined;
        readonly body: Expression;
        readonly close: Expression;
      }
    | undefined;
  /** After reasoning, and without. */
  readonly body: Expression;
}

function outlined(
  { reasoning, body }: Outline,
  { rules }: CallWriter,
  { hasBudget, reasoning: before }: AnswerRules,
): Grammar {
  if (reasoning === undefined) return { root: body, rules };
  const { open, body: thoughts, close } = reasoning;
  const afterwards = sequence(GAP, body);
  if (open === undefined) {
    return { root: afterwards, rules, thinking: { body: thoughts, end: close } };
  }
  if (before === 'closed') return { root: body, rules };
  if (hasBudget) {
    const thinking = { begin: open, body: thoughts, end: close };
    return { root: afterwards, rules, thinking };
  }
  // Whether the model reasons is its own choice: there is nothing to count.
  rules.set('answer', body);
  const answer: Expression = { kind: 'rule', name: 'answer' };
  return { root: choice(sequence(open, thoughts, close, GAP, answer), answer), rules };
}

function tagsOutline(
  options: AnswerRules,
  writer: CallWriter,
  content: Expression | undefined,
  format: Extract<AnswerFormat, { kind: 'tags' }> | undefined,
): Outline {
  const tools = options.calls === 'never' ? undefined : format?.tools;
  const triggers = (tools?.triggers ?? []).map((trigger) => writer.tag(trigger));
  const body = tagsBody(options, writer, content, tools, triggers);
  const { reasoning } = format ?? {};
  if (reasoning === undefined) return { reasoning: undefined, body };
  const { open, close, label } = reasoning satisfies ReasoningFormat;
  const end = writer.tag(close);
  // A tag that is a token ends reasoning where it stands, so none may be in it.
  const stops = [end, ...triggers.filter(({ kind }) => kind === 'token')];
  const isOpen = options.reasoning === 'open';
  const opening = label === undefined ? writer.tag(open) : sequence(writer.tag(open), label);
  return {
    reasoning: {
      open: isOpen ? undefined : opening,
      body: { kind: 'free', tags: stops },
      close: end,
    },
    body,
  };
}

function tagsBody(
  { calls, isParallel }: AnswerRules,
  writer: CallWriter,
  content: Expression | undefined,
  tools: ToolFormat | undefined,
  triggers: readonly Tag[],
): Expression {
  const free: Expression = { kind: 'free', tags: triggers };
  if (tools === undefined) return content ?? free;
  writer.rules.set('calls', tools.write(writer));
  const called: Expression = { kind: 'rule', name: 'calls' };
  if (calls === 'must') return called;
  if (content !== undefined) return choice(called, content);
  if (tools.opening !== undefined) {
    const spaces = '\t\n\r ';
    return choice(called, repeat(sequence(characterBut(tools.opening + spaces), free), 0, 1));
  }
  const maybe = (expression: Expression) => repeat(expression, 0, 1);
  if (!isParallel) return sequence(free, maybe(called));
  // Text behind calls begins with what no further call begins with: it is told by one character.
  const starts = triggers.map((each) => (each.kind === 'text' ? each.text[0]! : '')).join('');
  const tail = sequence(characterBut(`\n${starts}`), free);
  const rest = sequence(repeat(sequence(tail, called), 0), maybe(tail));
  return sequence(free, maybe(sequence(called, rest)));
}

function harmonyOutline(
  { calls }: AnswerRules,
  writer: CallWriter,
  content: Expression | undefined,
): Outline {
  const { analysis, message, next, write } = HARMONY;
  const final = message(writer, 'final', content);
  const reasoning = { ...analysis(writer), close: next(writer) };
  if (calls === 'never') return { reasoning, body: final };
  const called = write(writer);
  if (calls === 'must') return { reasoning, body: called };
  writer.rules.set('calls', called);
  const preamble = sequence(message(writer, 'commentary', undefined), next(writer));
  const call: Expression = { kind: 'rule', name: 'calls' };
  return { reasoning, body: choice(final, call, sequence(preamble, choice(final, call))) };
}

/** One character, none of these. */
function characterBut(excluded: string): Expression {
  const points = [...new Set(excluded)].map((each) => each.codePointAt(0)!).sort((a, b) => a - b);
  const ranges: (readonly [number, number])[] = [];
  let first = 0;
  for (const point of [...points, 0x110000]) {
    if (point > first) ranges.push([first, point - 1]);
    first = point + 1;
  }
  return { kind: 'character', ranges };
}
