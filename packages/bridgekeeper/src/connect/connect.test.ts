import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect as connectTcp, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { BUILT_IN_POLICIES, pinPolicy } from '@bridgekeeper/attest';
import { ClientError, type ConnectOptions, type Verified } from '@bridgekeeper/client';
import { connect } from '@bridgekeeper/client/node';
import {
  makeCertificate,
  startTestServer,
  type TestServer,
  until,
} from '@bridgekeeper/server/testing';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { runCli } from '../cli/program.ts';
import {
  AttestedConnections,
  codeOf,
  complete as completeOver,
} from '../testing/attested-connections.ts';
import { startTestTee } from '../testing/attested-server.ts';
import { testIo } from '../testing/test-io.ts';
import { type RunningProxy, startProxy } from './proxy.ts';
import { openConnection } from './run.ts';

const connections = await AttestedConnections.open();
const { tee } = connections;
const certificate = makeCertificate(connections.folder());
const other = makeCertificate(connections.folder());
afterEach(() => connections.endTest());
afterAll(() => connections.close());

type Serve = AttestedConnections['serve'];

/** The real server, with TLS and a quote of the test's CPU. */
const serve = (options: Parameters<Serve>[0] = {}, settings: Parameters<Serve>[1] = {}) =>
  connections.serve(options, {
    sslKeyfile: certificate.key,
    sslCertfile: certificate.cert,
    ...settings,
  });

const verify = (url: string, more: Partial<ConnectOptions> = {}) =>
  connections.verify(connect, url, more);

