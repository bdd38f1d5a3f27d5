import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SETTINGS } from './settings/table.ts';
import { eventsOf, startTestServer, type TestServer } from './testing/test-server.ts';
import { type ModelText, openModelText } from './text/model-text.ts';

// The fields that vLLM adds to OpenAI's, against the real server.

let server: TestServer;
let text: ModelText;
const more: TestServer[] = [];

beforeAll(async () => {
  [server, text] = await Promise.all([startTestServer(), openModelText(SETTINGS.model.default)]);
});
afterAll(() => server.stop(0));
afterEach(async () => {
  await Promise.all(more.splice(0).map((each) => each.stop(0)));
});

const PROMPT = 'Once upon a time';
/** Two characters of several tokens each, and the end token's text nowhere. */
const SEVERAL = 'naïve 🌊 sea';

// biome-ignore lint/suspicious/noExplicitAny: the tests look at whatever document came back
type Document = any;

async function ask(path: string, body: object | string): Promise<Document> {
  return (await server.post(path, body)).json();
}

const complete = (fields: object = {}) =>
  ask('/v1/completions', { prompt: PROMPT, max_tokens: 5, ...fields });
const chat = (fields: object = {}) =>
  ask('/v1/chat/completions', {
    messages: [{ role: 'user', content: PROMPT }],
    max_tokens: 5,
    ...fields,
  });

async function events(path: string, body: object): Promise<Document[]> {
  const response = await server.post(path, { max_tokens: 5, ...body, stream: true });
  return eventsOf(await response.text());
}

/** The request that the engine gets for a completion's body, as it is sent. */
async function submitted(fields: string) {
  const held = await startTestServer({ pace: 'by-hand' });
  more.push(held);
  void held.post('/v1/completions', `{"prompt": "${PROMPT}", ${fields}}`).catch(() => {});
  await held.untilOpen(1);
  return held.stub.requestAt(0)!;
}

const tokensOf = (said: string) => [...text.tokenizer.encode(said, false)];

describe('seeds', () => {
  test('are 64 bits, whole', async () => {
    const seedOf = async (seed: string) => (await submitted(`"seed": ${seed}`)).sampling.seed;
    expect(await seedOf('9223372036854775807')).toBe(2n ** 63n - 1n);
    expect(await seedOf('9007199254740993')).toBe(2n ** 53n + 1n);
    expect(await seedOf('-9223372036854775808')).toBe(2n ** 63n);
    expect(await seedOf('-2')).toBe(2n ** 64n - 2n);
    expect(await seedOf('-1')).toBeUndefined();
  });

  test('are refused beyond, and where they are no integers', async () => {
    for (const seed of ['9223372036854775808', '-9223372036854775809', '1e30', '1.5', '"1"']) {
      for (const [path, rest] of [
        ['/v1/completions', '"prompt": "x"'],
        ['/v1/chat/completions', '"messages": [{"role": "user", "content": "x"}]'],
      ] as const) {
        const { error } = await ask(path, `{${rest}, "seed": ${seed}}`);
        expect(error).toMatchObject({ code: 'invalid_value', param: 'seed' });
        expect(error.message).toContain('64 bits');
      }
    }
    const deep = `${'['.repeat(1000)}${']'.repeat(1000)}`;
    const body = `{"prompt": "x", "seed": 9007199254740993, "metadata": ${deep}}`;
    expect((await ask('/v1/completions', body)).error.code).toBe('invalid_value');
    expect((await ask('/v1/completions', 'null')).error.code).toBe('invalid_value');
  });
});

