import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { startTestServer, type TestServer } from '@bridgekeeper/server/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({}, { apiKey: ['hunter2', 'other'] });
});
afterAll(() => server.stop(0));

async function chat(words: readonly string[], lines: readonly string[] = [], key = 'hunter2') {
  const written: string[] = [];
  const { io, out, err } = testIo({
    environment: { BRIDGEKEEPER_API_KEY: `${key}, unused` },
    dialogue: {
      write: (text) => written.push(text),
      async *lines() {
        yield* lines;
      },
    },
  });
  const code = await runCli(['chat', '--url', server.url, ...words], io);
  return { code, out, err: err.join('\n'), text: written.join('') };
}

describe('chat', () => {
  test('answers one question as it comes, and ends', async () => {
    const { code, text, out } = await chat(['Once upon a time', '--max-tokens', '4']);
    expect([code, out]).toEqual([0, []]);
    expect(text).toMatch(/\S.*\n$/s);
  });

  test('--json is one document with answer, end and usage', async () => {
    const { code, out, text } = await chat(['Hello', '--max-tokens', '4', '--json']);
    expect([code, out.length, text]).toEqual([0, 1, '']);
    expect(JSON.parse(out[0]!)).toMatchObject({
      answer: expect.any(String),
      model: 'storyteller',
      finishReason: 'length',
      usage: { completion_tokens: 4 },
    });
    const { code: refused, err } = await chat(['--json']);
    expect([refused, err]).toEqual([2, expect.stringContaining('--json: needs a question')]);
  });

  test('remembers what was said, until it is told to forget or to end', async () => {
    const prompts: number[] = [];
    const counting = createServer((request, reply) => {
      let body = '';
      request.on('data', (data) => {
        body += data;
      });
      request.on('end', () => {
        prompts.push((JSON.parse(body) as { messages: unknown[] }).messages.length);
        const chunk = { choices: [{ delta: { content: 'a\u001b[31mb' } }] };
        reply.end(`data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n`);
      });
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => counting.once('listening', resolve));
    const url = `http://127.0.0.1:${(counting.address() as AddressInfo).port}/v1/`;
    const lines = ['one', '', 'two', '/new', 'three', '/exit', 'never'];
    const { code, text } = await chat(['--url', url, '--system', 'Be brief.'], lines);
    counting.close();
    expect([code, prompts]).toEqual([0, [2, 4, 2]]);
    // What would command the terminal does not reach it.
    expect(text).toBe('a[31mb\n'.repeat(3));
  });

  test('says why there is no answer, and a talk goes on', async () => {
    const unknown = await chat(['Hello'], [], 'nope');
    expect(unknown.code).toBe(1);
    expect(unknown.err).toMatch(/refused \(401\): .* Set BRIDGEKEEPER_API_KEY\.$/);
    const closed = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => closed.once('listening', resolve));
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    const nobody = await chat(['Hello', '--url', `http://127.0.0.1:${port}`]);
    expect([nobody.code, nobody.err]).toEqual([1, expect.stringContaining('ECONNREFUSED')]);
    const talk = await chat(['--model', 'nope'], ['one', 'two']);
    expect(talk.code).toBe(0);
    expect(talk.err.match(/does not exist here/g)).toHaveLength(2);
    expect((await chat(['Hello', '--url', 'ftp://x'])).code).toBe(2);
  });
});
