import { GREEDY } from '@bridgekeeper/engine';
import { beforeAll, describe, expect, test } from 'vitest';
import { SyntheticEngine } from '../engine/synthetic-engine.ts';
import type { AnswerPart } from '../formats/parts.ts';
import { HOST_CLOCK } from '../host-clock.ts';
import { Lifecycle } from '../http/lifecycle.ts';
import { SETTINGS } from '../settings/table.ts';
import { eventsOf } from '../testing/test-server.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { usageOptions } from './answer-head.ts';
import { ChatChunks, chatCompletion } from './chat-format.ts';
import type { ChoiceDelta, LogprobItem } from './choice.ts';
import { CompletionChunks, completion } from './completion-format.ts';
import { Generation } from './generation.ts';
import { WakeQueue } from './wake-queue.ts';

let text: ModelText;
let words: { readonly token: number; readonly word: string; readonly bytes: number[] }[];
beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
  // Special ones are named too.
  words = [0, 600, 800].map((token) => {
    const word = text.tokenizer.decode([token], false);
    return { token, word, bytes: [...Buffer.from(word)] };
  });
});

const HEAD = { id: 'x-1', created: 7, model: 'a "model"' };
const PLAIN = { logprobs: false, namesIds: false, tokenIds: false, promptLogprobs: false };
const WITH_LOGPROBS = { ...PLAIN, logprobs: true };
const NO_USAGE = { atEnd: false, continuous: false };
const USAGE = {
  prompt_tokens: 3,
  total_tokens: 5,
  completion_tokens: 2,
  prompt_tokens_details: { cached_tokens: 1 },
};

/** Two choices of one prompt of three tokens. */
function generation(): Generation {
  const options = {
    stop: [],
    includeStop: false,
    skipSpecialTokens: true,
    echoText: '',
    echoLogprobs: false,
    hideOutput: false,
    tokenIds: false,
  };
  return new Generation(
    {
      requestId: 'x',
      arrivedNs: 0,
      choicesPerPrompt: 2,
      requests: ['a', 'b'].map((id) => ({
        request: { id, tenant: 't', promptTokens: Uint32Array.of(1, 2, 3), sampling: GREEDY },
        options,
      })),
    },
    {
      engine: new SyntheticEngine({ pace: 'by-hand' }),
      text,
      wakes: new WakeQueue(HOST_CLOCK),
      observer: { tokens: () => {}, finished: () => {} },
      clock: HOST_CLOCK,
      lifecycle: new Lifecycle(),
    },
  );
}

const NOTHING: ChoiceDelta = { text: '', parts: [], logprobs: [], tokens: [], finish: undefined };
/** What a whole choice has where nothing more was asked for. */
const NO_MORE = {
  tokens: [],
  promptTokens: Uint32Array.of(1, 2, 3),
  promptLogprobs: [],
};
const plain = (said: string): Pick<ChoiceDelta, 'text'> & { parts: AnswerPart[] } => ({
  text: said,
  parts: [{ kind: 'text', text: said }],
});
const saying = (said: string, more: Partial<ChoiceDelta> = {}): ChoiceDelta => ({
  ...NOTHING,
  ...plain(said),
  ...more,
});

/** The first token of a prompt, one that can be, and one that cannot. */
function logprobs(): LogprobItem[] {
  const [a, b, c] = words as [(typeof words)[0], (typeof words)[0], (typeof words)[0]];
  const top = [
    { token: c.token, logprob: -0.25 },
    { token: a.token, logprob: Number.NEGATIVE_INFINITY },
  ];
  return [
    { token: a.token, text: a.word, logprobs: undefined },
    { token: b.token, text: b.word, logprobs: { logprob: -0.5, rank: 2, top } },
    {
      token: c.token,
      text: c.word,
      logprobs: { logprob: Number.NEGATIVE_INFINITY, rank: 9, top: [] },
    },
  ];
}

/** Whole events, and nothing but events. */
function documents(events: string): object[] {
  const found = eventsOf(events);
  expect(events).toBe(found.map((each) => `data: ${JSON.stringify(each)}\n\n`).join(''));
  return found;
}

test('usage is told with every chunk only where it is told at all', () => {
  expect(usageOptions({})).toEqual(NO_USAGE);
  expect(usageOptions({ include_usage: null, continuous_usage_stats: true })).toEqual(NO_USAGE);
  expect(usageOptions({ include_usage: true })).toEqual({ atEnd: true, continuous: false });
  const all = { include_usage: true, continuous_usage_stats: true };
  expect(usageOptions(all)).toEqual({ atEnd: true, continuous: true });
});

