import { afterEach, describe, expect, test } from 'vitest';
import { FIRST_TAG, type SayingServer, startSayingServer } from './testing/saying-server.ts';
import { eventsOf, type TestServer } from './testing/test-server.ts';

const HARMONY = {
  template:
    '{% for message in messages %}<|start|>{{ message.role }}<|message|>' +
    '{{ message.content }}<|end|>' +
    '{% endfor %}<|start|>assistant{# <|channel|>analysis functions #}',
  tags: ['<|start|>', '<|end|>', '<|message|>', '<|channel|>', '<|call|>'],
};

const servers: SayingServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop(0)));
});

/** Ends with the test. */
async function serverSaying(...args: Parameters<typeof startSayingServer>): Promise<SayingServer> {
  const server = await startSayingServer(...args);
  servers.push(server);
  return server;
}

const WEATHER = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } } },
  },
};
const ASK = { model: '', messages: [{ role: 'user' as const, content: 'Weather?' }] };
const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bath"}}\n</tool_call>';

// biome-ignore lint/suspicious/noExplicitAny: whatever documents came
const json = async (response: Response): Promise<any> => response.json();
const chat = async (server: TestServer, body: object) =>
  server.post('/v1/chat/completions', { ...ASK, ...body });

/** The deltas of a stream, those of one kind put together. */
async function streamed(server: TestServer, body: object) {
  const response = await chat(server, { ...body, stream: true });
  // biome-ignore lint/suspicious/noExplicitAny: whatever documents came
  const events: any[] = eventsOf(await response.text());
  return { events, choices: events.flatMap((event) => event.choices) };
}