describe('bad_words', () => {
  test('are the tokens of a word as it is, and behind a space', async () => {
    const { sampling } = await submitted('"bad_words": [" and", "the"]');
    const expected = ['and', ' and', 'the', ' the']
      .map(tokensOf)
      .filter(({ length }) => length < 2);
    expect(sampling.bannedTokenIds).toEqual(expected.flat());
    expect(expected.length).toBeGreaterThan(2);
  });

  test('of several tokens are refused by name, unquoted', async () => {
    const { error } = await complete({ bad_words: ['the', 'Knightley'] });
    expect(error).toMatchObject({ code: 'unsupported_value', param: 'bad_words' });
    expect(error.message).toContain('bad_words.1 ');
    expect(error.message).not.toContain('Knightley');
    for (const wrong of [[''], 'the', [7]]) {
      expect((await complete({ bad_words: wrong })).error.code).toBe('invalid_value');
    }
  });
});

describe('allowed_token_ids', () => {
  test('are 1 to 300 tokens of the vocabulary', async () => {
    expect((await submitted('"allowed_token_ids": [5, 7]')).sampling.allowedTokenIds).toEqual([
      5, 7,
    ]);
    for (const wrong of [[], Array(301).fill(5), [4096], [-1], 'x']) {
      const { error } = await complete({ allowed_token_ids: wrong });
      expect(error).toMatchObject({ code: 'invalid_value' });
      expect(error.param).toContain('allowed_token_ids');
    }
  });
});

describe('return_token_ids', () => {
  const prompt = () => tokensOf(PROMPT);

  test('adds the prompt’s and the answer’s to a completion, of each choice', async () => {
    const { choices } = await complete({ return_token_ids: true, n: 2, echo: true });
    for (const choice of choices) {
      expect(choice.prompt_token_ids).toEqual(prompt());
      expect(choice.token_ids).toEqual(prompt());
    }
    const [plain] = (await complete({})).choices;
    expect(Object.keys(plain)).not.toContain('token_ids');
    expect(Object.keys(plain)).not.toContain('prompt_token_ids');
  });

  test('adds them to a chat, the prompt’s beside its choices', async () => {
    const body = await chat({ return_token_ids: true });
    expect(body.prompt_token_ids).toEqual(prompt());
    expect(body.choices[0].token_ids).toEqual(prompt());
  });

  test('streams them: the prompt’s once, the others as they come', async () => {
    const chunks = await events('/v1/completions', { prompt: PROMPT, return_token_ids: true });
    expect(chunks[0].choices[0].prompt_token_ids).toEqual(prompt());
    for (const { choices } of chunks.slice(1)) expect(choices[0].prompt_token_ids).toBeNull();
    expect(chunks.flatMap(({ choices }) => choices[0].token_ids)).toEqual(prompt());
    const messages = [{ role: 'user', content: PROMPT }];
    const [role, ...rest] = await events('/v1/chat/completions', {
      messages,
      return_token_ids: true,
    });
    expect(role.prompt_token_ids).toEqual(prompt());
    expect(rest.every((chunk) => !('prompt_token_ids' in chunk))).toBe(true);
    expect(rest.flatMap(({ choices }) => choices[0].token_ids)).toEqual(prompt());
  });

  test('streams those of tokens that have no text yet', async () => {
    const ids = tokensOf('🌊');
    const body = { prompt: ids, max_tokens: ids.length, return_token_ids: true };
    const chunks = await events('/v1/completions', body);
    expect(chunks.flatMap(({ choices }) => choices[0].token_ids)).toEqual(ids);
    expect(chunks.map(({ choices }) => choices[0].text).join('')).toBe('🌊');
  });
});

