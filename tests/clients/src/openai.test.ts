import { startSayingServer, startTestServer } from '@bridgekeeper/server/testing';
import OpenAI from 'openai';
import { afterEach, describe, expect, test } from 'vitest';

// OpenAI's client as it is, against the real server: chats, tools and vectors.

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

/** The client of a server that ends with the test. */
async function clientOf(starting: ReturnType<typeof startTestServer>): Promise<OpenAI> {
  const server = await starting;
  ends.push(() => server.stop(0));
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
}

describe('chats', () => {
  test('are read: answers, streams, models and errors', async () => {
    const client = await clientOf(startTestServer());
    const model = (await client.models.list()).data[0]!.id;
    const messages = [{ role: 'user' as const, content: 'Once upon a time' }];
    const request = { model, messages, max_completion_tokens: 5 };
    const whole = await client.chat.completions.create(request);
    expect(whole.choices[0]?.message.content).toBe('Once upon a time');
    let text = '';
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe('Once upon a time');
    const wrong = client.chat.completions.create({ ...request, temperature: -1 });
    await expect(wrong).rejects.toMatchObject({ status: 400, param: 'temperature' });
    const unknown = client.chat.completions.create({ ...request, model: 'x' });
    await expect(unknown).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});

describe('tools', () => {
  const parameters = { type: 'object', properties: { city: { type: 'string' } } };
  const WEATHER = { type: 'function' as const, function: { name: 'get_weather', parameters } };
  const ASK = { model: 'saying', messages: [{ role: 'user' as const, content: 'Weather?' }] };
  const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bath"}}\n</tool_call>';

  test('are run, and their results answered, whole and streamed', async () => {
    const { chat: api } = await clientOf(
      startSayingServer((prompt) =>
        prompt.includes('sunny in Bath') ? 'It is sunny.' : `<think>hm</think>Wait.${CALL}`,
      ),
    );
    const tools = [
      {
        type: 'function' as const,
        function: {
          ...WEATHER.function,
          description: 'The weather of a city',
          parse: (text: string) => JSON.parse(text) as { city: string },
          function: ({ city }: { city: string }) => `sunny in ${city}`,
        },
      },
    ];
    const request = { ...ASK, tools };
    const whole = api.completions.runTools(request);
    expect(await whole.finalContent()).toBe('It is sunny.');
    const stream = api.completions.runTools({ ...request, stream: true });
    expect(await stream.finalContent()).toBe('It is sunny.');
  });

  test('are put together from a stream', async () => {
    const client = await clientOf(startSayingServer(`Wait.${CALL}\n${CALL}`));
    const stream = client.chat.completions.stream({ ...ASK, tools: [WEATHER] });
    const { choices } = await stream.finalChatCompletion();
    expect(choices[0]?.finish_reason).toBe('tool_calls');
    expect(choices[0]?.message.tool_calls).toMatchObject([
      { function: { name: 'get_weather', arguments: '{"city": "Bath"}' } },
      { function: { name: 'get_weather', arguments: '{"city": "Bath"}' } },
    ]);
  });
});

test('embeddings are read, which it asks for as bytes', async () => {
  const client = await clientOf(startTestServer({ card: { task: 'embed' } }, { task: 'embed' }));
  const request = { model: 'storyteller', input: 'Once upon a time' };
  const { data } = await client.embeddings.create(request);
  const plain = await client.embeddings.create({ ...request, encoding_format: 'float' });
  expect(data[0]!.embedding.length).toBeGreaterThan(1);
  data[0]!.embedding.forEach((value, at) => {
    expect(value).toBeCloseTo(plain.data[0]!.embedding[at]!, 6);
  });
});
