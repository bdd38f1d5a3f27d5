import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  AIMessage,
  HumanMessage,
  SystemMessage,
  ToolMessage,
  type UsageMetadata,
} from '@langchain/core/messages';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { OpenAI as LlamaIndex, OpenAIEmbedding } from '@llamaindex/openai';
import { embed, generateText, jsonSchema, streamText, tool } from 'ai';
import { type Served, STORYTELLER, serve, stop } from 'bridgekeeper/testing';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** In the manner of Qwen's: what reaches the model of tools and their results can be read in it. */
const TEMPLATE = String.raw`
{%- if messages[0].role == 'system' or tools %}
{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}
{%- for tool in tools or [] %}{{ '\n' ~ tool | tojson }}{% endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' ~ message.content ~ '\n</tool_response><|im_end|>\n' }}
{%- elif message.role != 'system' %}
{{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
{{- call.function.arguments | tojson ~ '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
`;

const MODEL = 'storyteller';
const KEY = 'a-key';
const SCARCE_KEY = 'a-scarce-key';
const PROMPT = 'Once upon a time';
const PARAMETERS = {
  type: 'object',
  properties: { city: { type: 'string', description: 'Where' } },
  required: ['city'],
} as const;
const TOOL = { name: 'get_weather', description: 'The weather', parameters: PARAMETERS };
const TOOLS = [{ type: 'function', function: TOOL }] as const;

/** What every library's conversation about the weather must come to. */
const RENDERED = `<|im_start|>system
Be brief.
{"type": "function", "function": {"name": "get_weather", "description": "The weather", \
"parameters": {"type": "object", "properties": {"city": {"type": "string", "description": \
"Where"}}, "required": ["city"]}}}<|im_end|>
<|im_start|>user
How warm is it in Rome?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "get_weather", "arguments": {"city": "Rome"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
21 degrees
</tool_response><|im_end|>
<|im_start|>assistant
`;

interface Choices {
  readonly maxTokens: number;
  readonly temperature?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly model?: string;
  readonly apiKey?: string;
}

interface Answer {
  readonly text: string;
  readonly promptTokens: number | undefined;
  readonly outputTokens: number | undefined;
  readonly finishReason: string | undefined;
}

/** One library, as its users call it. */
interface Library {
  chat(prompt: string, choices: Choices): Promise<Answer>;
  stream(prompt: string, choices: Choices): Promise<readonly string[]>;
  /** Asks about the weather, with the call and its result in the history. */
  weather(choices: Choices): Promise<Answer>;
  embed(text: string): Promise<unknown>;
}

type Fetch = typeof fetch;

async function collected(texts: AsyncIterable<string | null | undefined>): Promise<string[]> {
  const parts: string[] = [];
  for await (const text of texts) if (text) parts.push(text);
  return parts;
}

function openai(baseURL: string, fetch: Fetch): Library {
  const client = (apiKey = KEY) => new OpenAI({ baseURL, apiKey, fetch, maxRetries: 0 });
  const fieldsOf = ({ maxTokens, temperature = 0, seed, stop, model = MODEL }: Choices) => ({
    model,
    max_tokens: maxTokens,
    temperature,
    ...(seed === undefined ? {} : { seed }),
    ...(stop === undefined ? {} : { stop: [...stop] }),
  });
  const ask = async (
    messages: OpenAI.ChatCompletionMessageParam[],
    choices: Choices,
    tools?: OpenAI.ChatCompletionTool[],
  ): Promise<Answer> => {
    const body = { ...fieldsOf(choices), messages, ...(tools === undefined ? {} : { tools }) };
    const reply = await client(choices.apiKey).chat.completions.create(body);
    const [choice] = reply.choices;
    return {
      text: choice!.message.content!,
      promptTokens: reply.usage?.prompt_tokens,
      outputTokens: reply.usage?.completion_tokens,
      finishReason: choice!.finish_reason,
    };
  };
  return {
    chat: (content, choices) => ask([{ role: 'user', content }], choices),
    stream: async (content, choices) => {
      const messages = [{ role: 'user' as const, content }];
      const body = { ...fieldsOf(choices), messages, stream: true as const };
      const chunks = await client(choices.apiKey).chat.completions.create(body);
      return collected(
        (async function* () {
          for await (const {
            choices: [choice],
          } of chunks)
            yield choice?.delta.content;
        })(),
      );
    },
    weather: (choices) =>
      ask(
        [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'How warm is it in Rome?' },
          {
            role: 'assistant',
            content: null,
            tool_calls: [
              {
                id: 'call_1',
                type: 'function',
                function: { name: TOOL.name, arguments: '{"city":"Rome"}' },
              },
            ],
          },
          { role: 'tool', tool_call_id: 'call_1', content: '21 degrees' },
        ],
        choices,
        [{ type: 'function', function: TOOL }],
      ),
    embed: (input) => client().embeddings.create({ model: MODEL, input }),
  };
}

