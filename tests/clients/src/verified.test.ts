import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect as connectSealed } from '@bridgekeeper/client';
import { connect } from '@bridgekeeper/client/node';
import { makeCertificate } from '@bridgekeeper/server/testing';
import { AttestedConnections, openConnection, startGateway } from 'bridgekeeper/testing';
import OpenAI from 'openai';
import { afterAll, afterEach, describe, expect, test } from 'vitest';

// OpenAI's client as it is, over connections that were verified: with their `fetch`, and through
// what `bridgekeeper connect` listens on.

const connections = await AttestedConnections.open();
const { tee } = connections;
const certificate = makeCertificate(connections.folder());
const tls = { sslKeyfile: certificate.key, sslCertfile: certificate.cert };
afterEach(() => connections.endTest());
afterAll(() => connections.close());

/** What `bridgekeeper connect` opens. */
async function lend(url: string, isEncrypted: boolean) {
  const collateral = join(connections.folder(), 'collateral.json');
  writeFileSync(collateral, tee.collateral.bytes);
  const lent = await openConnection({
    url: `${url}/v1`,
    policy: tee.policy,
    isEncrypted,
    port: 0,
    reportSecondsMax: 3600,
    isOffline: true,
    rimFolder: undefined,
    files: [collateral],
    apiKey: undefined,
    environment: {},
    onVerification: () => undefined,
    anchors: tee.anchors,
    clock: tee.clock,
  });
  connections.atEnd(lent.close);
  const baseURL = `${lent.proxy.url}/v1`;
  return { ...lent, client: new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 }) };
}

const SECRET = 'the bridge keeper asked me three questions';
const ASKED = { model: 'storyteller', prompt: SECRET, max_tokens: 6 };

/** It gets a completion, and the same as a stream. */
async function completed(client: OpenAI): Promise<void> {
  const { choices, usage } = await client.completions.create(ASKED);
  expect(usage?.completion_tokens).toBe(6);
  let streamed = '';
  for await (const chunk of await client.completions.create({ ...ASKED, stream: true })) {
    streamed += chunk.choices[0]?.text ?? '';
  }
  expect(streamed).toBe(choices[0]!.text);
}

// A certificate needs the openssl command to make it.
describe.runIf(certificate.exists)('to a key of TLS', () => {
  test('it is answered, at once and as a stream', async () => {
    const server = await connections.serve({}, tls);
    const verified = await connections.verify(connect, `${server.url}/v1`);
    expect(verified.report.verdict.result).toBe('verified');
    expect(verified.pin).toMatchObject({ kind: 'tls' });
    const { fetch } = verified;
    await completed(
      new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', fetch, maxRetries: 0 }),
    );
  });

  test('it is answered and refused through the proxy, and its abort reaches the server', async () => {
    const { client } = await lend((await connections.serve({}, tls)).url, false);
    await completed(client);
    const refused = client.completions.create({ ...ASKED, model: 'none' });
    await expect(refused).rejects.toMatchObject({ status: 404, code: 'model_not_found' });

    const slow = await connections.serve({ pace: 'by-hand' }, tls);
    const { client: other } = await lend(slow.url, false);
    const streamed = await other.completions.create({ ...ASKED, stream: true });
    slow.stub.step();
    for await (const chunk of streamed) {
      expect(chunk.choices).toHaveLength(1);
      break;
    }
    await slow.untilOpen(0);
  });
});

describe('encrypted, past a gateway that ends TLS', () => {
  async function serve(settings: Parameters<typeof connections.serve>[1] = {}) {
    const server = await connections.serve({}, settings);
    const gateway = await startGateway(server.port);
    connections.atEnd(() => gateway.close());
    return gateway;
  }

  test('it shows no text of prompts or answers, nor the API key', async () => {
    const gateway = await serve({ apiKey: ['sesame'] });
    const { fetch, pin, report } = await connections.verify(connectSealed, gateway.url, {
      apiKey: 'sesame',
      outerHeaders: { 'x-model': 'storyteller' },
    });
    expect(pin.kind).toBe('encryption');
    expect(report.verdict.policy).toBe('service of a test, encrypted');
    const baseURL = `${gateway.url}/v1`;
    const client = new OpenAI({ baseURL, apiKey: 'sesame', fetch, maxRetries: 0 });
    const chat = {
      model: 'storyteller',
      messages: [{ role: 'user' as const, content: SECRET }],
      max_tokens: 12,
    };
    const whole = await client.chat.completions.create(chat);
    const answer = whole.choices[0]!.message.content!;
    let streamed = '';
    for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
      streamed += chunk.choices[0]?.delta.content ?? '';
    }
    expect(streamed).toBe(answer);
    const seen = gateway.seen.join('\n');
    for (const text of [SECRET, answer, 'sesame', 'completions', 'choices', 'messages']) {
      expect(seen).not.toContain(text);
    }
    // What it needs for its work.
    expect(seen).toContain('"x-model":"storyteller"');
  });

  test('it is answered through the proxy, and takes no broken answer for a whole one', async () => {
    const gateway = await serve();
    const { client, verified } = await lend(gateway.url, true);
    expect(verified.pin.kind).toBe('encryption');
    await completed(client);
    expect(gateway.seen.join()).not.toContain(SECRET);
    // A broken answer has no end that could be taken for one.
    gateway.tampering.answer = (body) => body.subarray(0, body.length - 19);
    await expect(client.completions.create({ ...ASKED, max_tokens: 3 })).rejects.toThrow();
  });
});
