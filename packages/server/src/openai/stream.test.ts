import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { eventsOf, startTestServer, type TestServer } from '../testing/test-server.ts';
import { until } from '../testing/until.ts';

const open: TestServer[] = [];
const start: typeof startTestServer = async (...args) => {
  const server = await startTestServer(...args);
  open.push(server);
  return server;
};
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.stop(0)));
});

const PROMPT = { prompt: 'Once upon a time', max_tokens: 5, stream: true };

const streamed = async (server: TestServer, body: object, path = '/v1/completions') => {
  const response = await server.post(path, body);
  const text = await response.text();
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  // biome-ignore lint/suspicious/noExplicitAny: whatever documents came
  return { response, text, events: eventsOf(text) as any[] };
};

/** A connection that sends one streaming request and reads nothing of the answer. */
function silentClient(port: number, maxTokens: number): Socket {
  const body = JSON.stringify({ ...PROMPT, max_tokens: maxTokens, ignore_eos: true });
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.pause();
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body}`,
  );
  return socket;
}

describe('a stream', () => {
  test('begins with the role, carries the text, ends with its reason and usage', async () => {
    const server = await start();
    const body = {
      messages: [{ role: 'user', content: 'Once upon a time' }],
      max_tokens: 5,
      stream: true,
      stream_options: { include_usage: true },
    };
    const { response, events } = await streamed(server, body, '/v1/chat/completions');
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f]{32}$/);
    expect(events[0].choices[0].delta).toEqual({ role: 'assistant', content: '' });
    const choices = events.flatMap((event) => event.choices);
    expect(choices.map((choice) => choice.delta.content).join('')).toBe('Once upon a time');
    expect(choices.at(-1)).toMatchObject({ finish_reason: 'length', stop_reason: null });
    expect(choices.filter((choice) => choice.finish_reason !== null)).toHaveLength(1);
    expect(events.at(-1).choices).toEqual([]);
    expect(events.at(-1).usage.completion_tokens).toBe(5);
    expect(new Set(events.map((event) => event.id)).size).toBe(1);
  });

  test('says with every chunk what was used so far, where that is asked for', async () => {
    const server = await start({ pace: 'by-hand' });
    const options = { include_usage: true, continuous_usage_stats: true };
    const answer = streamed(server, { ...PROMPT, stream_options: options });
    await server.untilOpen(1);
    await until('the answer is complete', () => {
      server.stub.step();
      return server.stub.openIds.length === 0;
    });
    const { events } = await answer;
    const used = events.map((event) => event.usage.completion_tokens);
    expect(used).toEqual([...used].sort((a, b) => a - b));
    expect(used.at(-1)).toBe(5);
  });

  test('puts the tokens of one engine event in one chunk', async () => {
    const server = await start({ tokensPerStep: 5 });
    const { events } = await streamed(server, PROMPT);
    expect(events).toHaveLength(1);
    expect(events[0].choices[0]).toMatchObject({
      text: 'Once upon a time',
      finish_reason: 'length',
    });
  });

  test('keeps choices apart by index, and echoes', async () => {
    const server = await start();
    const body = {
      ...PROMPT,
      prompt: ['Once upon a time', 'The sea'],
      n: 2,
      echo: true,
      logprobs: 0,
    };
    const { events } = await streamed(server, body);
    const texts = ['', '', '', ''];
    const offsets: number[][] = [[], [], [], []];
    for (const { choices } of events) {
      for (const { index, text, logprobs } of choices) {
        texts[index] += text;
        offsets[index]!.push(...logprobs.text_offset);
      }
    }
    expect(texts[0]).toBe('Once upon a timeOnce upon a time');
    expect(texts[1]).toBe(texts[0]);
    expect(texts[2]!.startsWith('The seaThe sea')).toBe(true);
    for (const list of offsets) expect(list).toEqual([...list].sort((a, b) => a - b));
  });

  test('ends at a stop string wherever chunks are cut, and frees the row', async () => {
    for (const tokensPerStep of [1, 2, 3, 100]) {
      const server = await start({ tokensPerStep });
      const stop = 'n a time';
      const { events } = await streamed(server, { ...PROMPT, max_tokens: 300, stop });
      const choices = events.flatMap((event) => event.choices);
      expect(choices.map((choice) => choice.text).join('')).toBe('Once upo');
      expect(choices.at(-1)).toMatchObject({ finish_reason: 'stop', stop_reason: stop });
      expect(server.stub.openIds).toEqual([]);
    }
  });

  test('is refused with a status while nothing was sent', async () => {
    const server = await start();
    const response = await server.post('/v1/completions', { ...PROMPT, temperature: -1 });
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toContain('application/json');
  });
});

describe('a client that leaves', () => {
  test.each([true, false])('has its requests cancelled (stream: %s)', async (stream) => {
    const server = await start({ pace: 'by-hand' });
    const leave = new AbortController();
    const response = fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ ...PROMPT, n: 3, stream }),
      signal: leave.signal,
    }).catch(() => {});
    await server.untilOpen(3);
    server.stub.step();
    leave.abort();
    await server.untilOpen(0);
    await response;
    // They are counted when the answer notices, which may be after the engine has.
    const aborted = /request_success_total\{finished_reason="abort".*\} 3/;
    let metrics = '';
    await until('they are counted', async () => {
      metrics = await (await fetch(`${server.url}/metrics`)).text();
      return aborted.test(metrics);
    });
    expect(metrics).toMatch(aborted);
  });
});

describe('a client that stops reading', () => {
  test('is cut off, while others get their answers', async () => {
    const card = { maxModelTokens: 10_000_000 };
    const server = await start({ tokensPerStep: 500, card });
    const silent = silentClient(server.port, 9_000_000);
    await server.untilOpen(1);
    const [id] = server.stub.openIds;
    await until('it is cut off', () => !server.stub.openIds.includes(id!));
    // Cut off, and not given all that it asked for.
    expect(server.stub.stats().generatedTokens).toBeLessThan(9_000_000);
    const { events } = await streamed(server, PROMPT);
    expect(events.length).toBeGreaterThan(0);
    silent.destroy();
  });

  test('holds up nobody by having finished: its tail is dropped in the end', async () => {
    const server = await start({ card: { maxModelTokens: 100_000 } }, { stallTimeout: 1 });
    const silent = silentClient(server.port, 50_000);
    await server.untilOpen(1);
    await server.untilOpen(0);
    expect((await server.post('/v1/completions', { ...PROMPT, stream: false })).status).toBe(200);
    silent.destroy();
  });
});

describe('limits', () => {
  test('a full queue is 429 with Retry-After, and takes nothing else down', async () => {
    const server = await start({ pace: 'by-hand', card: { maxRows: 1, maxWaiting: 1 } });
    const first = streamed(server, PROMPT);
    const second = streamed(server, PROMPT);
    await server.untilOpen(2);
    for (const stream of [true, false]) {
      const refused = await server.post('/v1/completions', { ...PROMPT, stream });
      expect(refused.status).toBe(429);
      expect(refused.headers.get('retry-after')).toBe('1');
    }
    await until('both are complete', () => {
      server.stub.step();
      return server.stub.openIds.length === 0;
    });
    expect((await first).events.at(-1).choices[0].finish_reason).toBe('length');
    expect((await second).events.at(-1).choices[0].finish_reason).toBe('length');
  });

  test('several choices are accepted together or not at all', async () => {
    const server = await start({ pace: 'by-hand', card: { maxRows: 1, maxWaiting: 1 } });
    const refused = await server.post('/v1/completions', { ...PROMPT, n: 3 });
    expect(refused.status).toBe(429);
    await server.untilOpen(0);
  });

  test('a thousand idle connections do not keep others from answers', async () => {
    const server = await start();
    const idle = Array.from({ length: 1000 }, () => connect(server.port, '127.0.0.1'));
    await Promise.all(idle.map((socket) => new Promise((go) => socket.once('connect', go))));
    expect((await streamed(server, PROMPT)).events.length).toBeGreaterThan(0);
    for (const socket of idle) socket.destroy();
  });

  test('connections that send no whole request are told so, and closed', async () => {
    const server = await start({}, { requestTimeout: 1 });
    const parts = [
      'GET /health HTTP/1.1\r\nHos',
      'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
        'Content-Length: 9\r\n\r\n{',
    ];
    const answers = parts.map(() => '');
    let closed = 0;
    for (const [index, part] of ['', ...parts].entries()) {
      const socket = connect(server.port, '127.0.0.1', () => socket.write(part));
      socket.on('error', () => {});
      socket.on('data', (data) => {
        if (index > 0) answers[index - 1] = `${answers[index - 1]}${data}`;
      });
      socket.once('close', () => {
        closed += 1;
      });
    }
    // Node's own limits are a minute and more.
    await until('all are closed', () => closed === 3, 40);
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1.1 408 /);
  });

  test('connections over the limit are closed at once, those within it are served', async () => {
    // Nothing else closes a connection before this test is over.
    const server = await start({}, { maxConnections: 2, requestTimeout: 3600 });
    const answers = ['', '', ''];
    const isClosed = [false, false, false];
    const sockets: Socket[] = [];
    for (const index of answers.keys()) {
      const socket = connect(server.port, '127.0.0.1');
      await new Promise((go) => socket.once('connect', go));
      socket.on('error', () => {});
      socket.on('data', (data) => {
        answers[index] = `${answers[index]}${data}`;
      });
      socket.once('close', () => {
        isClosed[index] = true;
      });
      sockets.push(socket);
    }
    for (const socket of sockets) socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n');
    await until('all are answered or closed', () =>
      answers.every((answer, index) => answer !== '' || isClosed[index]),
    );
    expect(answers.map((answer) => answer.slice(0, 12))).toEqual([
      'HTTP/1.1 200',
      'HTTP/1.1 200',
      '',
    ]);
    for (const socket of sockets) socket.destroy();
  });
});

describe('the end', () => {
  test('lets open answers finish', async () => {
    const server = await start({ pace: 'by-hand' });
    const stream = streamed(server, PROMPT);
    const whole = server.post('/v1/completions', { ...PROMPT, stream: false });
    await server.untilOpen(2);
    const stopped = server.stop(60);
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    await until('both are complete', () => {
      server.stub.step();
      return server.stub.openIds.length === 0;
    });
    expect((await stream).events.at(-1).choices[0].finish_reason).toBe('length');
    expect((await whole).status).toBe(200);
    await stopped;
  });

  test('fails what is left when the grace is over', async () => {
    const server = await start({ pace: 'by-hand' });
    const stream = streamed(server, PROMPT);
    const whole = server.post('/v1/completions', { ...PROMPT, stream: false });
    await server.untilOpen(2);
    server.stub.step();
    await server.stop(0);
    expect((await stream).events.at(-1).error.code).toBe('shutting_down');
    expect((await whole).status).toBe(503);
  });

  test('of the engine fails every open answer, and /health says so', async () => {
    const server = await start({ pace: 'by-hand' });
    const stream = streamed(server, PROMPT);
    const whole = server.post('/v1/completions', { ...PROMPT, stream: false });
    await server.untilOpen(2);
    server.stub.step();
    server.stub.fail('the device was lost');
    expect((await stream).events.at(-1).error).toMatchObject({ code: 'engine_failed' });
    expect((await whole).status).toBe(500);
    const health = await fetch(`${server.url}/health`);
    expect(health.status).toBe(503);
    expect(await health.json()).toEqual({ status: 'failed', reason: 'the device was lost' });
    expect((await server.post('/v1/completions', PROMPT)).status).toBe(500);
    expect((await server.engineFailed).message).toContain('device was lost');
  });
});
