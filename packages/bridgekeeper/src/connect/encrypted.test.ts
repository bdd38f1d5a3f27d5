import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSignedReceipt } from '@bridgekeeper/attest';
import {
  ClientError,
  type ConnectOptions,
  connect,
  type SealedOptions,
  type Verified,
} from '@bridgekeeper/client';
import { startTestServer, type TestServer } from '@bridgekeeper/server/testing';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startTestTee, type TestTee } from '../testing/attested-server.ts';
import { startGateway, type TestGateway } from '../testing/gateway.ts';
import { openConnection } from './run.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-encrypted-'));
let tee: TestTee;
beforeAll(async () => {
  tee = await startTestTee(scratch);
});
afterAll(() => {
  tee.close();
  rmSync(scratch, { recursive: true, force: true });
});

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

type Start = Parameters<typeof startTestServer>;

/** The real server without TLS, behind a gateway that reads all it can. */
async function serve(options: Start[0] = {}, settings: Start[1] = {}) {
  const server = await startTestServer(options, settings, tee.machine, tee.serverClock);
  ends.push(() => server.stop(0));
  const gateway = await startGateway(server.port);
  ends.push(() => gateway.close());
  return { server, gateway };
}

const OFFLINE = { references: null, revocation: null, tokenKeys: null, collateral: null };

async function verify(
  { url }: Pick<TestGateway, 'url'>,
  more: Partial<ConnectOptions & SealedOptions> = {},
): Promise<Verified> {
  const verified = await connect(url, {
    policy: tee.policy,
    anchors: tee.anchors,
    files: [tee.collateral],
    services: () => OFFLINE,
    clock: tee.clock,
    ...more,
  });
  ends.push(() => verified.close());
  return verified;
}