function aiSdk(baseURL: string, fetch: Fetch): Library {
  const provider = (apiKey = KEY) =>
    createOpenAICompatible({ name: 'bridgekeeper', baseURL, apiKey, fetch, includeUsage: true });
  const settingsOf = ({ maxTokens, temperature = 0, seed, stop, model, apiKey }: Choices) => ({
    model: provider(apiKey)(model ?? MODEL),
    maxOutputTokens: maxTokens,
    temperature,
    maxRetries: 0,
    ...(seed === undefined ? {} : { seed }),
    ...(stop === undefined ? {} : { stopSequences: [...stop] }),
  });
  const answerOf = (reply: Awaited<ReturnType<typeof generateText>>): Answer => ({
    text: reply.text,
    promptTokens: reply.usage.inputTokens,
    outputTokens: reply.usage.outputTokens,
    finishReason: reply.finishReason,
  });
  const call = { toolCallId: 'call_1', toolName: TOOL.name };
  return {
    chat: async (prompt, choices) =>
      answerOf(await generateText({ ...settingsOf(choices), prompt })),
    stream: (prompt, choices) =>
      collected(streamText({ ...settingsOf(choices), prompt }).textStream),
    weather: async (choices) => {
      const reply = await generateText({
        ...settingsOf(choices),
        system: 'Be brief.',
        messages: [
          { role: 'user', content: 'How warm is it in Rome?' },
          { role: 'assistant', content: [{ type: 'tool-call', ...call, input: { city: 'Rome' } }] },
          {
            role: 'tool',
            content: [
              { type: 'tool-result', ...call, output: { type: 'text', value: '21 degrees' } },
            ],
          },
        ],
        tools: {
          [TOOL.name]: tool({
            description: TOOL.description,
            inputSchema: jsonSchema({ ...PARAMETERS, required: [...PARAMETERS.required] }),
          }),
        },
      });
      return answerOf(reply as Awaited<ReturnType<typeof generateText>>);
    },
    embed: (value) => embed({ model: provider().textEmbeddingModel(MODEL), value, maxRetries: 0 }),
  };
}

function langchain(baseURL: string, fetch: Fetch): Library {
  const configuration = { baseURL, fetch };
  const model = ({ maxTokens, temperature = 0, stop, model = MODEL, apiKey = KEY }: Choices) =>
    new ChatOpenAI({
      model,
      apiKey,
      maxTokens,
      temperature,
      maxRetries: 0,
      configuration,
      ...(stop === undefined ? {} : { stop: [...stop] }),
    });
  const optionsOf = ({ seed }: Choices) => (seed === undefined ? {} : { seed });
  const answerOf = (reply: {
    readonly text: string;
    readonly usage_metadata?: UsageMetadata | undefined;
    readonly response_metadata: Record<string, unknown>;
  }): Answer => ({
    text: reply.text,
    promptTokens: reply.usage_metadata?.input_tokens,
    outputTokens: reply.usage_metadata?.output_tokens,
    finishReason: reply.response_metadata.finish_reason as string,
  });
  return {
    chat: async (prompt, choices) =>
      answerOf(await model(choices).invoke(prompt, optionsOf(choices))),
    stream: async (prompt, choices) => {
      const chunks = await model(choices).stream(prompt, optionsOf(choices));
      return collected(
        (async function* () {
          for await (const chunk of chunks) yield chunk.text;
        })(),
      );
    },
    weather: async (choices) => {
      const called = { id: 'call_1', name: TOOL.name, args: { city: 'Rome' } };
      const messages = [
        new SystemMessage('Be brief.'),
        new HumanMessage('How warm is it in Rome?'),
        new AIMessage({ content: '', tool_calls: [{ ...called, type: 'tool_call' }] }),
        new ToolMessage({ content: '21 degrees', tool_call_id: 'call_1' }),
      ];
      const bound = model(choices).bindTools([...TOOLS]);
      return answerOf(await bound.invoke(messages, optionsOf(choices)));
    },
    embed: (text) =>
      new OpenAIEmbeddings({ model: MODEL, apiKey: KEY, maxRetries: 0, configuration }).embedQuery(
        text,
      ),
  };
}

