import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ResultDocument } from '@bridgekeeper/report';
import { makeCertificate, startTestServer, type TestServer } from '@bridgekeeper/server/testing';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { CliIo } from '../io.ts';
import { runCli } from './program.ts';

const STORYTELLER = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-bench-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const certificate = makeCertificate(scratch);

const closers: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function stubServer(...args: Parameters<typeof startTestServer>): Promise<TestServer> {
  const server = await startTestServer(...args);
  closers.push(() => server.stop(0));
  return server;
}

/** `bridgekeeper bench serve` against `url`, in this process, with files in memory. */
async function bench(url: string, flags: string, more: Partial<CliIo> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const files = new Map<string, string>();
  const io: CliIo = {
    environment: {},
    readFile: (path) => files.get(path) ?? readFileSync(path, 'utf8'),
    writeFile: (path, text) => void files.set(path, text),
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    isTerminal: false,
    onSignal: () => {},
    nowNs: () => 0,
    exit: () => {},
    exitLater: () => {},
    startEngine: () => Promise.reject(new Error('a benchmark starts no engine')),
    ...more,
  };
  const args = ['bench', 'serve', '--base-url', url, ...flags.split(' ')];
  const code = await runCli(args, io);
  return { code, out: out.join('\n'), err: err.join('\n'), files };
}

const small = '--random-input-len 12 --random-output-len 9 --num-prompts 10';