const SECRET = 'the bridge keeper asked me three questions';
const PROMPT = { prompt: SECRET, max_tokens: 6 };
const complete = ({ fetch, baseUrl }: Verified, body: object = PROMPT, init: RequestInit = {}) =>
  fetch(`${baseUrl}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...init.headers },
    body: JSON.stringify(body),
    ...(init.signal && { signal: init.signal }),
  });

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'none',
    (error: ClientError) => error.code,
  );

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('a gateway between client and server', () => {
  test('sees no text of prompts or answers, nor the API key', async () => {
    const { gateway } = await serve({}, { apiKey: ['sesame'] });
    const verified = await verify(gateway, {
      apiKey: 'sesame',
      outerHeaders: { 'x-model': 'storyteller' },
    });
    expect(verified.pin.kind).toBe('encryption');
    expect(verified.report.verdict.policy).toBe('service of a test, encrypted');
    const client = new OpenAI({
      baseURL: `${gateway.url}/v1`,
      apiKey: 'sesame',
      fetch: verified.fetch,
      maxRetries: 0,
    });
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

  test('passes each part of a stream on as it comes, and an abort', async () => {
    const { server, gateway } = await serve({ pace: 'by-hand' });
    const verified = await verify(gateway);
    const answer = await complete(verified, { ...PROMPT, stream: true });
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (let step = 0; step < 3; step += 1) {
      server.stub.step();
      expect((await reader.read()).value).toContain('data: {');
    }
    await reader.cancel();
    await server.untilOpen(0);
    const stop = new AbortController();
    const early = complete(verified, PROMPT, { signal: stop.signal });
    await server.untilOpen(1);
    stop.abort();
    await expect(early).rejects.toMatchObject({ name: 'AbortError' });
    await server.untilOpen(0);
  });

  test('changes nothing of limits, errors, keys and receipts', async () => {
    const settings = { receipts: 'memory', apiKey: ['one', 'two'], maxBodyBytes: 4096 };
    const { gateway } = await serve({}, settings);
    const verified = await verify(gateway, { apiKey: 'one' });
    const one = { headers: { authorization: 'Bearer one' } };
    const body = JSON.stringify(PROMPT);
    const answer = await complete(verified, PROMPT, one);
    const text = await answer.text();
    const url = `${verified.baseUrl}/v1/receipts/${answer.headers.get('x-receipt-id')}`;
    const { receipt } = readSignedReceipt(await (await verified.fetch(url, one)).text());
    expect(receipt).toMatchObject({
      requestSha256: sha256(body),
      responseSha256: sha256(text),
      outcome: 'complete',
    });
    const two = { headers: { authorization: 'Bearer two' } };
    expect((await verified.fetch(url, two)).status).toBe(404);
    expect((await complete(verified)).status).toBe(401);
    expect((await complete(verified, { ...PROMPT, model: 'none' }, one)).status).toBe(404);
    expect((await complete(verified, { prompt: 'x'.repeat(5000) }, one)).status).toBe(413);
  });

  test('is refused with keys of its own', async () => {
    const { gateway } = await serve();
    gateway.tampering.answer = (body) => {
      const report = JSON.parse(body.toString());
      const keys: string = report.bridgekeeper.encryption_keys;
      const swap = (_: string, before: string, digit: string) => before + (digit === '0' ? 1 : 0);
      report.bridgekeeper.encryption_keys = keys.replace(/^(.{40})(.)/, swap);
      return Buffer.from(JSON.stringify(report));
    };
    expect(await codeOf(verify(gateway))).toBe('refused');
  });

  test('cannot be told from a server without keys: nothing is sent in the clear', async () => {
    const { gateway } = await serve();
    gateway.tampering.answer = (body) => {
      const report = JSON.parse(body.toString());
      report.bridgekeeper.encryption_keys = null;
      return Buffer.from(JSON.stringify(report));
    };
    expect(await codeOf(verify(gateway))).toBe('refused');
    expect(gateway.envelopes).toEqual([]);
  });

  test.each<[string, (body: Buffer) => Buffer]>([
    ['cuts', (body) => body.subarray(0, body.length - 20)],
    ['cuts at the end of a part', (body) => body.subarray(0, body.length - 19)],
    ['flips a bit of', (body) => flip(body, body.length - 30)],
    ['flips the last bit of', (body) => flip(body, body.length - 1)],
    ['adds to', (body) => Buffer.concat([body, Buffer.from('x')])],
    ['answers in the place of', () => Buffer.from('{"choices":[]}')],
  ])('that %s an answer is found out', async (_, answer) => {
    const { gateway } = await serve();
    const verified = await verify(gateway);
    gateway.tampering.answer = answer;
    expect(await codeOf(complete(verified).then((reply) => reply.text()))).toBe('not-genuine');
  });

  test('that changes a request is found out, and the server tells it nothing', async () => {
    const { gateway } = await serve();
    const verified = await verify(gateway);
    await complete(verified);
    const [envelope] = gateway.envelopes;
    const answers = new Set<string>();
    for (const at of [0, 1, 4, 6, 7, 30, 71, 72, 73, 200, envelope!.length - 1]) {
      const { status, body } = await gateway.send(flip(envelope!, at));
      answers.add(`${status} ${body}`);
    }
    for (const length of [0, 1, 7, 72, 73, 100, envelope!.length - 1]) {
      const { status, body } = await gateway.send(envelope!.subarray(0, length));
      answers.add(`${status} ${body}`);
    }
    expect([...answers]).toEqual([expect.stringMatching(/^400 .*#ohttp-key/)]);
    gateway.tampering.request = (body, path) => (path.startsWith('/v1') ? body : flip(body, 100));
    expect(await codeOf(complete(verified))).toBe('key-changed');
    // The server still has that key, so the client does not believe that it could not be opened.
    expect(gateway.envelopes).toHaveLength(2);
  });

  test('that plays a request again makes no second answer of it', async () => {
    const { server, gateway } = await serve();
    const verified = await verify(gateway);
    await (await complete(verified)).text();
    const before = server.engine.stats().promptTokens;
    expect(before).toBeGreaterThan(0);
    const again = await gateway.send(gateway.envelopes[0]!);
    // Refused within the envelope: who plays it again cannot even read that.
    expect(again.status).toBe(200);
    expect(again.body.toString('latin1')).not.toContain('envelope_replayed');
    tee.clock.passSeconds(10_000);
    await gateway.send(gateway.envelopes[0]!);
    expect(server.engine.stats().promptTokens).toBe(before);
  });

  test('has no use for an envelope within an envelope', async () => {
    const { gateway } = await serve();
    const verified = await verify(gateway);
    const path = `${verified.baseUrl}/.well-known/ohttp-gateway`;
    expect(await codeOf(verified.fetch(path, { method: 'POST', body: 'x' }))).toBe('key-changed');
  });
});

describe('keys for encryption', () => {
  test('are made anew each day; the one before is good for two hours more', async () => {
    const { gateway } = await serve();
    const pins: string[] = [];
    const verified = await verify(gateway, {
      reportSecondsMax: 7 * 86_400,
      onVerification: (one) => pins.push(one instanceof ClientError ? one.code : one.pin.sha256),
    });
    tee.clock.passSeconds(24 * 3600);
    await verify(gateway);
    expect((await complete(verified)).status).toBe(200);
    expect(pins).toHaveLength(1);
    tee.clock.passSeconds(2 * 3600);
    // The server cannot open it any more, so that the client verifies the new key first.
    expect((await complete(verified)).status).toBe(200);
    expect(pins).toHaveLength(2);
    expect(new Set(pins).size).toBe(2);
  });

  test('do not outlive their server, and are verified anew with the next one', async () => {
    const { server, gateway } = await serve();
    const verified = await verify(gateway);
    const { sha256 } = verified.pin;
    await (await complete(verified)).text();
    await server.stop(0);
    const next: TestServer = (await serve()).server;
    gateway.lead(next.port);
    expect((await complete(verified)).status).toBe(200);
    expect(verified.pin.sha256).not.toBe(sha256);
    expect((await gateway.send(gateway.envelopes[0]!)).status).toBe(400);
  });

  test('a client whose clock is wrong is told so, by the server alone', async () => {
    const { gateway } = await serve();
    let lateMs = 0;
    const late = { ...tee.clock, unixMs: () => tee.clock.unixMs() - lateMs };
    const verified = await verify(gateway, { clock: late });
    lateMs = 301_000;
    const reply = await complete(verified);
    expect(reply.status).toBe(400);
    const { error } = (await reply.json()) as { error: { code: string } };
    expect(error.code).toBe('envelope_stale');
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at]! ^= 1;
  return changed;
}

test('connect --encrypted lends it all to any client of this machine', async () => {
  const { gateway } = await serve();
  const collateral = join(scratch, 'collateral.json');
  writeFileSync(collateral, tee.collateral.bytes);
  const { proxy, verified, close } = await openConnection({
    url: `${gateway.url}/v1`,
    policy: tee.policy,
    isEncrypted: true,
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
  ends.push(close);
  expect(verified.pin.kind).toBe('encryption');
  const client = new OpenAI({ baseURL: `${proxy.url}/v1`, apiKey: 'none', maxRetries: 0 });
  const asked = { model: 'storyteller', ...PROMPT };
  const { choices } = await client.completions.create(asked);
  let streamed = '';
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    streamed += chunk.choices[0]?.text ?? '';
  }
  expect(streamed).toBe(choices[0]!.text);
  expect(gateway.seen.join()).not.toContain(SECRET);
  // A broken answer has no end that could be taken for one.
  gateway.tampering.answer = (body) => body.subarray(0, body.length - 19);
  const cut = client.completions.create({ ...asked, max_tokens: 3 });
  await expect(cut).rejects.toThrow();
});
