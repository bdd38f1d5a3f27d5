import { createHash } from 'node:crypto';
import { readSignedReceipt } from '@bridgekeeper/attest';
import {
  ClientError,
  type ConnectOptions,
  connect,
  type SealedOptions,
  type Verified,
} from '@bridgekeeper/client';
import type { TestServer } from '@bridgekeeper/server/testing';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import {
  AttestedConnections,
  codeOf,
  complete as completeOver,
} from '../testing/attested-connections.ts';
import { startGateway, type TestGateway } from '../testing/gateway.ts';

const connections = await AttestedConnections.open();
const { tee } = connections;
afterEach(() => connections.endTest());
afterAll(() => connections.close());

type Serve = AttestedConnections['serve'];

/** The real server without TLS, behind a gateway that reads all it can. */
async function serve(...how: Parameters<Serve>) {
  const server = await connections.serve(...how);
  const gateway = await startGateway(server.port);
  connections.atEnd(() => gateway.close());
  return { server, gateway };
}

const verify = (
  { url }: Pick<TestGateway, 'url'>,
  more: Partial<ConnectOptions & SealedOptions> = {},
) => connections.verify(connect, url, more);

const SECRET = 'the bridge keeper asked me three questions';
const PROMPT = { prompt: SECRET, max_tokens: 6 };
const complete = (verified: Verified, body: object = PROMPT, init: RequestInit = {}) =>
  completeOver(verified, body, init);

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('a gateway between client and server', () => {
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
