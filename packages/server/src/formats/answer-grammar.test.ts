import {
  compileGrammar,
  type Grammar,
  GrammarError,
  schemaGrammar,
} from '@bridgekeeper/engine/grammar';
import { placeAfter, placeBefore, sampleBytes } from '@bridgekeeper/engine/testing';
import { readJsonValue } from '@bridgekeeper/engine/text';
import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { type AnswerRules, answerGrammar } from './answer-grammar.ts';
import {
  type AnswerFormat,
  AnswerReader,
  type AnswerStart,
  startOf,
  tagsOf,
} from './answer-reader.ts';
import type { GrammarTool } from './call-writer.ts';
import { type FormatNames, formatOf, type ToolParserName } from './catalogue.ts';
import { type AnswerPart, textOf } from './parts.ts';
import { TagMarks } from './tags.ts';

const WEATHER: GrammarTool = {
  name: 'get_weather',
  isStrict: true,
  parameters: {
    type: 'object',
    properties: {
      city: { type: 'string' },
      unit: { enum: ['celsius', 'kelvin'] },
      days: { type: 'integer' },
      place: {
        type: 'object',
        properties: { lat: { type: 'number' }, tags: { type: 'array', items: { type: 'string' } } },
        required: ['lat', 'tags'],
        additionalProperties: false,
      },
    },
    required: ['city', 'place'],
    additionalProperties: false,
  },
};
const NOW: GrammarTool = { name: 'now', isStrict: false, parameters: undefined };

const INTEGER = schemaGrammar(readJsonValue('{"type": "integer"}'));

/** A small generator (mulberry32): the same samples each time. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Model {
  readonly format: AnswerFormat;
  readonly marks: TagMarks;
  readonly start: AnswerStart;
  readonly rules: AnswerRules;
  readonly grammar: Grammar;
}

interface ModelOptions extends Partial<AnswerRules> {
  readonly prompt?: string;
  readonly areTokens?: boolean;
  readonly content?: Grammar;
}

function model(names: FormatNames, more: ModelOptions): Model {
  const { prompt = '', areTokens = true, content, ...rest } = more;
  const format = formatOf(names)!;
  const tags = tagsOf(format);
  const marks = new TagMarks(tags, (tag) => (areTokens ? 100 + tags.indexOf(tag) : undefined));
  const start = startOf(format, prompt, undefined);
  const rules = {
    names,
    reasoning: start.reasoning,
    calls: 'must' as const,
    hasBudget: false,
    tools: [WEATHER, NOW],
    isParallel: true,
    tokens: marks.tokens,
    ...rest,
  };
  return { format, marks, start, rules, grammar: answerGrammar(rules, content) };
}

/** Bytes of a grammar's text, its control tokens as the marks of a reader. */
function markedText(bytes: Uint8Array, marks: TagMarks): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const next = bytes.indexOf(0xff, at);
    text += new TextDecoder().decode(bytes.subarray(at, next < 0 ? bytes.length : next));
    if (next < 0) return text;
    const [high, middle, low] = bytes.subarray(next + 1, next + 4) as unknown as number[];
    text += marks.ofToken((high! << 14) | (middle! << 7) | low!) ?? '';
    at = next + 4;
  }
  return text;
}

/** The other way: a text as a model writes it, as bytes. */
function bytesOf(text: string, marks: TagMarks): number[] {
  let bytes: number[] = [];
  for (let rest = text; rest !== ''; ) {
    const found = [...marks.tokens].find(([tag]) => rest.startsWith(tag));
    const id = found?.[1] ?? 0;
    const character = String.fromCodePoint(rest.codePointAt(0)!);
    bytes = bytes.concat(
      found ? [0xff, (id >> 14) & 127, (id >> 7) & 127, id & 127] : [...Buffer.from(character)],
    );
    rest = rest.slice((found?.[0] ?? character).length);
  }
  return bytes;
}

function read(marked: string, { format, marks, start, rules }: Model): readonly AnswerPart[] {
  const reader = new AnswerReader(format, marks, {
    tools: new Map(rules.tools.map(({ name, parameters }) => [name, parameters])),
    start,
    keepsCalls: true,
    newCallId: () => 'new',
  });
  reader.push(marked);
  reader.finish();
  return reader.take();
}

const validate = new Ajv({ strict: false }).compile(WEATHER.parameters as object);

/** The calls of an answer: each of a tool, with arguments that its schema lets through. */
function checkCalls(parts: readonly AnswerPart[]): number {
  let name = '';
  let count = 0;
  for (const part of parts) {
    if (part.kind === 'call') {
      name = part.name;
      count += 1;
    } else if (part.kind === 'arguments') {
      const given = JSON.parse(part.text);
      if (name === 'get_weather') expect(validate(given), part.text).toBe(true);
      else expect([name, typeof given]).toEqual(['now', 'object']);
    }
  }
  return count;
}

const SAMPLES = 5;
/** One name of each. */
const FORMATS = [
  'hermes',
  'qwen3_coder',
  'glm45',
  'llama3_json',
  'pythonic',
  'mistral',
  'deepseek_v3',
  'deepseek_v31',
  'kimi_k2',
  'functiongemma',
  'gemma4',
  'openai',
] as const satisfies readonly ToolParserName[];