/** A relay of bytes that a test can lead elsewhere; it counts connections and keeps what passes. */
async function relay(port: number) {
  const state = { port, connections: 0 };
  const sockets = new Set<Socket>();
  const server = createTcpServer((near) => {
    state.connections += 1;
    const far = connectTcp(state.port, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    }
    near.pipe(far).pipe(near);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  connections.atEnd(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port: own } = server.address() as { port: number };
  return { url: `https://127.0.0.1:${own}`, state };
}

/** Somebody else with TLS, who keeps whatever is said to him. */
async function impostor() {
  const heard: string[] = [];
  const files = { key: readFileSync(other.key), cert: readFileSync(other.cert) };
  const server = createTlsServer(files, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => heard.push(data.toString('latin1')));
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets: Socket[] = [];
  server.on('connection', (socket: Socket) => sockets.push(socket));
  const hangUp = () => {
    for (const socket of sockets) socket.destroy();
  };
  connections.atEnd(() => {
    hangUp();
    server.close();
  });
  return { port: (server.address() as { port: number }).port, heard, hangUp };
}

const PROMPT = { prompt: [5, 6, 7], max_tokens: 6 };
const complete = (verified: Verified, body: object = PROMPT, init: RequestInit = {}) =>
  completeOver(verified, body, init);

// A certificate needs the openssl command to make it.
describe.runIf(certificate.exists)('a verified connection', () => {
  test('passes each part of a stream on before the next one is made', async () => {
    const server = await serve({ pace: 'by-hand' });
    const verified = await verify(server.url);
    const answer = await complete(verified, { ...PROMPT, stream: true });
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (let step = 0; step < 3; step += 1) {
      server.stub.step();
      expect((await reader.read()).value).toContain('data: {');
    }
    await reader.cancel();
    await server.untilOpen(0);
  });

  test('ends at the server when its reader aborts', async () => {
    const server = await serve({ pace: 'by-hand' });
    const verified = await verify(server.url);
    const stop = new AbortController();
    const early = complete(verified, PROMPT, { signal: stop.signal });
    await server.untilOpen(1);
    stop.abort();
    await expect(early).rejects.toMatchObject({ name: 'AbortError' });
    await server.untilOpen(0);
  });

  test('goes by the connection that showed the key, and asks for no other one', async () => {
    const server = await serve();
    const { url, state } = await relay(server.port);
    const verified = await verify(url);
    for (let i = 0; i < 3; i += 1) await (await complete(verified)).text();
    expect(state.connections).toBe(1);
  });

  test('refuses software that is not expected, with the reasons', async () => {
    const server = await serve();
    const service = BUILT_IN_POLICIES.get('service')!;
    const refused = await verify(server.url, { policy: service }).catch((error) => error);
    expect(refused).toMatchObject({ name: 'ClientError', code: 'refused' });
    const policy = pinPolicy(service, refused.result.claims)!;
    expect((await verify(server.url, { policy })).report.verdict.policy).toBe('service, pinned');
  });

  test('refuses a relay that ends TLS, whatever the policy asks for', async () => {
    const server = await serve({}, { sslKeyfile: undefined, sslCertfile: undefined });
    const files = { key: readFileSync(other.key), cert: readFileSync(other.cert) };
    const gateway = createTlsServer(files, (near) => {
      const far = connectTcp(server.port, '127.0.0.1');
      for (const socket of [near, far]) socket.on('error', () => undefined);
      near.pipe(far).pipe(near);
    });
    gateway.listen(0, '127.0.0.1');
    await once(gateway, 'listening');
    connections.atEnd(() => gateway.close());
    const url = `https://127.0.0.1:${(gateway.address() as { port: number }).port}`;
    expect(await codeOf(verify(url))).toBe('refused');
    const { 'server.tls': _, ...lax } = tee.policy.require.server!;
    const policy = { ...tee.policy, require: { ...tee.policy.require, server: lax } };
    expect(await codeOf(verify(url, { policy }))).toBe('nothing-to-pin');
  });

  test('cannot be to an address without TLS, or leave the one it was verified for', async () => {
    expect(await codeOf(verify('http://127.0.0.1:1'))).toBe('bad-address');
    expect(await codeOf(verify('nowhere'))).toBe('bad-address');
    const server = await serve();
    const verified = await verify(server.url);
    expect(await codeOf(verified.fetch('https://localhost:1/v1/models'))).toBe('elsewhere');
    const large = complete(await verify(server.url, { requestBytesMax: 10 }));
    expect(await codeOf(large)).toBe('too-large');
    verified.close();
    expect(await codeOf(complete(verified))).toBe('closed');
  });

  test('writes no byte of a request to another key, and verifies a new one first', async () => {
    const first = await serve({ pace: 'by-hand' });
    const { url, state } = await relay(first.port);
    const outcomes: string[] = [];
    const verified = await verify(url, {
      onVerification: (one) =>
        outcomes.push(one instanceof ClientError ? one.code : one.pin.sha256),
    });
    // It keeps the first connection busy, so that what follows needs another one.
    const early = await complete(verified, { ...PROMPT, stream: true });
    const { port, heard, hangUp } = await impostor();
    state.port = port;
    const secret = { prompt: 'the very secret', max_tokens: 1 };
    const failed = codeOf(complete(verified, secret, { headers: { authorization: 'sesame' } }));
    // He is asked for his report, as anybody is, and has none.
    await until('the impostor was asked', () => heard.join('').includes('\r\n\r\n'));
    hangUp();
    expect(await failed).toBe('unreachable');
    expect(heard.join('')).toMatch(/^GET \/v1\/attestation\/report\?nonce=/);
    expect(heard.join('')).not.toMatch(/secret|sesame|POST/);

    const second = await serve({}, { sslKeyfile: other.key, sslCertfile: other.cert });
    state.port = second.port;
    expect((await complete(verified)).status).toBe(200);
    expect(outcomes).toEqual([expect.any(String), 'unreachable', verified.pin.sha256]);
    expect(outcomes[0]).not.toBe(outcomes[2]);
    // What was sent to the key that was verified then comes to its end.
    first.stub.step();
    const reader = early.body!.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toContain('data: {');
    await reader.cancel();
  });

  test('asks for a new report when the last is old, and sends nothing where it fails', async () => {
    const own = await startTestTee(connections.folder());
    connections.atEnd(() => own.close());
    const { key, cert } = certificate;
    const tls = { sslKeyfile: key, sslCertfile: cert };
    const server = await startTestServer({}, tls, own.machine, own.serverClock);
    connections.atEnd(() => server.stop(0));
    const outcomes: unknown[] = [];
    const { anchors, clock, policy, collateral } = own;
    const verified = await verify(server.url, {
      anchors,
      clock,
      policy,
      files: [collateral],
      reportSecondsMax: 100,
      onVerification: (one) => outcomes.push(one),
    });
    clock.passSeconds(100);
    expect((await complete(verified)).status).toBe(200);
    expect(outcomes).toHaveLength(1);
    clock.passSeconds(1);
    // All that wait, wait for one report.
    const many = await Promise.all([complete(verified), complete(verified), complete(verified)]);
    expect(many.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(outcomes).toHaveLength(2);
    await Promise.all(many.map((one) => one.text()));
    own.changeSoftware();
    expect((await complete(verified)).status).toBe(200);
    clock.passSeconds(101);
    const added = server.engine.stats().promptTokens;
    expect(await codeOf(complete(verified))).toBe('refused');
    expect(await codeOf(complete(verified))).toBe('refused');
    expect(server.engine.stats().promptTokens).toEqual(added);
  });

  test('proves the key for the report, and shows it to the verified server alone', async () => {
    const server = await serve({}, { apiKey: ['sesame'] });
    expect(await codeOf(verify(server.url))).toBe('unreachable');
    expect(await codeOf(verify(server.url, { apiKey: 'wrong' }))).toBe('unreachable');
    const verified = await verify(server.url, { apiKey: 'sesame' });
    expect((await complete(verified)).status).toBe(401);
    const headers = { authorization: 'Bearer sesame' };
    expect((await complete(verified, PROMPT, { headers })).status).toBe(200);
  });
});

describe.runIf(certificate.exists)('the command', () => {
  async function command(...args: readonly string[]) {
    const { io, out, err } = testIo({
      readFile: (path) => readFileSync(path, 'utf8'),
      writeFile: (path, text) => writeFileSync(path, text),
    });
    const code = await runCli(['connect', ...args], io);
    return { code, text: out.join('\n'), error: err.join('\n') };
  }

  test('opens no connection to a server that is refused, and exits with 1', async () => {
    const { key, cert } = certificate;
    const server = await startTestServer({}, { sslKeyfile: key, sslCertfile: cert });
    connections.atEnd(() => server.stop(0));
    const { code, text } = await command(server.url, '--offline');
    expect(code).toBe(1);
    expect(text).toMatch(/^REFUSED under the policy "service"/m);
    expect(text).not.toContain('OPENAI_BASE_URL');
    const json = await command(server.url, '--offline', '--json');
    expect(json.code).toBe(1);
    expect(JSON.parse(json.text)).toMatchObject({ url: null, pin: null });
  });

  test.each([
    ['http://127.0.0.1:1', 'has no TLS key'],
    ['https://127.0.0.1:1', 'ECONNREFUSED'],
    ['nowhere', 'is no URL'],
  ])('%s exits with 2', async (url, message) => {
    const { code, error } = await command(url, '--offline');
    expect([code, error]).toEqual([2, expect.stringContaining(message)]);
  });

  test('listens on loopback once the server is verified', async () => {
    const server = await serve();
    const collateral = join(connections.folder(), 'collateral.json');
    writeFileSync(collateral, tee.collateral.bytes);
    const { verified, proxy, close } = await openConnection({
      url: server.url,
      policy: tee.policy,
      port: 0,
      reportSecondsMax: 3600,
      isEncrypted: false,
      isOffline: true,
      rimFolder: undefined,
      files: [collateral],
      apiKey: undefined,
      environment: {},
      onVerification: () => undefined,
      anchors: tee.anchors,
      clock: tee.clock,
    });
    connections.atEnd(close);
    expect(verified.report.verdict.result).toBe('verified');
    expect(proxy.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect((await fetch(`${proxy.url}/v1/models`)).status).toBe(200);
  });
});

describe.runIf(certificate.exists)('the proxy', () => {
  async function proxyTo(server: TestServer): Promise<RunningProxy> {
    const verified = await verify(server.url);
    const proxy = await startProxy({ verified, port: 0 });
    connections.atEnd(() => proxy.close());
    return proxy;
  }

  test('answers in the shape of OpenAI’s errors where nothing can be passed on', async () => {
    const server = await serve();
    const { url } = await proxyTo(server);
    tee.clock.passSeconds(3601);
    await server.stop(0);
    const reply = await fetch(`${url}/v1/completions`, { method: 'POST', body: '{}' });
    expect(reply.status).toBe(502);
    const { error } = (await reply.json()) as { error: Record<string, unknown> };
    expect(error).toMatchObject({ code: 'server_unreachable', param: null });
  });

  test('lends the connection to no page of a browser, and to no other server', async () => {
    const server = await serve();
    const { url } = await proxyTo(server);
    const status = (path: string, headers: Record<string, string>) =>
      new Promise<number>((resolve, reject) => {
        request(url, { path, headers }, (reply) => {
          reply.resume();
          resolve(reply.statusCode!);
        })
          .on('error', reject)
          .end();
      });
    expect(await status('/health', {})).toBe(200);
    expect(await status('/health', { host: 'rebound.example' })).toBe(403);
    expect(await status('/health', { origin: 'https://page.example' })).toBe(403);
    expect(await status('http://other.example/health', {})).toBe(403);
  });

  test('passes no header on that is of one connection alone', async () => {
    const seen: [string, RequestInit][] = [];
    const fetch: Verified['fetch'] = async (input, init) => {
      seen.push([String(input), init!]);
      const headers = { connection: 'x-own', 'x-own': '1', 'x-kept': '2', 'keep-alive': '3' };
      return new Response('done', { headers });
    };
    const proxy = await startProxy({
      verified: { fetch, baseUrl: 'https://server/base' },
      port: 0,
    });
    connections.atEnd(() => proxy.close());
    const reply = await new Promise<Record<string, unknown>>((resolve) => {
      const headers = { connection: 'close, x-mine', 'x-mine': '1', te: 'trailers', 'x-sent': '2' };
      request(`${proxy.url}/v1/models?a=b`, { headers }, (answer) => {
        answer.resume();
        resolve(answer.headers);
      }).end();
    });
    const [[target, init]] = seen as [[string, RequestInit]];
    expect(target).toBe('https://server/base/v1/models?a=b');
    const names = (init.headers as [string, string][]).map(([name]) => name);
    expect(names).toContain('x-sent');
    expect(names.filter((name) => /^(?:connection|x-mine|te)$/.test(name))).toEqual([]);
    expect(reply).toMatchObject({ 'x-kept': '2' });
    expect(reply['x-own']).toBeUndefined();
  });
});
