import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AnswerFormat, AnswerReader, startOf, tagsOf } from './answer-reader.ts';
import { formatOf, type ReasoningParserName, type ToolParserName } from './catalogue.ts';
import type { AnswerPart } from './parts.ts';
import { TagMarks } from './tags.ts';

interface Call {
  name: string;
  /** The model's own. */
  id?: string;
  arguments: string;
}

interface Answer {
  content: string;
  reasoning: string;
  calls: Call[];
}

const WEATHER = {
  type: 'object',
  properties: {
    city: { type: 'string' },
    days: { type: 'integer' },
    metric: { type: 'boolean' },
    note: { anyOf: [{ type: 'string' }, { type: 'null' }] },
    places: { type: 'array', items: { $ref: '#/$defs/place' } },
    place: { $ref: '#/$defs/place' },
  },
  $defs: { place: { type: 'object', properties: { name: { type: 'string' } } } },
};
const TOOLS = new Map<string, unknown>([
  ['get_weather', WEATHER],
  ['now', undefined],
]);

function fold(parts: readonly AnswerPart[]): Answer {
  const answer: Answer = { content: '', reasoning: '', calls: [] };
  for (const part of parts) {
    const last = answer.calls.at(-1);
    if (part.kind === 'text') answer.content += part.text;
    else if (part.kind === 'reasoning') answer.reasoning += part.text;
    else if (part.kind === 'call') {
      const { name, id } = part;
      answer.calls.push({ name, ...(id === 'new' ? {} : { id }), arguments: '' });
    } else last!.arguments += part.text;
  }
  return answer;
}

interface Reading {
  readonly tools?: ToolParserName;
  readonly reasoning?: ReasoningParserName;
  readonly prompt?: string;
  /** Tags are tokens of the model; otherwise text like any other. */
  readonly areTokens?: boolean;
  readonly keepsCalls?: boolean;
  readonly readsCalls?: boolean;
}

function parts(pieces: readonly string[], reading: Reading): readonly AnswerPart[] {
  const { tools, reasoning, prompt = '', areTokens = true, keepsCalls = false } = reading;
  const format = formatOf({ tools, reasoning }) as AnswerFormat;
  const tags = tagsOf(format);
  const marks = new TagMarks(tags, (tag) => (areTokens ? tags.indexOf(tag) : undefined));
  const reader = new AnswerReader(format, marks, {
    tools: reading.readsCalls === false ? undefined : TOOLS,
    start: startOf(format, prompt, undefined),
    keepsCalls,
    newCallId: () => 'new',
  });
  const all: AnswerPart[] = [];
  for (const piece of pieces) {
    reader.push(areTokens ? marks.marked(piece) : piece);
    all.push(...reader.take());
  }
  reader.finish();
  return [...all, ...reader.take()];
}

const read = (text: string, reading: Reading) => fold(parts([text], reading));