describe.each(FORMATS)('calls as %s has them', (tools) => {
  const names = { tools, reasoning: undefined };

  test.each([true, false])(
    'that must come are nothing but calls (tags are tokens: %s)',
    (areTokens) => {
      const subject = model(names, { areTokens });
      const { grammar } = subject;
      expect(compileGrammar(grammar).length).toBeGreaterThan(0);
      for (let seed = 0; seed < SAMPLES; seed++) {
        const text = markedText(sampleBytes(grammar, { random: randomOf(seed) }), subject.marks);
        const parts = read(text, subject);
        expect(checkCalls(parts), text).toBeGreaterThan(0);
        expect(textOf(parts, 'text'), text).toBe('');
      }
    },
  );

  test('that may come are whole, with any text around them', () => {
    const subject = model(names, { calls: 'may' });
    const { grammar } = subject;
    expect(compileGrammar(grammar).length).toBeGreaterThan(0);
    for (let seed = 0; seed < SAMPLES; seed++) {
      const text = markedText(sampleBytes(grammar, { random: randomOf(seed) }), subject.marks);
      checkCalls(read(text, subject));
    }
    if (subject.format.kind === 'harmony') return;
    const said = bytesOf('Just text, and { [ < no call.', subject.marks);
    expect(placeAfter(placeBefore(grammar), said)?.canEnd).toBe(true);
  });

  test('come alone where there may be one', () => {
    const subject = model(names, { isParallel: false });
    const { grammar } = subject;
    for (let seed = 0; seed < SAMPLES; seed++) {
      const text = markedText(sampleBytes(grammar, { random: randomOf(seed) }), subject.marks);
      expect(checkCalls(read(text, subject)), text).toBe(1);
    }
  });
});