describe('against our own server', () => {
  test('counts every token, in the block and in JSON', async () => {
    const { url } = await stubServer({ tokensPerStep: 3 });
    const { code, out, err } = await bench(url, `${small} --max-concurrency 4`);
    expect([code, err]).toEqual([0, expect.stringContaining('sending 10 requests')]);
    expect(out).toMatch(/^Successful requests: +10 +$/m);
    expect(out).toMatch(/^Failed requests: +0 +$/m);
    expect(out).toMatch(/^Maximum request concurrency: +4 +$/m);
    expect(out).toMatch(/^Total input tokens: +120 +$/m);
    expect(out).toMatch(/^Total generated tokens: +90 +$/m);
    const json = await bench(url, `${small} --max-concurrency 4 --json`);
    const { suite, command, runs } = JSON.parse(json.out) as ResultDocument;
    expect(suite).toBe('serve');
    expect(command).toContain('--random-input-len 12');
    expect(runs[0]!.metrics).toMatchObject({
      completedRequests: 10,
      failedRequests: 0,
      inputTokens: 120,
      outputTokens: 90,
    });
    expect(runs[0]!.metrics.peakConcurrentRequests).toBeLessThanOrEqual(4);
    expect(runs[0]!.metrics.tokensPerChunk).toBeGreaterThan(2);
  });

  test('chats, and makes text that has the wanted length', async () => {
    const { url } = await stubServer();
    const flags = `${small} --tokenizer ${STORYTELLER} --json`;
    const text = JSON.parse((await bench(url, flags)).out) as ResultDocument;
    expect(text.runs[0]!.metrics).toMatchObject({ inputTokens: 120, outputTokens: 90 });
    expect(text.command).toContain('--tokenizer storyteller');
    const chat = JSON.parse(
      (await bench(url, `${flags} --backend openai-chat`)).out,
    ) as ResultDocument;
    expect(chat.runs[0]!.metrics).toMatchObject({ completedRequests: 10, outputTokens: 90 });
  });

  test('warms up, sends at a rate and saves what vLLM saves', async () => {
    const server = await stubServer();
    const flags = `${small} --num-warmups 3 --ready-check-timeout-sec 5 --request-rate 1000`;
    const saving = '--save-result --save-detailed --result-dir results --result-filename a.json';
    const { files, err } = await bench(server.url, `${flags} ${saving} --goodput e2el:1e9`);
    expect(err).toContain('saved as results/a.json');
    const saved = JSON.parse(files.get('results/a.json')!);
    expect(saved).toMatchObject({ completed: 10, request_rate: 1000, model_id: 'storyteller' });
    expect(saved.output_lens).toEqual(new Array(10).fill(9));
    expect(saved.request_goodput).toBe(saved.request_throughput);
    expect(server.stub.stats().generatedTokens).toBe((10 + 3 + 1) * 9);
    const appended = await bench(server.url, `${small} ${saving} --append-result`, {
      readFile: () => '{"before": 1}',
    });
    const lines = appended.files.get('results/a.json')!.split('\n');
    expect(lines.map((line) => Object.keys(JSON.parse(line))[0])).toEqual(['before', 'date']);
  });

  test('sends a file again until there are enough prompts, unless told not to', async () => {
    const { url } = await stubServer();
    const readFile = () => '{"prompt": "one", "output_tokens": 2}\n{"prompt": "two"}';
    const flags = '--dataset-name custom --dataset-path p --num-prompts 5 --custom-output-len 3';
    const again = await bench(url, flags, { readFile });
    expect(again.out).toMatch(/^Successful requests: +5 +$/m);
    const once = await bench(url, `${flags} --no-oversample --json`, { readFile });
    const { command, runs } = JSON.parse(once.out) as ResultDocument;
    expect(runs[0]!.metrics).toMatchObject({ completedRequests: 2, outputTokens: 6 });
    expect(command).toContain(' --no-oversample ');
  });

  test('replays a trace', async () => {
    const { url } = await stubServer();
    const records = [0, 1, 1].map((timestamp) => ({
      timestamp,
      input_length: 20,
      output_length: 5,
      hash_ids: [1, timestamp + 2],
    }));
    const text = records.map((record) => JSON.stringify(record)).join('\n');
    const flags =
      '--dataset-name timed_trace --dataset-path trace --timed-trace-chunk-hash-size 16';
    const { out } = await bench(url, `${flags} --json`, { readFile: () => text });
    const { parameters, metrics } = (JSON.parse(out) as ResultDocument).runs[0]!;
    expect(parameters).toMatchObject({ dataset: 'timed_trace', requestRate: 'trace', requests: 3 });
    expect(metrics).toMatchObject({ inputTokens: 60, outputTokens: 15 });
  });

  // A certificate needs the openssl command to make it.
  test.runIf(certificate.exists)('takes an unknown certificate only if told so', async () => {
    const { key, cert } = certificate;
    const { url } = await stubServer({}, { sslKeyfile: key, sslCertfile: cert });
    const wary = await bench(url, small);
    expect([wary.code, wary.err]).toEqual([1, expect.stringMatching(/SELF_SIGNED_CERT/)]);
    const { code, out } = await bench(url, `${small} --insecure`);
    expect([code, out]).toEqual([0, expect.stringMatching(/Successful requests: +10 /)]);
  });

  test('brings the key, and never shows it', async () => {
    const { url } = await stubServer({}, { apiKey: ['hush'] });
    const none = await bench(url, small);
    expect([none.code, none.err]).toEqual([1, expect.stringMatching(/HTTP 401/)]);
    const environment = { OPENAI_API_KEY: 'hush' };
    const { code, out } = await bench(url, `${small} --json`, { environment });
    expect(code).toBe(0);
    expect(out).not.toContain('hush');
    const header = await bench(url, `${small} --json --header Authorization=Bearer_hush`);
    expect(header.code).toBe(1);
    expect(header.out + header.err).not.toContain('hush');
  });
});