/** What a model writes, and what it says. */
const CASES: readonly (readonly [string, Reading, string, Partial<Answer>])[] = [
  [
    'hermes: two calls after text',
    { tools: 'hermes' },
    'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "São Paulo ' +
      '☃", "days": 3}}\n</tool_call>\n<tool_call>\n{"name": "now", "arguments": ' +
      '{}}\n</tool_call>',
    {
      content: 'Let me see.',
      calls: [
        { name: 'get_weather', arguments: '{"city": "São Paulo ☃", "days": 3}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'hermes: arguments before the name, and no closing tag',
    { tools: 'hermes' },
    '<tool_call>{"arguments": {"city": "a\\"}"}, "name": "get_weather"}',
    { content: '', calls: [{ name: 'get_weather', arguments: '{"city": "a\\"}"}' }] },
  ],
  [
    'qwen3 reasons, then calls',
    { tools: 'hermes', reasoning: 'qwen3' },
    '<think>\nThey want < the > weather.\n</think>\n\nHere:\n<tool_call>\n{"name": ' +
      '"now"}\n</tool_call>',
    {
      reasoning: 'They want < the > weather.',
      content: 'Here:',
      calls: [{ name: 'now', arguments: '{}' }],
    },
  ],
  [
    'reasoning that the prompt opened',
    { reasoning: 'qwen3', prompt: '<|im_start|>assistant\n<think>\n' },
    'So.\n</think>\n\n4',
    { reasoning: 'So.', content: '4' },
  ],
  [
    'qwen3_coder: values by their types',
    { tools: 'qwen3_coder' },
    '<tool_call>\n<function=get_weather>\n<parameter=city>\nBath\n"quoted"\n</parameter>' +
      '\n<parameter=days>\n3\n</parameter>\n<parameter=metric>\nTrue\n</parameter>' +
      '\n<parameter=note>\nnull\n</parameter>\n<parameter=places>\n[{"name": ' +
      "\"x\"}]\n</parameter>\n<parameter=place>\n{'name': 'y'}\n</parameter>\n</function>" +
      '\n</tool_call>',
    {
      calls: [
        {
          name: 'get_weather',
          arguments:
            '{"city":"Bath\\n\\"quoted\\"","days":3,"metric":true,"note":null,' +
            '"places":[{"name": "x"}],"place":{"name":"y"}}',
        },
      ],
    },
  ],
  [
    'qwen3_coder without the outer tag, without parameters',
    { tools: 'qwen3_xml' },
    '<function=now>\n</function>\n</tool_call>',
    { content: '', calls: [{ name: 'now', arguments: '{}' }] },
  ],
  [
    'glm45: keys and values',
    { tools: 'glm45', reasoning: 'glm45' },
    '\n<think>hm</think>\nOn it.\n<tool_call>get_weather\n<arg_key>city</arg_key>' +
      '\n<arg_value> Bath </arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>' +
      '\n</tool_call>\n<tool_call>now</tool_call>',
    {
      reasoning: 'hm',
      content: 'On it.',
      calls: [
        { name: 'get_weather', arguments: '{"city":" Bath ","days":2}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'llama3_json: several objects',
    { tools: 'llama3_json' },
    '{"name": "get_weather", "parameters": {"city": "Bath"}}; {"name": "now", "parameters": {}}',
    {
      content: '',
      calls: [
        { name: 'get_weather', arguments: '{"city": "Bath"}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'llama3_json: JSON that is an answer',
    { tools: 'llama3_json' },
    ' {"name": "Bob", "parameters": {"age": 3}}',
    { content: ' {"name": "Bob", "parameters": {"age": 3}}', calls: [] },
  ],
  [
    'pythonic: calls as Python writes them',
    { tools: 'pythonic' },
    "[get_weather(city='It\\'s \"here\"\\n', days=3, metric=True, note=None, " +
      'places=[{\'name\': "x"},]), now()]',
    {
      content: '',
      calls: [
        {
          name: 'get_weather',
          arguments:
            '{"city":"It\'s \\"here\\"\\n","days":3,"metric":true,"note":null,' +
            '"places":[{"name":"x"}]}',
        },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'llama4_pythonic: with its tags',
    { tools: 'llama4_pythonic' },
    '<|python_start|>[now()]<|python_end|>',
    { content: '', calls: [{ name: 'now', arguments: '{}' }] },
  ],
  [
    'mistral: a list',
    { tools: 'mistral' },
    '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Bath"}, "id": ' +
      '"abcdefghi"}, {"name": "now", "arguments": {}}]',
    {
      content: '',
      calls: [
        { name: 'get_weather', arguments: '{"city": "Bath"}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'mistral: names, with reasoning',
    { tools: 'mistral', reasoning: 'mistral' },
    '[THINK]hm[/THINK]Sure.[TOOL_CALLS]get_weather[ARGS]{"city": ' +
      '"Bath"}[TOOL_CALLS]now[CALL_ID]a1b2c3d4e[ARGS]{}',
    {
      reasoning: 'hm',
      content: 'Sure.',
      calls: [
        { name: 'get_weather', arguments: '{"city": "Bath"}' },
        { name: 'now', id: 'a1b2c3d4e', arguments: '{}' },
      ],
    },
  ],
  [
    'deepseek_v3: fences',
    { tools: 'deepseek_v3', reasoning: 'deepseek_r1' },
    'hm\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>' +
      'get_weather\n```json\n{"city": "Bath"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>' +
      'function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    {
      reasoning: 'hm',
      content: '',
      calls: [
        { name: 'get_weather', arguments: '{"city": "Bath"}' },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'deepseek_v31: separators',
    { tools: 'deepseek_v31', reasoning: 'deepseek_v3' },
    'So:<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": ' +
      '"Bath"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    {
      content: 'So:',
      calls: [{ name: 'get_weather', arguments: '{"city": "Bath"}' }],
    },
  ],
  [
    'kimi_k2: ids of its own, and reasoning that no tag closes',
    { tools: 'kimi_k2', reasoning: 'kimi_k2' },
    '<think>hm <|tool_calls_section_begin|><|tool_call_begin|>' +
      'functions.get_weather:0<|tool_call_argument_begin|>{"city": "Bath"}<|tool_call_end|>' +
      '<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>' +
      '<|tool_calls_section_end|>',
    {
      reasoning: 'hm',
      content: '',
      calls: [
        {
          name: 'get_weather',
          id: 'functions.get_weather:0',
          arguments: '{"city": "Bath"}',
        },
        { name: 'now', id: 'functions.now:1', arguments: '{}' },
      ],
    },
  ],
  [
    'functiongemma: quotes of its own',
    { tools: 'functiongemma' },
    '<start_function_call>call:get_weather{city:<escape>Bath, "x"<escape>,' +
      'days:3}<end_function_call>',
    {
      calls: [{ name: 'get_weather', arguments: '{"city":"Bath, \\"x\\"","days":3}' }],
    },
  ],
  [
    'gemma4: nested values, with reasoning',
    { tools: 'gemma4', reasoning: 'gemma4' },
    '<|channel>thought\nhm\n<channel|>Sure.<|tool_call>call:get_weather{place:{<|"|>' +
      'name<|"|>:<|"|>x}<|"|>},places:[{name:<|"|>y<|"|>}],metric:true}<tool_call|>' +
      '<|tool_call>call:now{}<tool_call|>',
    {
      reasoning: 'hm',
      content: 'Sure.',
      calls: [
        {
          name: 'get_weather',
          arguments: '{"place":{"name":"x}"},"places":[{"name":"y"}],"metric":true}',
        },
        { name: 'now', arguments: '{}' },
      ],
    },
  ],
  [
    'openai: channels',
    { tools: 'openai' },
    '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>' +
      'commentary<|message|>Let me see.<|end|><|start|>assistant<|channel|>commentary ' +
      'to=functions.get_weather <|constrain|>json<|message|>{"city": "Bath"}<|call|>',
    {
      reasoning: 'hm',
      content: 'Let me see.',
      calls: [{ name: 'get_weather', arguments: '{"city": "Bath"}' }],
    },
  ],
  [
    'openai: the recipient before the channel, and a final answer',
    { reasoning: 'openai_gptoss' },
    '<|channel|>analysis<|message|>hm<|end|><|start|>assistant ' +
      'to=functions.now<|channel|>commentary json<|message|>{}<|call|><|start|>' +
      'assistant<|channel|>final<|message|>4<|return|>',
    {
      reasoning: 'hm',
      content: '4',
      calls: [{ name: 'now', arguments: '{}' }],
    },
  ],
];

/** Texts that break off or break the format: everything is still there. */
const BROKEN: readonly (readonly [string, Reading, string, Answer])[] = [
  [
    'no name',
    { tools: 'hermes' },
    'a <tool_call>\n{"arguments": {}}\n</tool_call> b',
    { content: 'a <tool_call>\n{"arguments": {}}\n</tool_call> b', reasoning: '', calls: [] },
  ],
  [
    'no JSON',
    { tools: 'hermes' },
    '<tool_call>get_weather</tool_call>',
    { content: '<tool_call>get_weather</tool_call>', reasoning: '', calls: [] },
  ],
  [
    'cut in the arguments',
    { tools: 'hermes' },
    'a <tool_call>\n{"name": "now", "arguments": {"x": [1, 2',
    {
      content: 'a <tool_call>\n{"name": "now", "arguments": {"x": [1, 2',
      reasoning: '',
      calls: [],
    },
  ],
  [
    'no JSON in the arguments, then a call',
    { tools: 'hermes' },
    '<tool_call>{"name": "now", "arguments": {"x": oh}}</tool_call><tool_call>{"name": ' +
      '"now"}</tool_call>',
    {
      content: '<tool_call>{"name": "now", "arguments": {"x": oh}}</tool_call>',
      reasoning: '',
      calls: [{ name: 'now', arguments: '{}' }],
    },
  ],
  [
    'no end of a parameter',
    { tools: 'qwen3_coder' },
    '<tool_call>\n<function=now>\n<parameter=x>\n1',
    {
      content: '<tool_call>\n<function=now>\n<parameter=x>\n1',
      reasoning: '',
      calls: [],
    },
  ],
  [
    'a stray end of reasoning',
    { reasoning: 'qwen3', tools: 'hermes' },
    'a</think>b</tool_call>c ',
    { content: 'a</think>b</tool_call>c ', reasoning: '', calls: [] },
  ],
  [
    'reasoning without an end',
    { reasoning: 'qwen3' },
    '<think>\nfor ever ',
    { content: '', reasoning: 'for ever ', calls: [] },
  ],
  [
    'no message of harmony',
    { tools: 'openai' },
    'plain <|start|>assistant<|channel|>final<|message|>4',
    { content: 'plain 4', reasoning: '', calls: [] },
  ],
];

describe('an answer', () => {
  for (const [name, reading, text, said] of CASES) {
    test(name, () => {
      for (const areTokens of [true, false]) {
        for (const keepsCalls of [true, false]) {
          const answer = read(text, { ...reading, areTokens, keepsCalls });
          const expected = { content: '', reasoning: '', calls: [], ...said };
          // Without tokens only a closing tag ends reasoning.
          if (name.startsWith('kimi') && !areTokens) expect(answer.calls).toEqual([]);
          else expect(answer).toEqual(expected);
          for (const call of answer.calls) JSON.parse(call.arguments);
        }
      }
    });
  }

  for (const [name, reading, text, said] of BROKEN) {
    test(`that is broken is content, with nothing lost: ${name}`, () => {
      expect(read(text, { ...reading, keepsCalls: true })).toEqual(said);
    });
  }

  test('says the same however it is cut', () => {
    for (const [name, reading, text] of [...CASES, ...BROKEN]) {
      for (const areTokens of [true, false]) {
        for (const keepsCalls of [true, false]) {
          const how = { ...reading, areTokens, keepsCalls };
          const whole = read(text, how);
          // Between tags that are tokens a cut is always between tokens.
          const units = areTokens ? text.split(/(<[^<>\n]*>|\[\/?[A-Z_]+\]|.)/su) : [...text];
          expect(fold(parts(units, how)), name).toEqual(whole);
          if (areTokens === keepsCalls) continue;
          for (let at = 1; at < units.length; at++) {
            const halves = [units.slice(0, at).join(''), units.slice(at).join('')];
            const isSame = JSON.stringify(fold(parts(halves, how))) === JSON.stringify(whole);
            if (!isSame) expect.fail(`${name} says something else when cut at ${at}`);
          }
        }
      }
    }
  });

  test('of arbitrary pieces of tags and text loses nothing and stops nowhere', () => {
    const names = [
      { tools: 'hermes', reasoning: 'qwen3' },
      { tools: 'qwen3_coder' },
      { tools: 'glm45' },
      { tools: 'mistral' },
      { tools: 'deepseek_v3' },
      { tools: 'kimi_k2' },
      { tools: 'pythonic' },
      { tools: 'llama3_json' },
      { tools: 'gemma4' },
      { tools: 'openai' },
    ] as const satisfies readonly Reading[];
    for (const reading of names) {
      const tags = tagsOf(formatOf({ reasoning: undefined, ...reading })!);
      const bits = [...tags, '{', '}', '[', ']', '"', ':', ',', '=', '(', ')', ' ', '\n', 'a', '7'];
      const more = [
        '"name"',
        '"arguments"',
        'now',
        'get_weather',
        '<function=',
        '<parameter=',
        '😀',
      ];
      const pieces = fc.array(fc.constantFrom(...bits, ...more), { maxLength: 24 });
      fc.assert(
        fc.property(pieces, fc.boolean(), fc.boolean(), (cut, areTokens, keepsCalls) => {
          const how = { ...reading, areTokens, keepsCalls };
          const whole = read(cut.join(''), how);
          expect(fold(parts(cut, how))).toEqual(whole);
          if (!areTokens) expect(fold(parts([...cut.join('')], how))).toEqual(whole);
          if (keepsCalls) for (const call of whole.calls) JSON.parse(call.arguments);
          const letters = (text: string) => text.match(/😀/gu)?.length ?? 0;
          const kept = whole.content + whole.reasoning + JSON.stringify(whole.calls);
          if (reading.tools === 'hermes' && keepsCalls) {
            expect(letters(kept)).toBe(letters(cut.join('')));
          }
        }),
        { numRuns: 300, seed: 7 },
      );
    }
  });

  test('says the name as soon as it is known, and arguments as they come', () => {
    const pieces = ['<tool_call>{"name": "get_wea', 'ther", "argu', 'ments": {"ci', 'ty": "Ba'];
    const said = parts([...pieces, 'th"}', '}</tool_call>'], { tools: 'hermes' });
    expect(said.map((part) => (part.kind === 'call' ? part.name : part.text))).toEqual([
      'get_weather',
      '{"ci',
      'ty": "Ba',
      'th"}',
    ]);
    const value = ['<function=get_weather><parameter=city>', 'Ba', 'th</para', 'meter></function>'];
    const typed = parts(value, { tools: 'qwen3_coder', areTokens: false });
    expect(typed.slice(1).map((part) => (part.kind === 'arguments' ? part.text : ''))).toEqual([
      '{"city":',
      '"Ba',
      'th',
      '"}',
    ]);
  });

  test('may have other tags in what it quotes', () => {
    for (const [tools, text] of [
      [
        'hermes',
        '<tool_call>{"name": "get_weather", "arguments": {"city": "<tool_call>"}}</tool_call>',
      ],
      ['qwen3_coder', '<function=get_weather><parameter=city><tool_call></parameter></function>'],
      ['gemma4', '<|tool_call>call:get_weather{city:<|"|><|tool_call><|"|>}<tool_call|>'],
      [
        'glm45',
        '<tool_call>get_weather<arg_key>city</arg_key><arg_value><tool_call></arg_value>' +
          '</tool_call>',
      ],
    ] as const) {
      const { calls } = read(text, { tools });
      const city = tools === 'gemma4' ? '<|tool_call>' : '<tool_call>';
      expect([tools, JSON.parse(calls[0]!.arguments)]).toEqual([tools, { city }]);
    }
  });

  test('holds back no more than the start of a call may have', () => {
    for (const [tools, open] of [
      ['hermes', '<tool_call>'],
      ['hermes', '<tool_call>{"arguments": {"a": "'],
      ['kimi_k2', '<|tool_calls_section_begin|>'],
      ['mistral', '[TOOL_CALLS]'],
    ] as const) {
      const spaces = ' '.repeat(100);
      const pieces = [open, ...Array.from({ length: 60 }, () => spaces)];
      const said = fold(parts(pieces, { tools }));
      expect([tools, said.content]).toEqual([tools, open + spaces.repeat(60)]);
      const early = parts(pieces.slice(0, 50), { tools });
      expect(early.length).toBeGreaterThan(0);
    }
  });

  test('of tools that were not given is text', () => {
    const text = '<tool_call>{"name": "now"}</tool_call>';
    expect(read(text, { tools: 'hermes', readsCalls: false }).content).toBe(text);
  });

  test('spells a tag without being one, where the tag is a token', () => {
    const format = formatOf({ tools: 'hermes', reasoning: 'qwen3' })!;
    const marks = new TagMarks(tagsOf(format), (tag) => tag.length);
    const start = startOf(format, '', undefined);
    const reader = new AnswerReader(format, marks, {
      tools: TOOLS,
      start,
      keepsCalls: false,
      newCallId: () => 'new',
    });
    const text = '<think><tool_call>{"name": "now"}</tool_call>';
    reader.push(text);
    reader.finish();
    expect(fold(reader.take())).toEqual({ content: text, reasoning: '', calls: [] });
  });
});