/** As models write them: a grammar must not stand in their way. */
const WRITTEN: readonly (readonly [ToolParserName, string])[] = [
  [
    'hermes',
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bath", "place": {"lat": ' +
      '1.5, "tags": []}}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": ' +
      '{}}\n</tool_call>',
  ],
  [
    'qwen3_coder',
    '<tool_call>\n<function=get_weather>\n<parameter=city>\nBath\n</parameter>' +
      '\n<parameter=unit>\nkelvin\n</parameter>\n<parameter=place>\n{"lat": 1.5, "tags": ' +
      '["x"]}\n</parameter>\n</function>\n</tool_call>',
  ],
  [
    'glm45',
    '<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Bath</arg_value>' +
      '\n<arg_key>place</arg_key>\n<arg_value>{"lat": 1.5, "tags": []}</arg_value>' +
      '\n</tool_call>',
  ],
  ['llama3_json', '{"name": "now", "parameters": {}}; {"name": "now", "parameters": {"x": 1}}'],
  ['pythonic', '[get_weather(city="Bath", place={"lat": 1.5, "tags": []}), now()]'],
  ['mistral', '[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]now[ARGS]{"x": 1}'],
  [
    'deepseek_v3',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>' +
      'now\n```json\n{}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>' +
      'now\n```json\n{"x": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  [
    'deepseek_v31',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  [
    'kimi_k2',
    '<|tool_calls_section_begin|><|tool_call_begin|>' +
      'functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>' +
      '<|tool_calls_section_end|>',
  ],
  [
    'gemma4',
    '<|tool_call>call:get_weather{city:<|"|>Bath<|"|>,place:{lat:1.5,tags:[<|"|>x<|"|>' +
      ']}}<tool_call|><|tool_call>call:now{}<tool_call|>',
  ],
  [
    'openai',
    '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary ' +
      'to=functions.now <|constrain|>json<|message|>{}',
  ],
];

test.each(WRITTEN)('a grammar admits what a model writes: %s', (tools, text) => {
  for (const calls of ['must', 'may'] as const) {
    const { grammar, marks } = model({ tools, reasoning: undefined }, { calls });
    const place = placeAfter(placeBefore(grammar), bytesOf(text, marks));
    expect([calls, place?.canEnd]).toEqual([calls, true]);
  }
});

describe('what is held comes after reasoning', () => {
  const names = { tools: 'hermes', reasoning: 'qwen3' } as const;
  const call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>';
  const admits = (text: string, more: ModelOptions) => {
    const { grammar, marks } = model(names, more);
    compileGrammar(grammar);
    return placeAfter(placeBefore(grammar), bytesOf(text, marks))?.canEnd === true;
  };

  test('that the prompt opened, that it closed, and that the model opens or not', () => {
    const open = { prompt: '<think>\n' };
    expect(admits(`so {</think>\n\n${call}`, open)).toBe(true);
    expect(admits(call, open)).toBe(false);
    expect(admits(`${call}</think>\n\n${call}`, open)).toBe(false);
    const closed = { prompt: '<think>\n\n</think>\n\n' };
    expect(admits(call, closed)).toBe(true);
    expect(admits(`<think>so</think>${call}`, closed)).toBe(false);
    expect(admits(call, {})).toBe(true);
    expect(admits(`<think>so</think>\n\n${call}`, {})).toBe(true);
  });

  test('and reasoning that is counted is apart', () => {
    const thinking = (more: ModelOptions) => model(names, more).grammar.thinking;
    const end = { kind: 'token' };
    expect(thinking({ prompt: '<think>\n' })).toMatchObject({ end });
    expect(thinking({})).toBeUndefined();
    expect(thinking({ hasBudget: true, calls: 'never' })).toMatchObject({ end });
    expect(thinking({ hasBudget: true, prompt: '<think>\n\n</think>\n' })).toBeUndefined();
    const free = { calls: 'never', hasBudget: true, prompt: '<think>\n' } as const;
    expect(admits('so</think>anything <tool_call>', free)).toBe(true);
  });

  test('content or a call, where content is held too', () => {
    const content = INTEGER;
    expect(admits('12', { calls: 'may', content })).toBe(true);
    expect(admits(call, { calls: 'may', content })).toBe(true);
    expect(admits('twelve', { calls: 'may', content })).toBe(false);
    expect(admits('<think>x</think>12', { calls: 'never', content })).toBe(true);
    const harmony = model({ tools: 'openai', reasoning: undefined }, { calls: 'never', content });
    const place = placeBefore(harmony.grammar);
    const said = (text: string) => placeAfter(place, bytesOf(text, harmony.marks))?.canEnd;
    const reasoned = '<|channel|>analysis<|message|>hm<|end|><|start|>assistant';
    expect(said(`${reasoned}<|channel|>final<|message|>12`)).toBe(true);
    expect(said('<|channel|>final<|message|>12')).toBe(true);
    expect(said('<|channel|>final<|message|>twelve')).toBeUndefined();
  });
});

test.each(['qwen3_coder', 'glm45', 'gemma4'] as const)(
  'text without quotes is held to its bounds: %s',
  (tools) => {
    const properties = {
      code: { type: 'string', pattern: '^[A-Z]{2}\\d$' },
      day: { type: 'string', format: 'date' },
      note: { type: 'string', minLength: 2, maxLength: 4 },
    };
    const schema = { type: 'object', properties, required: Object.keys(properties) };
    const tool = { name: 'now', isStrict: true, parameters: schema };
    const subject = model({ tools, reasoning: undefined }, { tools: [tool], isParallel: false });
    expect(compileGrammar(subject.grammar).length).toBeGreaterThan(0);
    for (let seed = 0; seed < SAMPLES; seed++) {
      const bytes = sampleBytes(subject.grammar, { random: randomOf(seed) });
      const [, given] = read(markedText(bytes, subject.marks), subject);
      const { code, day, note } = JSON.parse(given?.kind === 'arguments' ? given.text : '');
      expect(code).toMatch(/^[A-Z]{2}\d$/);
      expect(day).toMatch(/^\d{4}-\d\d-\d\d$/);
      expect([2, 3, 4]).toContain([...note].length);
    }
  },
);

test('values in braces follow references, options and bounds', () => {
  const node = {
    type: 'object',
    properties: {
      depth: { type: 'integer', minimum: 3, maximum: 5 },
      next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] },
      tags: { type: 'array', items: { enum: ['a', 'b'] }, minItems: 1, maxItems: 2 },
    },
    required: ['depth', 'next', 'tags'],
  };
  const schema = {
    type: 'object',
    properties: { node: { $ref: '#/$defs/node' } },
    required: ['node'],
    $defs: { node },
  };
  const tool = { name: 'now', isStrict: true, parameters: schema };
  const names = { tools: 'gemma4', reasoning: undefined } as const;
  const subject = model(names, { tools: [tool], isParallel: false });
  expect(compileGrammar(subject.grammar).length).toBeGreaterThan(0);
  const isNode = new Ajv().compile(schema);
  for (let seed = 0; seed < 2 * SAMPLES; seed++) {
    const bytes = sampleBytes(subject.grammar, { random: randomOf(seed) });
    const [, given] = read(markedText(bytes, subject.marks), subject);
    const value = JSON.parse(given?.kind === 'arguments' ? given.text : '');
    expect(isNode(value), JSON.stringify(value)).toBe(true);
  }
});

test('a strict schema is never loosened, another one where it must be', () => {
  const a = { type: 'string', allOf: [{ minLength: 1 }] };
  const parameters = { type: 'object', properties: { a } };
  const making = (tools: ToolParserName, isStrict: boolean, schema: unknown = parameters) => {
    const own = { tools: [{ name: 'f', isStrict, parameters: schema }] };
    return () => model({ tools, reasoning: undefined }, own);
  };
  for (const tools of ['qwen3_coder', 'glm45', 'gemma4'] as const) {
    expect(making(tools, true)).toThrow(GrammarError);
    expect(making(tools, true)).toThrow(/strict schema of f has allOf at \/a/);
    expect(making(tools, false)).not.toThrow();
  }
  expect(making('hermes', true)).not.toThrow();
  const none = { type: 'object', required: ['a'], properties: { a: false } };
  expect(making('hermes', true, none)).toThrow(GrammarError);
  expect(making('hermes', false, none)).not.toThrow();
});