function llamaindex(baseURL: string, fetch: Fetch): Library {
  const common = { baseURL, maxRetries: 0, additionalSessionOptions: { fetch } };
  const model = (choices: Choices) => {
    const { maxTokens, temperature = 0, seed, stop, model = MODEL, apiKey = KEY } = choices;
    return new LlamaIndex({
      ...common,
      model,
      apiKey,
      maxTokens,
      temperature,
      additionalChatOptions: {
        ...(seed === undefined ? {} : { seed }),
        ...(stop === undefined ? {} : { stop: [...stop] }),
      },
    });
  };
  const answerOf = (raw: object | null): Answer => {
    const reply = raw as OpenAI.ChatCompletion;
    const [choice] = reply.choices;
    return {
      text: choice!.message.content!,
      promptTokens: reply.usage?.prompt_tokens,
      outputTokens: reply.usage?.completion_tokens,
      finishReason: choice!.finish_reason,
    };
  };
  return {
    chat: async (content, choices) =>
      answerOf((await model(choices).chat({ messages: [{ role: 'user', content }] })).raw),
    stream: async (content, choices) => {
      const messages = [{ role: 'user' as const, content }];
      const chunks = await model(choices).chat({ messages, stream: true });
      return collected(
        (async function* () {
          for await (const { delta } of chunks) yield delta;
        })(),
      );
    },
    weather: async (choices) => {
      const called = { id: 'call_1', name: TOOL.name, input: { city: 'Rome' } };
      const result = { id: 'call_1', result: '21 degrees', isError: false };
      const reply = await model(choices).chat({
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'How warm is it in Rome?' },
          { role: 'assistant', content: '', options: { toolCall: [called] } },
          { role: 'user', content: '21 degrees', options: { toolResult: result } },
        ],
        tools: [
          {
            metadata: {
              name: TOOL.name,
              description: TOOL.description,
              parameters: { ...PARAMETERS, required: [...PARAMETERS.required] },
            },
            call: () => '',
          },
        ],
      });
      return answerOf(reply.raw);
    },
    embed: (text) =>
      new OpenAIEmbedding({ ...common, model: MODEL, apiKey: KEY }).getTextEmbedding(text),
  };
}

const LIBRARIES = {
  openai,
  'ai with @ai-sdk/openai-compatible': aiSdk,
  '@langchain/openai': langchain,
  '@llamaindex/openai': llamaindex,
};

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-libraries-'));
const KEYS = join(folder, 'keys');
let storyteller: Served;
/** The same model with the template above. */
let templated: Served;

/** Storyteller's files, but for two that say something else. */
function writeTemplatedModel(): string {
  const model = join(folder, MODEL);
  const read = (name: string) => JSON.parse(readFileSync(join(STORYTELLER, name), 'utf8'));
  const changed: Record<string, object> = {
    'config.json': { ...read('config.json'), max_position_embeddings: 1024 },
    'tokenizer_config.json': { ...read('tokenizer_config.json'), chat_template: TEMPLATE },
  };
  mkdirSync(model);
  for (const name of readdirSync(STORYTELLER)) {
    const value = changed[name];
    if (value === undefined) symlinkSync(join(STORYTELLER, name), join(model, name));
    else writeFileSync(join(model, name), JSON.stringify(value));
  }
  return model;
}

beforeAll(async () => {
  writeFileSync(KEYS, `${KEY}\n${SCARCE_KEY} tokens-per-minute=1\n`, { mode: 0o600 });
  const env = { ...process.env, XDG_STATE_HOME: folder };
  const flags = ['--api-key-file', KEYS, '--receipts', 'off'];
  [storyteller, templated] = await Promise.all([
    serve(env, ...flags),
    serve(env, writeTemplatedModel(), ...flags),
  ]);
});
afterAll(async () => {
  await Promise.all([stop(storyteller), stop(templated)]);
  rmSync(folder, { recursive: true, force: true });
});

