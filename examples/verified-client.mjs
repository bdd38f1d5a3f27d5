// Verifies a server, then asks it something through OpenAI's own client: encrypted to the key that
// the server's report proves, so that no gateway between can read it. An ordinary machine has no
// TEE, so that nothing is sent there: REFUSED, and exit code 1.
//
//   node examples/verified-client.mjs [http://127.0.0.1:8000] [policy.json]
//
// `bridgekeeper verify <url> --pin policy.json` writes the policy that expects a server's software.

import { readFile } from 'node:fs/promises';
import { BUILT_IN_POLICIES, readPolicy } from '@bridgekeeper/attest';
import { ClientError, connect } from '@bridgekeeper/client';
import OpenAI from 'openai';

const [url = 'http://127.0.0.1:8000', file] = process.argv.slice(2);
const policy =
  file === undefined
    ? BUILT_IN_POLICIES.get('service')
    : readPolicy(await readFile(file, 'utf8'), file);

try {
  const server = await connect(url, { policy });
  console.log(`VERIFIED: requests are encrypted to ${server.pin.sha256}`);

  // Every request of this client goes that way; one that cannot fails.
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', fetch: server.fetch });
  const [model] = (await client.models.list()).data;
  const answer = await client.chat.completions.create({
    model: model.id,
    messages: [{ role: 'user', content: 'Once upon a time' }],
    max_tokens: 48,
  });
  console.log(answer.choices[0].message.content);
  server.close();
} catch (error) {
  if (!(error instanceof ClientError) || error.code !== 'refused') throw error;
  console.log('REFUSED, and nothing was sent, because');
  for (const { subject, kind, text } of error.result.verdict.reasons) {
    console.log(`  ${subject}${kind === 'any' ? '' : ` ${kind}`}: ${text}`);
  }
  process.exitCode = 1;
}