describe('prompt_logprobs', () => {
  test('are of each prompt token by its id, the first unknown', async () => {
    const ids = tokensOf(PROMPT);
    const [choice] = (await complete({ prompt_logprobs: 1 })).choices;
    expect(choice.logprobs).toBeNull();
    expect(choice.text).toBe(PROMPT);
    const body = await chat({ prompt_logprobs: 0 });
    for (const given of [choice.prompt_logprobs, body.prompt_logprobs]) {
      expect(given).toHaveLength(ids.length);
      expect(given[0]).toBeNull();
      ids.slice(1).forEach((id, at) => {
        expect(given[at + 1][id]).toMatchObject({
          rank: 1,
          decoded_token: text.tokenizer.decode([id], false),
        });
        expect(given[at + 1][id].logprob).toBeCloseTo(-Math.LN2);
      });
    }
  });

  test('leave an echo’s logprobs as they are', async () => {
    const fields = { echo: true, logprobs: 1, prompt_logprobs: 1 };
    const [choice] = (await complete(fields)).choices;
    expect(choice.logprobs.tokens.join('')).toBe(choice.text);
    expect(choice.prompt_logprobs).toHaveLength(tokensOf(PROMPT).length);
    const [apart] = (await complete({ logprobs: 1, prompt_logprobs: 1 })).choices;
    expect(apart.logprobs.tokens.join('')).toBe(PROMPT);
  });

  test('are not streamed, and 20 at most', async () => {
    for (const request of [complete, chat]) {
      const { error } = await request({ stream: true, prompt_logprobs: 0 });
      expect(error).toMatchObject({ code: 'unsupported_value', param: 'prompt_logprobs' });
      for (const count of [-1, 21]) {
        expect((await request({ prompt_logprobs: count })).error.param).toBe('prompt_logprobs');
      }
    }
  });
});

describe('truncate_prompt_tokens', () => {
  const promptOf = async (fields: object) =>
    (await complete({ return_token_ids: true, ...fields })).choices[0].prompt_token_ids;

  test('keeps the last tokens, of a text, of ids and of a conversation', async () => {
    const ids = tokensOf(PROMPT);
    expect(await promptOf({ truncate_prompt_tokens: 2 })).toEqual(ids.slice(-2));
    expect(await promptOf({ prompt: ids, truncate_prompt_tokens: 1 })).toEqual(ids.slice(-1));
    expect(await promptOf({ truncate_prompt_tokens: 100 })).toEqual(ids);
    const body = await chat({ truncate_prompt_tokens: 2, return_token_ids: true });
    expect(body.prompt_token_ids).toEqual(ids.slice(-2));
    expect(body.usage.prompt_tokens).toBe(2);
  });

  test('of -1 keeps what fits with the answer', async () => {
    const prompt = Array.from({ length: 600 }, (_, at) => 600 + at);
    expect(await promptOf({ prompt, truncate_prompt_tokens: -1 })).toEqual(prompt.slice(-507));
  });

  test('echoes what it kept', async () => {
    const [choice] = (await complete({ truncate_prompt_tokens: 2, echo: true, max_tokens: 0 }))
      .choices;
    expect(choice.text).toBe(text.tokenizer.decode(tokensOf(PROMPT).slice(-2), false));
  });

  test('is not 0', async () => {
    expect((await complete({ truncate_prompt_tokens: 0 })).error.param).toBe(
      'truncate_prompt_tokens',
    );
  });
});

describe('a final message that is continued', () => {
  const messages = [
    { role: 'user', content: 'Begin.' },
    { role: 'assistant', content: 'Once upon ' },
  ];
  const open = { messages, continue_final_message: true, add_generation_prompt: false };

  test('is the prompt’s end, its last space too', async () => {
    const { tokens } = await ask('/tokenize', open);
    expect(text.tokenizer.decode(tokens, false)).toBe('Begin.\nOnce upon ');
    const body = await chat({ ...open, return_token_ids: true });
    expect(body.prompt_token_ids).toEqual(tokens);
  });

  test('comes with the answer where echo asks for it', async () => {
    const plain = (await chat(open)).choices[0].message.content;
    expect((await chat({ ...open, echo: true })).choices[0].message.content).toBe(
      `Once upon ${plain}`,
    );
    const chunks = await events('/v1/chat/completions', { ...open, echo: true });
    const said = chunks.map(({ choices }) => choices[0].delta.content).join('');
    expect(said).toBe(`Once upon ${plain}`);
    const user = { messages: [{ role: 'user', content: PROMPT }], echo: true };
    expect((await chat(user)).choices[0].message.content).toBe(PROMPT);
  });

  test('does not go with another turn', async () => {
    for (const add of [undefined, null, true]) {
      const { error } = await chat({ ...open, add_generation_prompt: add });
      expect(error).toMatchObject({ code: 'invalid_value', param: 'continue_final_message' });
    }
  });
});

