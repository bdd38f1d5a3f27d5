import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import type { RunningServer } from '@bridgekeeper/server';
import { startBundledModel } from '@bridgekeeper/server/testing';
import { HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool as langchainTool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { Agent, OpenAIProvider, Runner, tool } from '@openai/agents';
import { tool as aiTool, generateObject, generateText, stepCountIs } from 'ai';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';

// Clients as they are, against the bundled model on the cpu device. It knows of no tools: that it
// calls, and calls well, is the grammar's doing.

let server: RunningServer;
let openai: OpenAI;
let anthropic: Anthropic;

beforeAll(async () => {
  server = await startBundledModel({ toolCallParser: 'hermes', reasoningParser: 'qwen3' });
  const options = { apiKey: 'none', maxRetries: 0 };
  openai = new OpenAI({ baseURL: `${server.url}/v1`, ...options });
  anthropic = new Anthropic({ baseURL: server.url, ...options });
});
afterAll(() => server.stop(0));

const INPUT = 'Once upon a time';
const City = z.object({ city: z.enum(['Bath', 'York']) });
const PARAMETERS = {
  type: 'object' as const,
  properties: { city: { type: 'string', enum: ['Bath', 'York'] } },
  required: ['city'],
  additionalProperties: false,
};

describe('openai', () => {
  const plain = () => ({
    model: server.modelName,
    input: INPUT,
    max_output_tokens: 12,
    temperature: 0,
  });

  test('gets the same text whole and streamed, and a refusal by name', async () => {
    const whole = await openai.responses.create(plain());
    expect(whole.output_text).toMatch(/\w/);
    expect(whole.status).toBe('incomplete');
    const stream = openai.responses.stream(plain());
    let text = '';
    stream.on('response.output_text.delta', ({ delta }) => {
      text += delta;
    });
    expect((await stream.finalResponse()).output_text).toBe(whole.output_text);
    expect(text).toBe(whole.output_text);
    const background = openai.responses.create({ ...plain(), background: true });
    await expect(background).rejects.toMatchObject({ status: 400, param: 'background' });
    const unknown = openai.responses.create({ ...plain(), model: 'none' });
    await expect(unknown).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });

  test('parses what is held to a schema', async () => {
    // The model would think for ever. Its tags are text, of more tokens than the least budget.
    for (const budget of [20, 4, 1]) {
      const { output_text: text } = await openai.responses.create({
        ...plain(),
        max_output_tokens: 100,
        thinking_budget: budget,
        text: { format: { type: 'json_schema', name: 'city', schema: PARAMETERS, strict: true } },
      } as OpenAI.Responses.ResponseCreateParamsNonStreaming);
      expect(City.safeParse(JSON.parse(text)).success, `${budget}`).toBe(true);
    }
  });

  test('goes on from a call that had to come', async () => {
    const tools = [
      { type: 'function' as const, name: 'look', parameters: PARAMETERS, strict: true },
    ];
    const asked = await openai.responses.create({
      ...plain(),
      max_output_tokens: 200,
      tools,
      tool_choice: 'required',
      parallel_tool_calls: false,
    });
    const call = asked.output.find((item) => item.type === 'function_call')!;
    expect(City.safeParse(JSON.parse(call.arguments)).success).toBe(true);
    const answered = await openai.responses.create({
      ...plain(),
      previous_response_id: asked.id,
      input: [{ type: 'function_call_output', call_id: call.call_id, output: 'It is sunny.' }],
      tools,
      tool_choice: 'none',
    });
    expect(answered.output_text).toMatch(/\w/);
    expect(answered.usage!.input_tokens).toBeGreaterThan(asked.usage!.input_tokens);
  });
});

test('openai parses a chat that is held to a schema', async () => {
  const completion = await openai.chat.completions.parse({
    model: server.modelName,
    messages: [{ role: 'user', content: INPUT }],
    max_tokens: 100,
    thinking_budget: 20,
    response_format: zodResponseFormat(City, 'city'),
  } as OpenAI.ChatCompletionCreateParamsNonStreaming);
  const { parsed } = completion.choices[0]!.message as { parsed?: unknown };
  expect(City.safeParse(parsed).success).toBe(true);
});

describe('ai with @ai-sdk/openai-compatible', () => {
  const model = () =>
    createOpenAICompatible({
      name: 'bridgekeeper',
      baseURL: `${server.url}/v1`,
      supportsStructuredOutputs: true,
    })(server.modelName);
  const budget = { bridgekeeper: { thinking_budget: 20 } };

  test('generates an object', async () => {
    const { object } = await generateObject({
      model: model(),
      schema: City,
      prompt: INPUT,
      maxOutputTokens: 100,
      maxRetries: 0,
      providerOptions: budget,
    });
    expect(City.safeParse(object).success).toBe(true);
  });

  test('runs a tool that the model must call, and ends with its text', async () => {
    const seen: string[] = [];
    const look = aiTool({
      description: 'Looks at a city',
      inputSchema: City,
      execute: async ({ city }) => {
        seen.push(city);
        return 'It is sunny.';
      },
    });
    const { steps, text } = await generateText({
      model: model(),
      prompt: INPUT,
      tools: { look },
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' }),
      maxOutputTokens: 200,
      maxRetries: 0,
      providerOptions: { bridgekeeper: { parallel_tool_calls: false, ...budget.bridgekeeper } },
    });
    expect(steps).toHaveLength(2);
    expect(['Bath', 'York']).toContain(seen[0]);
    expect(text).toMatch(/\w/);
  });
});

describe('@langchain/openai', () => {
  const chat = () =>
    new ChatOpenAI({
      model: server.modelName,
      apiKey: 'none',
      maxTokens: 100,
      maxRetries: 0,
      modelKwargs: { thinking_budget: 20 },
      configuration: { baseURL: `${server.url}/v1` },
    });

  test('has structured output, by a schema and by a tool', async () => {
    for (const method of ['jsonSchema', 'functionCalling'] as const) {
      const found = await chat().withStructuredOutput(City, { method }).invoke(INPUT);
      expect(City.safeParse(found).success, method).toBe(true);
    }
  });

  test('runs a tool that the model must call, and ends with its text', async () => {
    const look = langchainTool(async ({ city }) => `It is sunny in ${city}.`, {
      name: 'look',
      description: 'Looks at a city',
      schema: City,
    });
    const question = new HumanMessage(INPUT);
    const options = { parallel_tool_calls: false };
    const asked = await chat()
      .bindTools([look], { tool_choice: 'required', ...options })
      .invoke([question]);
    const [call] = asked.tool_calls!;
    expect(City.safeParse(call!.args).success).toBe(true);
    const content = await look.invoke(City.parse(call!.args));
    const result = new ToolMessage({ content, tool_call_id: call!.id! });
    const answered = await chat()
      .bindTools([look], { tool_choice: 'none' })
      .invoke([question, asked, result]);
    expect(answered.text).toMatch(/\w/);
  });
});

test('@openai/agents runs a tool that the model must call, and ends with its text', async () => {
  const seen: string[] = [];
  const look = tool({
    name: 'look',
    description: 'Looks at a city',
    parameters: City,
    execute: async ({ city }) => {
      seen.push(city);
      return 'It is sunny.';
    },
  });
  const agent = new Agent({
    name: 'Watcher',
    tools: [look],
    modelSettings: {
      toolChoice: 'required',
      parallelToolCalls: false,
      maxTokens: 100,
      temperature: 0,
    },
  });
  const runner = new Runner({
    modelProvider: new OpenAIProvider({ openAIClient: openai, useResponses: true }),
    tracingDisabled: true,
    model: server.modelName,
  });
  const result = await runner.run(agent, INPUT);
  expect(seen.length).toBeGreaterThan(0);
  expect(['Bath', 'York']).toContain(seen[0]);
  expect(result.finalOutput).toMatch(/\w/);
});

describe('@anthropic-ai/sdk', () => {
  const first: Anthropic.MessageParam = { role: 'user', content: INPUT };
  const plain = () => ({
    model: server.modelName,
    messages: [first],
    max_tokens: 12,
    temperature: 0,
  });
  const textOf = ({ content }: Anthropic.Message) =>
    content.map((block) => (block.type === 'text' ? block.text : '')).join('');

  test('gets the same text whole and streamed, and a refusal of its own class', async () => {
    const whole = await anthropic.messages.create(plain());
    expect(textOf(whole)).toMatch(/\w/);
    expect(whole.stop_reason).toBe('max_tokens');
    const streamed = await anthropic.messages.stream(plain()).finalMessage();
    expect(textOf(streamed)).toBe(textOf(whole));
    expect(streamed.usage.output_tokens).toBe(12);
    const image = { type: 'image' as const, source: { type: 'url' as const, url: 'x' } };
    const messages: Anthropic.MessageParam[] = [{ role: 'user', content: [image] }];
    const refused = anthropic.messages.create({ ...plain(), messages });
    await expect(refused).rejects.toBeInstanceOf(Anthropic.BadRequestError);
  });

  test('goes on from a tool that had to be used', async () => {
    const tools = [{ name: 'look', input_schema: PARAMETERS, strict: true }];
    const asked = await anthropic.messages.create({
      ...plain(),
      max_tokens: 200,
      tools,
      tool_choice: { type: 'any', disable_parallel_tool_use: true },
    });
    expect(asked.stop_reason).toBe('tool_use');
    const use = asked.content.find((block) => block.type === 'tool_use')!;
    expect(City.safeParse(use.input).success).toBe(true);
    const answered = await anthropic.messages.create({
      ...plain(),
      messages: [
        first,
        { role: 'assistant', content: asked.content as Anthropic.ContentBlockParam[] },
        {
          role: 'user',
          content: [{ type: 'tool_result', tool_use_id: use.id, content: 'It is sunny.' }],
        },
      ],
      tools,
      tool_choice: { type: 'none' },
    });
    expect(textOf(answered)).toMatch(/\w/);
  });
});
