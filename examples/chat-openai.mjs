// Streams a chat answer through OpenAI's own client, then asks for the receipt of a second answer
// and for what crossed the bridge.
//
//   node examples/chat-openai.mjs [http://127.0.0.1:8000] [message]

import OpenAI from 'openai';

const [url = 'http://127.0.0.1:8000', message = 'Once upon a time'] = process.argv.slice(2);
const apiKey = process.env.OPENAI_API_KEY ?? 'none';
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });

const [model] = (await client.models.list()).data;
const chat = {
  model: model.id,
  messages: [{ role: 'user', content: message }],
  max_tokens: 48,
  temperature: 0.8,
  seed: 1,
};

const stream = await client.chat.completions.create({
  ...chat,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? '');
  if (chunk.usage) console.log(`\n\n${chunk.usage.completion_tokens} tokens`);
}

// Every answer names its receipt in a header. The seed makes this answer the one above.
const { data, response } = await client.chat.completions.create(chat).withResponse();
const receiptId = response.headers.get('x-receipt-id');
console.log(
  `the same answer at once: ${data.usage.completion_tokens} tokens, receipt ${receiptId}`,
);

const headers = { authorization: `Bearer ${apiKey}` };
const bridge = await (await fetch(`${url}/v1/bridge`, { headers })).json();
const { crossings, bytes } = bridge.per_generated_token;
console.log(
  `policy ${bridge.policy.name}, law ${bridge.law.name}: ` +
    `${crossings.toFixed(2)} crossings and ${bytes.toFixed(0)} bytes for each token`,
);