/** The prompt that the server makes of a body, as text. */
async function renderedBy(served: Served, body: string): Promise<{ text: string; count: number }> {
  const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' };
  const post = async (path: string, value: object) => {
    const init = { method: 'POST', headers, body: JSON.stringify(value) };
    return (await fetch(`${served.url}${path}`, init)).json() as Promise<unknown>;
  };
  const { messages, tools } = JSON.parse(body);
  const tokenized = (await post('/tokenize', { messages, tools })) as {
    tokens: number[];
    count: number;
  };
  const { prompt } = (await post('/detokenize', { tokens: tokenized.tokens })) as {
    prompt: string;
  };
  return { text: prompt, count: tokenized.count };
}

/** The error of what must fail, as each library has its status. */
async function failure(result: Promise<unknown>): Promise<{ status?: number; message: string }> {
  const error = await result.then(
    () => undefined,
    (reason: Error & { status?: number; statusCode?: number }) => reason,
  );
  if (error === undefined) throw new Error('nothing failed');
  return { status: error.status ?? error.statusCode!, message: error.message };
}

describe.each(Object.entries(LIBRARIES))('%s', (_name, libraryOf) => {
  const library = () => libraryOf(`${storyteller.url}/v1`, fetch);

  it('chats, with usage, and streams the same text', async () => {
    const choices = { maxTokens: 12 };
    const { text, ...rest } = await library().chat(PROMPT, choices);
    const messages = [{ role: 'user', content: PROMPT }];
    const { count } = await renderedBy(storyteller, JSON.stringify({ messages }));
    expect(rest).toEqual({ promptTokens: count, outputTokens: 12, finishReason: 'length' });
    const streamed = await library().stream(PROMPT, choices);
    expect(streamed.length).toBeGreaterThan(1);
    expect(streamed.join('')).toBe(text);
  });

  it('draws by its seed, and ends before a stop string', async () => {
    const drawn = async (seed: number, more: Partial<Choices> = {}) =>
      (await library().chat(PROMPT, { maxTokens: 24, temperature: 1, seed, ...more })).text;
    const first = await drawn(7);
    expect(await drawn(7)).toBe(first);
    expect(await drawn(8)).not.toBe(first);
    const stop = first.slice(10, 14);
    const ended = await library().chat(PROMPT, {
      maxTokens: 24,
      temperature: 1,
      seed: 7,
      stop: [stop],
    });
    expect(ended).toMatchObject({
      text: first.slice(0, first.indexOf(stop)),
      finishReason: 'stop',
    });
  });

  it('gives the model its tools, calls and results as the template writes them', async () => {
    const bodies: string[] = [];
    const recording: Fetch = (url, init) => {
      bodies.push(init!.body as string);
      return fetch(url, init);
    };
    const answer = await libraryOf(`${templated.url}/v1`, recording).weather({ maxTokens: 2 });
    const { text, count } = await renderedBy(templated, bodies[0]!);
    expect(text).toBe(RENDERED);
    expect(answer).toMatchObject({ promptTokens: count, outputTokens: 2 });
  });

  it('shows what was refused: a model, a value, a key, a quota, embeddings', async () => {
    const refused = (choices: Partial<Choices>) =>
      failure(library().chat(PROMPT, { maxTokens: 2, ...choices }));
    expect(await refused({ model: 'other' })).toMatchObject({
      status: 404,
      message: expect.stringContaining('The model "other" does not exist here.'),
    });
    expect(await refused({ temperature: -1 })).toMatchObject({
      status: 400,
      message: expect.stringContaining('temperature'),
    });
    expect(await refused({ apiKey: 'wrong' })).toMatchObject({ status: 401 });
    await library()
      .chat(PROMPT, { maxTokens: 2, apiKey: SCARCE_KEY })
      .catch(() => undefined);
    expect(await refused({ apiKey: SCARCE_KEY })).toMatchObject({
      status: 429,
      message: expect.stringContaining('tokens a minute'),
    });
    expect(await failure(library().embed('sea'))).toMatchObject({
      status: 400,
      message: expect.stringContaining('generates text'),
    });
  });
});
