import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../testing/test-server.ts';
import { JsonBodies } from './body.ts';
import { toApiError } from './errors.ts';
import { CONVERSATION_BOUNDS } from './json-bounds.ts';

const app = new Hono();
const JSON_TYPE = { 'Content-Type': 'application/json' };
const bodies = new JsonBodies(8);
app.post('/', async (c) => c.json({ read: (await bodies.read(c, CONVERSATION_BOUNDS)).value }));
app.onError((thrown, c) => {
  const { body, status } = toApiError(thrown);
  return c.json(body, status);
});

/** Sends a body in pieces, without saying how long it is; counts how many pieces were taken. */
async function send(pieces: readonly string[], end: 'end' | 'break' | 'never' = 'end') {
  let taken = 0;
  let isCancelled = false;
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        const piece = pieces[taken];
        if (piece !== undefined) {
          taken += 1;
          controller.enqueue(encoder.encode(piece));
        } else if (end === 'end') controller.close();
        else if (end === 'break') controller.error(new Error('the connection broke'));
      },
      cancel: () => {
        isCancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  const answer = await app.request('/', {
    method: 'POST',
    body,
    headers: JSON_TYPE,
    duplex: 'half',
  } as RequestInit);
  return { status: answer.status, document: await answer.json(), taken, isCancelled };
}

test('a body that says it is too long is not read at all', async () => {
  let taken = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      pull: () => {
        taken += 1;
      },
    },
    { highWaterMark: 0 },
  );
  const headers = { ...JSON_TYPE, 'Content-Length': '9' };
  const init = { method: 'POST', body, headers, duplex: 'half' } as RequestInit;
  expect((await app.request('/', init)).status).toBe(413);
  expect(taken).toBe(0);
});

const declared = async (body: string) => {
  const headers = { ...JSON_TYPE, 'Content-Length': String(Buffer.byteLength(body)) };
  const answer = await app.request('/', { method: 'POST', body, headers });
  return { status: answer.status, document: await answer.json() };
};

const TOO_LARGE = {
  message: 'The body is larger than 8 bytes.',
  type: 'invalid_request_error',
  param: null,
  code: 'body_too_large',
};

describe('a body', () => {
  test('may be as long as the limit, and no longer', async () => {
    expect(await declared('12345678')).toEqual({ status: 200, document: { read: 12345678 } });
    expect(await declared('123456789')).toEqual({ status: 413, document: { error: TOO_LARGE } });
  });

  test('of unknown length likewise, however it is cut', async () => {
    const whole = await send(['[1', ',2,3', ']']);
    expect(whole).toMatchObject({ status: 200, document: { read: [1, 2, 3] } });
    expect(await send(['1234', '5678'])).toMatchObject({ document: { read: 12345678 } });
    expect(await send(['1234', '56789'])).toMatchObject({ document: { error: TOO_LARGE } });
  });

  test('is not read on once it is too long', async () => {
    const pieces = ['12345', '6789', '0', '0', '0'];
    expect(await send(pieces, 'never')).toMatchObject({
      status: 413,
      taken: 2,
      isCancelled: true,
    });
  });

  test('that ends early, is missing or is no JSON is refused', async () => {
    const { status, document } = await send(['[1,'], 'break');
    expect(status).toBe(400);
    expect(document).toMatchObject({
      error: { code: 'invalid_json', message: 'The body ended before it was complete.' },
    });
    const missing = await app.request('/', { method: 'POST', headers: JSON_TYPE });
    expect([missing.status, await missing.json()]).toMatchObject([
      400,
      { error: { code: 'invalid_json', message: 'The body is not valid JSON.' } },
    ]);
  });
});