describe('an answer with calls', () => {
  test('is whole: content, calls, and why it ended', async () => {
    const server = await serverSaying(`Let me see.\n${CALL}\n${CALL}`);
    const { choices, usage } = await json(await chat(server, { tools: [WEATHER], n: 2 }));
    expect(choices).toHaveLength(2);
    for (const { message, finish_reason: reason } of choices) {
      expect(reason).toBe('tool_calls');
      expect(message.content).toBe('Let me see.');
      expect(message.tool_calls).toMatchObject([
        { type: 'function', function: { name: 'get_weather', arguments: '{"city": "Bath"}' } },
        { type: 'function', function: { name: 'get_weather', arguments: '{"city": "Bath"}' } },
      ]);
    }
    const ids = choices.flatMap((each: { message: { tool_calls: { id: string }[] } }) =>
      each.message.tool_calls.map(({ id }) => id),
    );
    expect(new Set(ids).size).toBe(4);
    for (const id of ids) expect(id).toMatch(/^call_[0-9a-f]{24}$/);
    expect(usage.completion_tokens_details).toEqual({ reasoning_tokens: 0 });
  });

  test('is content alone where no tools are given, or none is to be called', async () => {
    const server = await serverSaying(CALL);
    for (const body of [{}, { tools: [WEATHER], tool_choice: 'none' }]) {
      const { choices } = await json(await chat(server, body));
      expect(choices[0]).toMatchObject({ message: { content: CALL }, finish_reason: 'stop' });
      expect(choices[0].message).not.toHaveProperty('tool_calls');
    }
  });

  test('is streamed: the name first, then arguments as they come', async () => {
    const server = await serverSaying(`Let me see.\n${CALL}`);
    const { choices } = await streamed(server, { tools: [WEATHER] });
    const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
    expect(calls[0]).toEqual({
      index: 0,
      id: expect.stringMatching(/^call_/),
      type: 'function',
      function: { name: 'get_weather', arguments: '' },
    });
    const pieces = calls.slice(1);
    for (const piece of pieces) expect(Object.keys(piece)).toEqual(['index', 'function']);
    const given = pieces.map((piece) => piece.function.arguments).join('');
    expect(given).toBe('{"city": "Bath"}');
    expect(choices.map(({ delta }) => delta.content ?? '').join('')).toBe('Let me see.');
    expect(choices.at(-1).finish_reason).toBe('tool_calls');
  });

  test('that breaks off is content where it is whole', async () => {
    const broken = 'So: <tool_call>\n{"name": "get_weather", "arguments": {"city": ';
    const server = await serverSaying(broken);
    const { choices } = await json(await chat(server, { tools: [WEATHER] }));
    expect(choices[0]).toMatchObject({ message: { content: broken }, finish_reason: 'stop' });
  });

  test('ends with its first call where there may be one alone', async () => {
    const server = await serverSaying(`${CALL}\n${CALL} and more`);
    const body = { tools: [WEATHER], parallel_tool_calls: false };
    const { choices } = await json(await chat(server, body));
    expect(choices[0].message).toMatchObject({ content: null, tool_calls: [{}] });
    expect(choices[0].message.tool_calls).toHaveLength(1);
    expect(choices[0].finish_reason).toBe('tool_calls');
    const { choices: chunks } = await streamed(server, body);
    const begun = chunks.flatMap(({ delta }) => delta.tool_calls ?? []).filter(({ id }) => id);
    expect(begun).toHaveLength(1);
    expect(chunks.at(-1).finish_reason).toBe('tool_calls');
  });

  test('has the logprobs of all its tokens, in order', async () => {
    const said = `<think>hm</think>Yes.${CALL}`;
    const server = await serverSaying(said);
    const tokens = Array.from(server.tokenizer.encode(said, false), (id) =>
      server.tokenizer.decode([id], false),
    );
    const body = { tools: [WEATHER], logprobs: true };
    const named = (content: { token: string }[]) => content.map(({ token }) => token);
    const { choices } = await json(await chat(server, body));
    expect(named(choices[0].logprobs.content)).toEqual([...tokens, '<|endoftext|>']);
    const { choices: chunks } = await streamed(server, body);
    const all = chunks.flatMap((chunk) => named(chunk.logprobs?.content ?? []));
    expect(all).toEqual([...tokens, '<|endoftext|>']);
  });

  test('has in a response the logprobs of its content alone', async () => {
    const server = await serverSaying(`<think>hm</think>Yes.${CALL}`);
    const { name, parameters } = WEATHER.function;
    const { output } = await json(
      await server.post('/v1/responses', {
        model: server.modelName,
        input: 'Weather?',
        tools: [{ type: 'function', name, parameters, strict: false }],
        include: ['message.output_text.logprobs'],
      }),
    );
    expect(output.map(({ type }: { type: string }) => type)).toEqual([
      'reasoning',
      'message',
      'function_call',
    ]);
    const [{ logprobs }] = output[1].content;
    const content = Array.from(server.tokenizer.encode('Yes.', false), (id) =>
      server.tokenizer.decode([id], false),
    );
    const said = logprobs.map(({ token }: { token: string }) => token);
    expect(said).toEqual([...content, '<|endoftext|>']);
  });

  test('stops at a stop string, in text and in arguments alike', async () => {
    const server = await serverSaying(`Hello.${CALL}`);
    const { choices } = await json(await chat(server, { tools: [WEATHER], stop: 'Ba' }));
    expect(choices[0]).toMatchObject({ finish_reason: 'stop', stop_reason: 'Ba' });
    expect(choices[0].message.content).toContain('Hello.<tool_call>');
  });
});

