import Anthropic from '@anthropic-ai/sdk';
import { startSayingServer, type TestServer } from '@bridgekeeper/server/testing';
import { Agent, OpenAIProvider, Runner, tool } from '@openai/agents';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';

// Clients as they are, in a loop of two turns: the model calls a tool, and answers with its result.

const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bath"}}\n</tool_call>';

let server: TestServer;
let openai: OpenAI;
let anthropic: Anthropic;

beforeAll(async () => {
  server = await startSayingServer((prompt) => {
    if (prompt.includes('sunny')) return `<think>\nIt is known.\n</think>\nBath is sunny.`;
    return prompt.includes('get_weather')
      ? `<think>\nI look.\n</think>\nOne moment.\n${CALL}`
      : 'Hi';
  });
  const options = { apiKey: 'any', maxRetries: 0 };
  openai = new OpenAI({ baseURL: `${server.url}/v1`, ...options });
  anthropic = new Anthropic({ baseURL: server.url, ...options });
});
afterAll(() => server.stop(0));

const PARAMETERS = { type: 'object', properties: { city: { type: 'string' } } };
const DESCRIPTION = 'The weather in a city';

describe('openai', () => {
  const tools = [
    {
      type: 'function' as const,
      name: 'get_weather',
      description: DESCRIPTION,
      parameters: PARAMETERS,
      strict: null,
    },
  ];

  test('runs tools over responses, sending what was said or going on from it', async () => {
    const input: OpenAI.Responses.ResponseInput = [{ role: 'user', content: 'The weather?' }];
    const asked = await openai.responses.create({ model: 'saying', input, tools });
    expect(asked.status).toBe('completed');
    expect(asked.output_text).toBe('One moment.');
    const kinds = asked.output.map(({ type }) => type);
    expect(kinds).toEqual(['reasoning', 'message', 'function_call']);
    const call = asked.output[2] as OpenAI.Responses.ResponseFunctionToolCall;
    expect(call).toMatchObject({ name: 'get_weather', status: 'completed' });
    expect(JSON.parse(call.arguments)).toEqual({ city: 'Bath' });
    expect(asked.usage!.output_tokens_details.reasoning_tokens).toBeGreaterThan(0);
    const result = {
      type: 'function_call_output' as const,
      call_id: call.call_id,
      output: 'sunny',
    };
    const sent = [...input, ...(asked.output as OpenAI.Responses.ResponseInputItem[]), result];
    const again = await openai.responses.create({ model: 'saying', input: sent, tools });
    expect(again.output_text).toBe('Bath is sunny.');
    const kept = await openai.responses.create({
      model: 'saying',
      input: [result],
      previous_response_id: asked.id,
      tools,
    });
    expect(kept.output_text).toBe('Bath is sunny.');
    expect(kept.usage!.input_tokens).toBe(again.usage!.input_tokens);
  });

  test('puts a stream together to the response that it ends with', async () => {
    const stream = openai.responses.stream({ model: 'saying', input: 'The weather?', tools });
    const types: string[] = [];
    const numbers: number[] = [];
    for await (const event of stream) {
      if (types.at(-1) !== event.type) types.push(event.type);
      numbers.push(event.sequence_number);
    }
    expect(numbers).toEqual(numbers.map((_, at) => at));
    const said = (kind: string) => [
      'response.output_item.added',
      'response.content_part.added',
      `response.${kind}.delta`,
      `response.${kind}.done`,
      'response.content_part.done',
      'response.output_item.done',
    ];
    expect(types).toEqual([
      'response.created',
      'response.in_progress',
      ...said('reasoning_text'),
      ...said('output_text'),
      'response.output_item.added',
      'response.function_call_arguments.delta',
      'response.function_call_arguments.done',
      'response.output_item.done',
      'response.completed',
    ]);
    const response = await stream.finalResponse();
    expect(response.output.map(({ type }) => type)).toEqual([
      'reasoning',
      'message',
      'function_call',
    ]);
    expect(response.output_text).toBe('One moment.');
    const kept = await openai.responses.retrieve(response.id);
    expect(kept.output).toEqual(JSON.parse(JSON.stringify(kept.output)));
    expect(kept.output_text).toBe('One moment.');
  });
});

describe('@openai/agents', () => {
  const weather = tool({
    name: 'get_weather',
    description: DESCRIPTION,
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => `${city}: sunny`,
  });
  const agent = new Agent({ name: 'Forecaster', instructions: 'Be brief.', tools: [weather] });
  const runner = () =>
    new Runner({
      modelProvider: new OpenAIProvider({ openAIClient: openai, useResponses: true }),
      tracingDisabled: true,
      model: 'saying',
    });

  test('runs its tools and answers', async () => {
    const result = await runner().run(agent, 'The weather?');
    expect(result.finalOutput).toBe('Bath is sunny.');
    expect(result.newItems.map(({ type }) => type)).toContain('tool_call_output_item');
  });

  test('does so over streams', async () => {
    const result = await runner().run(agent, 'The weather?', { stream: true });
    let text = '';
    for await (const event of result) {
      if (event.type !== 'raw_model_stream_event') continue;
      if (event.data.type === 'output_text_delta') text += event.data.delta;
    }
    await result.completed;
    expect(text).toBe('One moment.Bath is sunny.');
    expect(result.finalOutput).toBe('Bath is sunny.');
  });
});

describe('@anthropic-ai/sdk', () => {
  const tools: Anthropic.Tool[] = [
    {
      name: 'get_weather',
      description: DESCRIPTION,
      input_schema: { ...PARAMETERS, type: 'object' },
    },
  ];
  const first: Anthropic.MessageParam = { role: 'user', content: 'The weather?' };
  const create = (messages: Anthropic.MessageParam[]) =>
    anthropic.messages.create({ model: 'saying', max_tokens: 512, tools, messages });

  test('runs tools, with what was thought sent back', async () => {
    const asked = await create([first]);
    expect(asked.stop_reason).toBe('tool_use');
    expect(asked.content.map(({ type }) => type)).toEqual(['thinking', 'text', 'tool_use']);
    const call = asked.content[2] as Anthropic.ToolUseBlock;
    expect(call).toMatchObject({ name: 'get_weather', input: { city: 'Bath' } });
    const answered = await create([
      first,
      { role: 'assistant', content: asked.content as Anthropic.ContentBlockParam[] },
      {
        role: 'user',
        content: [{ type: 'tool_result', tool_use_id: call.id, content: 'sunny' }],
      },
    ]);
    expect(answered.stop_reason).toBe('end_turn');
    expect(answered.content.at(-1)).toMatchObject({ type: 'text', text: 'Bath is sunny.' });
  });

  test('puts a stream together to the same message', async () => {
    const stream = anthropic.messages.stream({
      model: 'saying',
      max_tokens: 512,
      tools,
      messages: [first],
    });
    const types = new Set<string>();
    stream.on('streamEvent', ({ type }) => types.add(type));
    const message = await stream.finalMessage();
    expect([...types]).toEqual([
      'message_start',
      'content_block_start',
      'content_block_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ]);
    expect(message.content).toMatchObject([
      { type: 'thinking', thinking: 'I look.' },
      { type: 'text', text: 'One moment.' },
      { type: 'tool_use', name: 'get_weather', input: { city: 'Bath' } },
    ]);
    expect(message.stop_reason).toBe('tool_use');
    expect(message.usage.output_tokens).toBeGreaterThan(10);
  });
});