describe('chunks of a chat', () => {
  const head = { ...HEAD, object: 'chat.completion.chunk' };
  const role = { role: 'assistant', content: '' };
  const none = { logprobs: null, finish_reason: null };

  test('begin with the role, once for each choice', () => {
    const [first, second] = generation().choices as [never, never];
    const format = new ChatChunks(HEAD, text, NO_USAGE, PLAIN);
    expect(documents(format.chunk(first, saying('"Hi"')))).toEqual([
      { ...head, choices: [{ index: 0, delta: role, ...none }] },
      { ...head, choices: [{ index: 0, delta: { content: '"Hi"' }, ...none }] },
    ]);
    expect(documents(format.chunk(second, NOTHING))).toEqual([
      { ...head, choices: [{ index: 1, delta: role, ...none }] },
    ]);
    expect(documents(format.chunk(first, saying('!')))).toEqual([
      { ...head, choices: [{ index: 0, delta: { content: '!' }, ...none }] },
    ]);
    expect(format.chunk(first, NOTHING)).toBe('');
  });

  test('end with the reason, also where no text is left', () => {
    const [choice] = generation().choices as [never];
    const format = new ChatChunks(HEAD, text, NO_USAGE, PLAIN);
    format.chunk(choice, NOTHING);
    const ended = (stopReason: string | number | null) =>
      documents(format.chunk(choice, saying('', { finish: { reason: 'stop', stopReason } })));
    for (const reason of ['\n"', 7, null]) {
      const finish = { finish_reason: 'stop', stop_reason: reason };
      expect(ended(reason)).toEqual([
        { ...head, choices: [{ index: 0, delta: { content: '' }, logprobs: null, ...finish }] },
      ]);
    }
  });

  test('carry logprobs, also of tokens that have no text yet', () => {
    const [choice] = generation().choices as [never];
    const format = new ChatChunks(HEAD, text, NO_USAGE, WITH_LOGPROBS);
    format.chunk(choice, NOTHING);
    const [a, b, c] = words as [(typeof words)[0], (typeof words)[0], (typeof words)[0]];
    const said = ({ word, bytes }: typeof a, logprob: number) => ({ token: word, logprob, bytes });
    const content = [
      { ...said(a, 0), top_logprobs: [] },
      { ...said(b, -0.5), top_logprobs: [said(c, -0.25), said(a, -9999)] },
      { ...said(c, -9999), top_logprobs: [] },
    ];
    expect(documents(format.chunk(choice, saying('', { logprobs: logprobs() })))).toEqual([
      {
        ...head,
        choices: [{ index: 0, delta: { content: '' }, logprobs: { content }, finish_reason: null }],
      },
    ]);
    const whole = { index: 0, ...plain('x'), logprobs: logprobs(), finish: undefined, ...NO_MORE };
    expect(chatCompletion(HEAD, [whole], USAGE, text, WITH_LOGPROBS).choices[0]?.logprobs).toEqual({
      content,
    });
  });
});