describe('reasoning', () => {
  const SAID = '<think>\nIt is two.\n</think>\n\nTwo.';

  test('is told apart, under both names, and counted', async () => {
    const server = await serverSaying(SAID);
    const { choices, usage } = await json(await chat(server, {}));
    expect(choices[0].message).toEqual({
      role: 'assistant',
      content: 'Two.',
      reasoning: 'It is two.',
      reasoning_content: 'It is two.',
    });
    const reasons = server.tokenizer.encode('<think>\nIt is two.\n</think>', false).length;
    expect(usage.completion_tokens_details).toEqual({ reasoning_tokens: reasons });
    const body = { stream_options: { include_usage: true } };
    const { events, choices: chunks } = await streamed(server, body);
    const joined = (name: string) => chunks.map(({ delta }) => delta[name] ?? '').join('');
    expect([joined('reasoning'), joined('reasoning_content')]).toEqual([
      'It is two.',
      'It is two.',
    ]);
    expect(joined('content')).toBe('Two.');
    expect(events.at(-1).usage.completion_tokens_details.reasoning_tokens).toBe(reasons);
  });

  test('is left out where that is asked for', async () => {
    const server = await serverSaying(SAID);
    const body = { include_reasoning: false };
    const { choices } = await json(await chat(server, body));
    expect(choices[0].message).toEqual({ role: 'assistant', content: 'Two.' });
    const { choices: chunks } = await streamed(server, body);
    for (const { delta } of chunks) expect(delta).not.toHaveProperty('reasoning');
    expect(chunks.map(({ delta }) => delta.content ?? '').join('')).toBe('Two.');
  });

  test('goes on from what the prompt opened, by the effort that is asked for', async () => {
    const server = await serverSaying((prompt) =>
      prompt.endsWith('<think>\n') ? 'Hm.</think>Two.' : 'Two.',
    );
    const efforts = { low: 'Hm.', high: 'Hm.', none: undefined };
    for (const [effort, reasoning] of Object.entries(efforts)) {
      const { choices } = await json(await chat(server, { reasoning_effort: effort }));
      expect([effort, choices[0].message.reasoning]).toEqual([effort, reasoning]);
      expect(choices[0].message.content).toBe('Two.');
    }
    const thinking = { chat_template_kwargs: { enable_thinking: true } };
    const { choices } = await json(await chat(server, thinking));
    expect(choices[0].message.reasoning).toBe('Hm.');
  });

  test('of a message that is continued goes on', async () => {
    const server = await serverSaying('two.</think>Two.');
    const { choices } = await json(
      await chat(server, {
        messages: [...ASK.messages, { role: 'assistant', content: '<think>It is ' }],
        add_generation_prompt: false,
        continue_final_message: true,
      }),
    );
    expect(choices[0].message).toMatchObject({ content: 'Two.', reasoning: 'two.' });
  });
});

test('messages of harmony become reasoning, content and calls', async () => {
  const said =
    '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary' +
    '<|message|>Let me see.<|end|><|start|>assistant<|channel|>commentary ' +
    'to=functions.get_weather json<|message|>{"city": "Bath"}<|call|>';
  const server = await serverSaying(said, {}, HARMONY);
  const expected = {
    content: 'Let me see.',
    reasoning: 'Hm.',
    tool_calls: [{ function: { name: 'get_weather', arguments: '{"city": "Bath"}' } }],
  };
  const { choices } = await json(await chat(server, { tools: [WEATHER] }));
  expect(choices[0]).toMatchObject({ message: expected, finish_reason: 'tool_calls' });
  // Also where the call's end is what ends the answer, and is not shown.
  const ending = {
    tools: [WEATHER],
    stop_token_ids: [FIRST_TAG + HARMONY.tags.indexOf('<|call|>')],
  };
  const { choices: ended } = await json(await chat(server, ending));
  expect(ended[0]).toMatchObject({ message: expected, finish_reason: 'tool_calls' });
});

describe('what cannot be', () => {
  test.each([
    ['tool_choice', { tool_choice: 'required' }],
    ['tool_choice', { tools: [WEATHER], tool_choice: 'sometimes' }],
    [
      'tool_choice',
      { tools: [WEATHER], tool_choice: { type: 'function', function: { name: 'other' } } },
    ],
    ['tools.0', { tools: [{ type: 'custom', custom: { name: 'x' } }] }],
    ['tools.0', { tools: [{ type: 'function', function: { name: '' } }] }],
    ['tools.0', { tools: [{ type: 'function', function: { name: 'x', parameters: [] } }] }],
  ])('is refused by name: %s %o', async (param, body) => {
    const server = await serverSaying('x');
    const response = await chat(server, body);
    expect(response.status).toBe(400);
    expect((await json(response)).error.param).toBe(param);
  });

  test('is refused where calls are turned off, or how they look is not known', async () => {
    const server = await serverSaying('x', {
      enableAutoToolChoice: false,
    });
    const off = await json(await chat(server, { tools: [WEATHER] }));
    expect(off.error.message).toContain('--enable-auto-tool-choice');
    const other = await serverSaying(CALL, {
      toolCallParser: 'off',
    });
    const unknown = await json(await chat(other, { tools: [WEATHER], tool_choice: 'required' }));
    expect(unknown.error.message).toContain('--tool-call-parser');
    // As it has always been: the template has the tools, and the answer is text.
    const text = await json(await chat(other, { tools: [WEATHER] }));
    expect(text.choices[0].message.content).toBe(CALL);
  });
});