describe('what the chat template makes nothing of', () => {
  test.each([
    ['documents', [{ text: 'x' }]],
    ['reasoning_effort', 'low'],
  ])('is refused by name: %s', async (param, value) => {
    for (const path of ['/v1/chat/completions', '/tokenize']) {
      const messages = [{ role: 'user', content: 'x' }];
      const { error } = await ask(path, { messages, [param]: value });
      expect(error).toMatchObject({ code: 'unsupported_value', param });
    }
    expect((await chat({ [param]: null })).choices).toHaveLength(1);
  });
});

describe('unknown fields', () => {
  const NAME = 'X-Ignored-Fields';

  test('are ignored and named in a header, of streams too', async () => {
    const body = { prompt: PROMPT, max_tokens: 1, temprature: 0, minp: 1, seed: 1 };
    for (const stream of [false, true]) {
      const response = await server.post('/v1/completions', { ...body, stream });
      expect(response.status).toBe(200);
      expect(response.headers.get(NAME)).toBe('temprature, minp');
      await response.text();
    }
    const plain = await server.post('/v1/completions', { prompt: PROMPT, nothing: null });
    expect(plain.headers.get(NAME)).toBeNull();
  });

  test('are only counted where their names might be anything, or are many', async () => {
    const odd = await server.post('/v1/completions', { prompt: PROMPT, 'a secret\n': 1, ok: 1 });
    expect(odd.headers.get(NAME)).toBe('ok, and 1 more');
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`f${at}`, 1]));
    const full = await server.post('/tokenize', { prompt: PROMPT, ...many });
    expect(full.headers.get(NAME)?.split(', ')).toHaveLength(17);
    expect(full.headers.get(NAME)).toMatch(/, and 4 more$/);
  });
});

test('a field of one route is refused by the other', async () => {
  for (const param of ['max_completion_tokens', 'top_logprobs', 'messages', 'reasoning_effort']) {
    const { error } = await complete({ [param]: 5 });
    expect(error).toMatchObject({ code: 'unsupported_value', param });
    expect(error.message).toContain('/v1/chat/completions');
  }
  expect((await chat({ prompt: 'x' })).error.message).toContain('it is a field of /v1/completions');
});

test('a tokenized conversation refuses what would make another prompt', async () => {
  const messages = [{ role: 'user', content: 'x' }];
  const { error } = await ask('/tokenize', { messages, chat_template: '{{ 1 }}' });
  expect(error).toMatchObject({ code: 'unsupported_value', param: 'chat_template' });
  const sampled = await server.post('/tokenize', { messages, temperature: 1 });
  expect(sampled.status).toBe(200);
  expect(sampled.headers.get('X-Ignored-Fields')).toBe('temperature');
});