test.each([
  [{}, 415],
  [{ 'Content-Type': 'text/plain' }, 415],
  [{ 'Content-Type': 'application/x-www-form-urlencoded' }, 415],
  [{ 'Content-Type': 'application/jsonp' }, 415],
  [{ 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' }, 415],
  [{ 'Content-Type': 'Application/JSON; charset=utf-8' }, 200],
  [{ 'Content-Type': 'application/json', 'Content-Encoding': 'identity' }, 200],
])('a body is sent as plain JSON, or not read: %o is %i', async (headers, status) => {
  const body = new TextEncoder().encode('[1]');
  const answer = await app.request('/', { method: 'POST', body, headers });
  expect(answer.status).toBe(status);
  if (status === 200) return;
  expect(await answer.json()).toMatchObject({ error: { code: 'unsupported_media_type' } });
});

test('large bodies are taken one in a turn of the event loop', async () => {
  const large = new JsonBodies(2 ** 20);
  const one = new Hono();
  const order: string[] = [];
  one.post('/', async (c) => {
    await large.read(c, CONVERSATION_BOUNDS);
    order.push('body');
    return c.text('');
  });
  const body = JSON.stringify('x'.repeat(2 ** 17));
  const send = () => one.request('/', { method: 'POST', body, headers: JSON_TYPE });
  const sent = Promise.all([send(), send(), send()]);
  let isDone = false;
  void sent.then(() => (isDone = true));
  while (!isDone) {
    await new Promise((resume) => setImmediate(resume));
    if (order.at(-1) === 'body') order.push('turn');
  }
  expect(order.join(' ')).toMatch(/^body turn body turn body/);
});

describe('over HTTP', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({}, { maxBodyBytes: 1024 });
  });
  afterAll(() => server.stop(0));

  test('a chunked body over the limit is answered while it is still being sent', async () => {
    const reply = await new Promise((resolve, reject) => {
      const sending = request(
        `${server.url}/v1/completions`,
        { method: 'POST', headers: JSON_TYPE },
        (answer) => {
          resolve(answer.statusCode);
          expect(answer.headers.connection).toBe('close');
          sending.destroy();
        },
      );
      sending.on('error', reject);
      sending.write('x'.repeat(600));
      // It never ends.
      sending.write('x'.repeat(600));
    });
    expect(reply).toBe(413);
  });

  test.each([
    ['a length that no number holds', 'FFFFFFFFFFFFFFFFFF\r\nx', 400],
    ['no length', 'zz\r\n', 400],
    ['more than the limit', `800\r\n${'x'.repeat(2048)}\r\n0\r\n\r\n`, 413],
  ])('a chunk of %s ends the connection', async (_kind, chunk, status) => {
    const head = [
      'POST /tokenize HTTP/1.1',
      'Host: localhost',
      'Content-Type: application/json',
      'Transfer-Encoding: chunked',
    ];
    const socket = connect(server.port, '127.0.0.1');
    let text = '';
    socket.on('data', (data) => (text += data));
    socket.on('error', () => {});
    socket.write(`${head.join('\r\n')}\r\n\r\n${chunk}`);
    await once(socket, 'close');
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  test('a body of the limit’s length is taken', async () => {
    const body = JSON.stringify({ prompt: 'x', max_tokens: 1 }).padEnd(1024);
    expect((await server.post('/v1/completions', body)).status).toBe(200);
    expect((await server.post('/v1/completions', `${body} `)).status).toBe(413);
  });
});

test('a large body is decoded in turns, whole whatever a turn ends in', async () => {
  const large = new JsonBodies(2 ** 24);
  const own = new Hono();
  let value: unknown;
  own.post('/', async (c) => {
    ({ value } = await large.read(c, CONVERSATION_BOUNDS));
    return c.text('read');
  });
  const text = `a${'日本語'.repeat(400_000)}`;
  let turns = 0;
  let isRead = false;
  const count = () => {
    turns += 1;
    if (!isRead) setImmediate(count);
  };
  setImmediate(count);
  const body = new TextEncoder().encode(JSON.stringify(text));
  await own.request('/', { method: 'POST', headers: JSON_TYPE, body });
  isRead = true;
  expect(value).toBe(text);
  // One for each mebibyte at least.
  expect(turns).toBeGreaterThan(body.length / 2 ** 20);
});