describe('chunks of a completion', () => {
  const head = { ...HEAD, object: 'text_completion' };

  test('carry text and the reason, and are none where there is neither', () => {
    const [first, second] = generation().choices as [never, never];
    const format = new CompletionChunks(HEAD, text, NO_USAGE, PLAIN);
    expect(format.chunk(first, NOTHING)).toBe('');
    const none = { logprobs: null, finish_reason: null, stop_reason: null };
    expect(documents(format.chunk(second, saying('"Hi"')))).toEqual([
      { ...head, choices: [{ index: 1, text: '"Hi"', ...none }] },
    ]);
    const finish = { reason: 'length' as const, stopReason: null };
    const end = { logprobs: null, finish_reason: 'length', stop_reason: null };
    expect(documents(format.chunk(first, saying('', { finish })))).toEqual([
      { ...head, choices: [{ index: 0, text: '', ...end }] },
    ]);
    const stopped = saying('', { finish: { reason: 'stop', stopReason: '"' } });
    expect(documents(format.chunk(second, stopped))).toMatchObject([
      { choices: [{ finish_reason: 'stop', stop_reason: '"' }] },
    ]);
  });

  test('carry logprobs, with offsets that go on from chunk to chunk of a choice', () => {
    const [first, second] = generation().choices as [never, never];
    const [a, b, c] = words as [(typeof words)[0], (typeof words)[0], (typeof words)[0]];
    const lengths = [a.word.length, b.word.length, c.word.length] as const;
    const start = lengths[0] + lengths[1] + lengths[2];
    const said3 = a.word + b.word + c.word;
    const said = (from: number) => ({
      tokens: [a.word, b.word, c.word],
      token_logprobs: [null, -0.5, -9999],
      top_logprobs: [
        null,
        { [b.word]: -0.5, [c.word]: -0.25, [a.word]: -9999 },
        { [c.word]: -9999 },
      ],
      text_offset: [from, from + lengths[0], from + lengths[0] + lengths[1]],
    });
    const format = new CompletionChunks(HEAD, text, NO_USAGE, WITH_LOGPROBS);
    const chunk = (choice: never) =>
      documents(format.chunk(choice, saying(said3, { logprobs: logprobs() })));
    const none = { text: said3, finish_reason: null, stop_reason: null };
    for (const [choice, index, from] of [
      [first, 0, 0],
      [first, 0, start],
      [second, 1, 0],
    ] as const) {
      const choices = [{ index, ...none, logprobs: said(from) }];
      expect(chunk(choice)).toEqual([{ ...head, choices }]);
    }
    const whole = {
      index: 0,
      ...plain(said3),
      logprobs: logprobs(),
      finish: undefined,
      ...NO_MORE,
    };
    expect(completion(HEAD, [whole, whole], USAGE, text, WITH_LOGPROBS).choices).toMatchObject([
      { logprobs: said(0) },
      { logprobs: said(0) },
    ]);
  });
});

describe.each([
  ['a chat', 'chat.completion.chunk', ChatChunks],
  ['a completion', 'text_completion', CompletionChunks],
] as const)('the usage of %s', (_, object, Chunks) => {
  const usage = { prompt_tokens: 3, total_tokens: 3, completion_tokens: 0 };

  test('is with every chunk, of its choice alone, where that is asked for', () => {
    const [, choice] = generation().choices as [never, Generation['choices'][0]];
    const format = new Chunks(HEAD, text, { atEnd: true, continuous: true }, PLAIN);
    for (const each of documents(format.chunk(choice, saying('a')))) {
      expect(each).toMatchObject({ object, usage });
    }
    choice.receive({ id: 'b', tokens: [600, 700] }, 0);
    choice.take();
    const after = { prompt_tokens: 3, total_tokens: 5, completion_tokens: 2 };
    expect(documents(format.chunk(choice, saying('b')))).toMatchObject([{ usage: after }]);
  });

  test('is at the end, of all choices, or not at all', () => {
    const all = generation();
    const end = new Chunks(HEAD, text, { atEnd: true, continuous: false }, PLAIN);
    expect(documents(end.chunk(all.choices[0]!, saying('a')))[0]).not.toHaveProperty('usage');
    const details = { prompt_tokens_details: { cached_tokens: 0 } };
    const DONE = 'data: [DONE]\n\n';
    expect(documents(end.closing(all).replace(DONE, ''))).toEqual([
      { ...HEAD, object, choices: [], usage: { ...usage, ...details } },
    ]);
    expect(new Chunks(HEAD, text, NO_USAGE, PLAIN).closing(all)).toBe(DONE);
  });
});

test('a whole answer is one document', () => {
  const finish = { reason: 'stop' as const, stopReason: 'x' };
  const choices = [
    { index: 0, ...plain('one'), logprobs: [], finish, ...NO_MORE },
    { index: 1, ...plain('two'), logprobs: [], finish: undefined, ...NO_MORE },
  ];
  const ends = [
    { logprobs: null, finish_reason: 'stop', stop_reason: 'x' },
    { logprobs: null, finish_reason: null, stop_reason: null },
  ];
  expect(chatCompletion(HEAD, choices, USAGE, text, PLAIN)).toEqual({
    ...HEAD,
    object: 'chat.completion',
    choices: [
      { index: 0, message: { role: 'assistant', content: 'one' }, ...ends[0] },
      { index: 1, message: { role: 'assistant', content: 'two' }, ...ends[1] },
    ],
    usage: USAGE,
  });
  expect(completion(HEAD, choices, USAGE, text, PLAIN)).toEqual({
    ...HEAD,
    object: 'text_completion',
    choices: [
      { index: 0, text: 'one', ...ends[0] },
      { index: 1, text: 'two', ...ends[1] },
    ],
    usage: USAGE,
  });
});