describe('logprobs of a completion', () => {
  /** Tokens join to the text, and each begins in it where it says. */
  function expectWhole(
    said: string,
    { tokens, text_offset: offsets, top_logprobs: top }: Document,
  ) {
    expect(tokens.join('')).toBe(said);
    const characters = [...said];
    let before = '';
    tokens.forEach((token: string, at: number) => {
      expect(offsets[at]).toBe([...before].length);
      expect(characters.slice(offsets[at]).join('')).toBe(said.slice(before.length));
      if (top[at] !== null) expect(Object.keys(top[at])).toContain(token);
      before += token;
    });
  }

  const ids = () => tokensOf(SEVERAL);
  const fields = () => ({ prompt: ids(), max_tokens: ids().length, logprobs: 5 });

  test('join to a text with characters of several tokens', async () => {
    const [choice] = (await complete(fields())).choices;
    expect(choice.text).toBe(SEVERAL);
    expect(ids().length).toBeGreaterThan([...SEVERAL].length - 4);
    expect(choice.logprobs.tokens).toContain('');
    expectWhole(SEVERAL, choice.logprobs);
    const [echoed] = (await complete({ ...fields(), echo: true })).choices;
    expectWhole(SEVERAL + SEVERAL, echoed.logprobs);
  });

  test('have a key for each alternative', async () => {
    const [choice] = (await complete(fields())).choices;
    for (const top of choice.logprobs.top_logprobs) expect(Object.keys(top)).toHaveLength(5);
    const keys = choice.logprobs.top_logprobs.flatMap((top: object) => Object.keys(top));
    expect(keys.some((key: string) => /^bytes:(\\x[0-9a-f]{2})+$/.test(key))).toBe(true);
  });

  test('join to a stream’s text, with offsets that never leave it', async () => {
    for (const stop of [undefined, ' seagull', ' se']) {
      const chunks = await events('/v1/completions', { ...fields(), stop });
      const choices = chunks.map((chunk) => chunk.choices[0]);
      const said = choices.map((choice) => choice.text).join('');
      const all = (key: string) => choices.flatMap(({ logprobs }) => logprobs?.[key] ?? []);
      if (stop === ' se') {
        expect(said).toBe('naïve 🌊');
        expect(all('tokens').join('').startsWith(said)).toBe(true);
        const end = [...said].length;
        for (const offset of all('text_offset')) expect(offset).toBeLessThanOrEqual(end);
      } else {
        expect(said).toBe(SEVERAL);
        const [tokens, offsets, top] = ['tokens', 'text_offset', 'top_logprobs'].map(all);
        expectWhole(said, { tokens, text_offset: offsets, top_logprobs: top });
      }
    }
  });

  test('name tokens by id where return_tokens_as_token_ids asks for it', async () => {
    const byId = { return_tokens_as_token_ids: true };
    const names = ids().map((id) => `token_id:${id}`);
    const [choice] = (await complete({ ...fields(), ...byId })).choices;
    expect(choice.logprobs.tokens).toEqual(names);
    for (const top of choice.logprobs.top_logprobs) {
      for (const key of Object.keys(top)) expect(key).toMatch(/^token_id:\d+$/);
    }
    const body = await chat({ logprobs: true, top_logprobs: 1, ...byId });
    const { content } = body.choices[0].logprobs;
    expect(content.map(({ token }: { token: string }) => token)).toEqual(
      tokensOf(PROMPT).map((id) => `token_id:${id}`),
    );
    expect(content[0].top_logprobs[0].token).toBe(content[0].token);
    expect(Buffer.from(content[0].bytes).toString()).toBe(
      text.tokenizer.decode(tokensOf(PROMPT).slice(0, 1), false),
    );
  });
});

describe('usage with every chunk', () => {
  const options = { include_usage: true, continuous_usage_stats: true };

  test('counts up from chunk to chunk, from none with the role', async () => {
    const messages = [{ role: 'user', content: PROMPT }];
    const chunks = await events('/v1/chat/completions', { messages, stream_options: options });
    expect(chunks[0].usage.completion_tokens).toBe(0);
    let last = 0;
    for (const { usage, choices } of chunks) {
      const { prompt_tokens: prompt, completion_tokens: completion } = usage;
      expect(usage.total_tokens).toBe(prompt + completion);
      const goesOn =
        last === 0 || completion > last || (choices.length === 0 && completion === last);
      expect(goesOn).toBe(true);
      last = completion;
    }
    expect(last).toBe(5);
  });

  test('is of every chunk of a completion, and of all at its end', async () => {
    const chunks = await events('/v1/completions', { prompt: PROMPT, stream_options: options });
    for (const { usage } of chunks) {
      expect(usage.prompt_tokens).toBeGreaterThan(0);
      expect(usage.completion_tokens).toBeGreaterThan(0);
      expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    }
    expect(chunks.at(-2).choices[0].finish_reason).toBe('length');
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 5 } });
  });
});