describe('failures are counted', () => {
  test('refusals, by code; what the server says only where nobody wrote the prompt', async () => {
    const { url } = await stubServer();
    const long = `${small} --random-input-len 5000`;
    const refused = await bench(url, long);
    expect(refused.code).toBe(1);
    expect(refused.out).toMatch(/^Failed requests: +10 +$/m);
    expect(refused.err).toMatch(/failed: 10 x HTTP 400: context_length_exceeded \(.*5000 tokens/);
    const prompt = `${'secret '.repeat(1000)}`;
    const custom = await bench(url, '--dataset-name custom --dataset-path p --num-prompts 2', {
      readFile: () => JSON.stringify({ prompt }),
    });
    expect(custom.err).toMatch(/failed: 2 x HTTP 400: context_length_exceeded$/m);
    expect(custom.out + custom.err).not.toContain('secret');
  });

  test('a server that hangs, after the time it was given', async () => {
    const { url } = await stubServer({ pace: 'by-hand' });
    const { code, err } = await bench(
      url,
      `${small} --model storyteller --num-prompts 2 --timeout 0.2`,
    );
    expect([code, err]).toEqual([1, expect.stringContaining('2 x nothing came for 0.2 s')]);
  });

  test('an engine that dies in the middle of an answer', async () => {
    const server = await stubServer({ pace: 'by-hand' });
    const running = bench(server.url, small);
    await server.untilOpen(10);
    server.stub.step();
    server.stub.fail('gone');
    const { code, err } = await running;
    expect(code).toBe(1);
    expect(err).toMatch(/10 x the stream ended with an error: \w+/);
  });

  test('no server at all', async () => {
    const server = await stubServer();
    await server.stop(0);
    const { code, err } = await bench(server.url, small);
    expect([code, err]).toEqual([1, expect.stringMatching(/cannot ask .*ECONNREFUSED/)]);
    const named = await bench(server.url, `${small} --model any`);
    expect(named.err).toMatch(/10 x the connection failed \(ECONNREFUSED\)/);
    const waiting = await bench(server.url, `${small} --model any --ready-check-timeout-sec 1`);
    expect([waiting.code, waiting.err]).toEqual([1, expect.stringMatching(/was not ready in 1 s/)]);
  });
});

/** A server that answers each request as it is told to. */
async function rawServer(answer: Parameters<typeof createServer>[1] & object): Promise<string> {
  const server: Server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const CHUNK = 'data: {"choices":[{"text":"a"}]}\n\n';

describe('other servers', () => {
  test('without usage: chunks are counted', async () => {
    const url = await rawServer((request, response) => {
      request.resume();
      response.writeHead(200).end(`${CHUNK.repeat(3)}data: [DONE]\n\n`);
    });
    const { out } = await bench(url, `${small} --model any`);
    expect(out).toMatch(/^Total input tokens: +120 +$/m);
    expect(out).toMatch(/^Total generated tokens: +30 +$/m);
  });

  test('that break off, say nothing, talk nonsense or show a page', async () => {
    const ways = ['break', 'nothing', 'nonsense', 'page', 'fine'];
    const url = await rawServer((request, response) => {
      request.resume();
      const way = ways[Number(/\d+$/.exec(String(request.headers['x-request-id']))?.[0]) % 5];
      response.writeHead(way === 'page' ? 502 : 200);
      if (way === 'break') response.write(CHUNK, () => response.socket?.destroy());
      else if (way === 'nothing') response.end('data: [DONE]\n\n');
      else if (way === 'nonsense') response.end('data: <b>\n\n');
      else response.end(way === 'page' ? '<html>secret</html>' : CHUNK);
    });
    const { code, out, err } = await bench(url, `${small} --model any`);
    expect(code).toBe(0);
    expect(out).toMatch(/^Successful requests: +2 +$/m);
    expect(out).toMatch(/^Failed requests: +8 +$/m);
    const reasons = err.split('\n').filter((line) => line.startsWith('failed: '));
    expect(reasons.sort()).toEqual([
      'failed: 2 x HTTP 502',
      'failed: 2 x an event is not JSON',
      'failed: 2 x the answer had no output',
      'failed: 2 x the connection broke off within an answer',
    ]);
  });

  test('that close a kept connection are asked again', async () => {
    const used = new WeakSet<object>();
    let closed = 0;
    const url = await rawServer((request, response) => {
      request.resume();
      if (used.has(request.socket)) {
        closed += 1;
        request.socket.resetAndDestroy();
        return;
      }
      used.add(request.socket);
      response.writeHead(200).end(CHUNK);
    });
    const { out } = await bench(url, `${small} --model any --max-concurrency 1`);
    expect(out).toMatch(/^Successful requests: +10 +$/m);
    expect(closed).toBeGreaterThan(0);
  });
});

test('a terminal sees the bar redrawn and cleared', async () => {
  const { url } = await stubServer();
  const drawn: string[] = [];
  const { err } = await bench(url, small, { redraw: (line) => drawn.push(line) });
  expect(drawn.at(-1)).toBe('');
  expect(err).toMatch(/10\/10 requests/);
  const silent = await bench(url, `${small} --disable-tqdm`);
  expect(silent.err).not.toMatch(/10\/10/);
});
