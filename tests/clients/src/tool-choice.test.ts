import type { RunningServer } from '@bridgekeeper/server';
import { startBundledModel } from '@bridgekeeper/server/testing';
import { Ajv } from 'ajv';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

// The bundled model on the cpu device knows of no tools and no format: that it calls, and calls
// well, is the grammar's doing alone.

const servers = new Map<string, RunningServer>();
beforeAll(async () => {
  for (const toolCallParser of ['hermes', 'qwen3_coder'] as const) {
    const formats = { toolCallParser, reasoningParser: 'qwen3' } as const;
    servers.set(toolCallParser, await startBundledModel(formats));
  }
});
afterAll(async () => {
  for (const server of servers.values()) await server.stop(0);
});

const clientOf = ({ url }: RunningServer) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });

const parameters = {
  type: 'object',
  properties: {
    city: { enum: ['Bath', 'York'] },
    days: { type: 'integer', minimum: 1, maximum: 9 },
    place: {
      type: 'object',
      properties: { coast: { type: 'boolean' } },
      required: ['coast'],
      additionalProperties: false,
    },
  },
  required: ['city', 'days', 'place'],
  additionalProperties: false,
};
const validate = new Ajv().compile(parameters);
const WEATHER = {
  type: 'function' as const,
  function: { name: 'get_weather', strict: true, parameters },
};
const NOW = {
  type: 'function' as const,
  function: {
    name: 'now',
    strict: true,
    parameters: { type: 'object', properties: {}, additionalProperties: false },
  },
};

const ask = (server: RunningServer) => ({
  model: server.modelName,
  messages: [{ role: 'user' as const, content: 'Once upon a time' }],
  tools: [WEATHER, NOW],
  max_tokens: 200,
  seed: 3,
});

type Message = OpenAI.Chat.Completions.ChatCompletionMessage;

/** Their names; each has arguments that its schema lets through. */
function namesOf({ content, tool_calls: calls = [] }: Message): string[] {
  expect(content).toBeNull();
  return calls.map((call) => {
    const { name, arguments: given } = (call as { function: { name: string; arguments: string } })
      .function;
    const value = JSON.parse(given);
    if (name === 'get_weather') expect(validate(value), given).toBe(true);
    else expect([name, value]).toEqual(['now', {}]);
    return name;
  });
}

describe.each(['hermes', 'qwen3_coder'] as const)('a model that calls as %s has it', (parser) => {
  test('must call where that is asked for, any tool or one, whole and streamed', async () => {
    const server = servers.get(parser)!;
    const { completions } = clientOf(server).chat;
    const one = { parallel_tool_calls: false } as const;
    const any = await completions.create({ ...ask(server), ...one, tool_choice: 'required' });
    expect(any.choices[0]?.finish_reason).toBe('tool_calls');
    expect(namesOf(any.choices[0]!.message)).toHaveLength(1);
    for (const name of ['get_weather', 'now']) {
      const named = { type: 'function' as const, function: { name } };
      const request = { ...ask(server), ...one, tool_choice: named };
      const stream = completions.stream(request);
      const [choice] = (await stream.finalChatCompletion()).choices;
      expect(namesOf(choice!.message)).toEqual([name]);
    }
  });
});

test('a strict tool is held to its schema where it may be called, and text is text', async () => {
  const server = servers.get('hermes')!;
  const answer = await clientOf(server).chat.completions.create({ ...ask(server), max_tokens: 12 });
  expect(answer.choices[0]).toMatchObject({ finish_reason: 'length' });
  expect(answer.choices[0]?.message.content).toMatch(/\w/);
});

test('a conversation goes on from a call and its result', async () => {
  const server = servers.get('hermes')!;
  const { completions } = clientOf(server).chat;
  const request = { ...ask(server), parallel_tool_calls: false };
  const called = await completions.create({ ...request, tool_choice: 'required' });
  const { message } = called.choices[0]!;
  const result = {
    role: 'tool' as const,
    tool_call_id: message.tool_calls![0]!.id,
    content: 'sun',
  };
  const messages = [...request.messages, message, result];
  const told = await completions.create({ ...request, messages, max_tokens: 8 });
  expect(told.choices[0]?.message.content).toMatch(/\w/);
});

test('reasoning ends at its budget, and what is held comes after it', async () => {
  const server = servers.get('hermes')!;
  const body = {
    ...ask(server),
    tool_choice: 'required' as const,
    parallel_tool_calls: false,
    thinking_token_budget: 24,
  };
  const answer = await clientOf(server).chat.completions.create(body);
  const message = answer.choices[0]!.message as Message & { reasoning: string };
  expect(message.reasoning).toMatch(/\w/);
  expect(namesOf(message)).toHaveLength(1);
  // To this model tags are text: the one that opens counts, and the other has up to 12 tokens.
  const close = 12;
  const reasons = answer.usage?.completion_tokens_details?.reasoning_tokens;
  expect(reasons).toBeGreaterThanOrEqual(24);
  expect(reasons).toBeLessThanOrEqual(24 + close);
});
