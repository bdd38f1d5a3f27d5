import { connect } from 'node:net';
import { until } from '@bridgekeeper/server/testing';
import { afterEach, describe, expect, it } from 'vitest';
import {
  chunk,
  type ScriptedRequest,
  type ScriptedUpstream,
  STREAM_END,
  STREAM_HEAD,
  startScriptedUpstream,
  token,
  whole,
} from '../testing/scripted-upstream.ts';
import { routesTo, startTestGateway, type TestGateway } from '../testing/test-gateway.ts';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function upstream(answer: (request: ScriptedRequest) => void): Promise<ScriptedUpstream> {
  const made = await startScriptedUpstream(answer);
  closing.push(() => made.close());
  return made;
}

async function gatewayTo(
  upstreams: ScriptedUpstream | readonly ScriptedUpstream[],
  changes: Parameters<typeof startTestGateway>[1] = {},
): Promise<TestGateway> {
  const all = [upstreams].flat();
  const gateway = await startTestGateway(routesTo(...all.map(({ port }) => port)), changes);
  closing.push(() => gateway.stop(0));
  return gateway;
}

const PROMPT = { model: 'storyteller', prompt: 'a', stream: true };
const COMPLETIONS = '/v1/completions';

describe('streams', () => {
  it('reach the client byte for byte, however their bytes are cut on the way', async () => {
    const events = `${['a', 'bc', '\u00e9\ud83d\ude00', 'd'].map(token).join('')}data: [DONE]\n\n`;
    const bytes = Buffer.from(chunk(events.slice(0, 70)) + chunk(events.slice(70)) + STREAM_END);
    const replica = await upstream(({ socket, index }) => {
      socket.write(STREAM_HEAD);
      const cut = index + 1;
      for (let at = 0; at < bytes.length; at += cut) {
        socket.cork();
        socket.write(bytes.subarray(at, at + cut));
        socket.uncork();
      }
    });
    const gateway = await gatewayTo(replica);
    for (let cut = 1; cut < 12; cut++) {
      const answer = await gateway.post(COMPLETIONS, PROMPT);
      expect(answer.headers.get('content-type')).toBe('text/event-stream');
      expect(await answer.text()).toBe(events);
    }
    // One connection carried all of them.
    expect(replica.connections.size).toBe(1);
  });

  it.each([
    [COMPLETIONS, token('a'), /"replica_lost"[^\n]*\n\ndata: \[DONE\]\n\n$/],
    ['/v1/messages', 'event: content_block_delta\ndata: {}\n\n', /event: error\ndata: .*api_error/],
    [
      '/v1/responses',
      'event: response.output_text.delta\ndata: {}\n\n',
      /event: error\ndata: .*"code":"replica_lost".*"sequence_number":1}\n\n$/,
    ],
  ])('of %s that a replica leaves say so in the form of their API', async (path, event, end) => {
    const replica = await upstream(({ socket }) => {
      // Half an event is not passed on.
      socket.write(STREAM_HEAD + chunk(`${event}data: {"half`));
      setImmediate(() => socket.end());
    });
    const other = await upstream(() => expect.unreachable('it had begun'));
    const gateway = await gatewayTo([replica, other]);
    await gateway.reroute(routesTo(replica.port));
    const answer = await gateway.post(path, PROMPT);
    const text = await answer.text();
    expect(text.startsWith(event)).toBe(true);
    expect(text).not.toContain('half');
    expect(text).toMatch(end);
    expect(gateway.openAnswers).toBe(0);
  });

  it('that have begun but for their first token are asked for elsewhere', async () => {
    const opening =
      'event: response.created\ndata: {}\n\nevent: response.in_progress\ndata: {}\n\n';
    const answers: string[] = [];
    const answer = (name: string) => (request: ScriptedRequest) => {
      answers.push(name);
      request.socket.write(STREAM_HEAD + chunk(opening));
      if (answers.length === 1) setImmediate(() => request.socket.resetAndDestroy());
      else request.socket.write(chunk(`event: x\ndata: {"by":"${name}"}\n\n`) + STREAM_END);
    };
    const gateway = await gatewayTo([await upstream(answer('a')), await upstream(answer('b'))]);
    const text = await (await gateway.post('/v1/responses', PROMPT)).text();
    expect(new Set(answers)).toEqual(new Set(['a', 'b']));
    expect(text).toBe(`${opening}event: x\ndata: {"by":"${answers[1]}"}\n\n`);
  });

  it('end at the replica when the client leaves', async () => {
    const replica = await upstream(({ socket }) => socket.write(STREAM_HEAD + chunk(token('a'))));
    const gateway = await gatewayTo(replica);
    const stop = new AbortController();
    const answer = await fetch(`${gateway.url}${COMPLETIONS}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(PROMPT),
      signal: stop.signal,
    });
    await answer.body!.getReader().read();
    stop.abort();
    await until('the replica is told', () => replica.connections.size === 0);
    await until('nothing is open', () => gateway.openAnswers === 0);
  });

  it('wait for a client that does not read, and are not gathered for it', async () => {
    const event = token('x'.repeat(60_000));
    let written = 0;
    const replica = await upstream(({ socket }) => {
      socket.write(STREAM_HEAD);
      const more = () => {
        while (written < 2000 && socket.write(chunk(event))) written += 1;
        written += 1;
        if (written < 2000) socket.once('drain', more);
      };
      more();
    });
    const gateway = await gatewayTo(replica, { stallTimeout: 2 });
    const client = connect(gateway.port, '127.0.0.1');
    const body = JSON.stringify(PROMPT);
    client.write(
      `POST ${COMPLETIONS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n` +
        `content-length: ${body.length}\r\n\r\n${body}`,
    );
    client.pause();
    client.on('error', () => undefined);
    await until('the stream is cut off', () => gateway.openAnswers === 0 && written > 0);
    // What fits between: buffers of sockets, some megabytes each, and not 120 MB.
    expect(written).toBeLessThan(500);
    client.destroy();
  });
});

describe('answers', () => {
  it('of replicas that are not there come from those that are', async () => {
    const gone = await upstream(() => undefined);
    const replica = await upstream(({ socket }) => socket.write(whole(200, '{"ok":1}')));
    await gone.close();
    const gateway = await gatewayTo([gone, replica]);
    for (let index = 0; index < 10; index++) {
      const answer = await gateway.post(COMPLETIONS, { ...PROMPT, prompt: `p${index}` });
      expect(await answer.json()).toEqual({ ok: 1 });
    }
  });

  it.each([
    ['is no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['has two lengths', 'HTTP/1.1 200 X\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}'],
    [
      'has a length and chunks',
      'HTTP/1.1 200 X\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['has no length', 'HTTP/1.1 200 X\r\n\r\n{}'],
    ['ends early', 'HTTP/1.1 200 X\r\ncontent-length: 200\r\n\r\n{}'],
    ['has a head without an end', `HTTP/1.1 200 X\r\na: ${'b'.repeat(40_000)}`],
    ['folds a header', 'HTTP/1.1 200 X\r\na: b\r\n c\r\ncontent-length: 2\r\n\r\n{}'],
    ['has a broken chunk', `${STREAM_HEAD}2\r\nabc\r\n`],
    ['has a chunk of all memory', `${STREAM_HEAD}fffffffffff\r\n`],
    ['switches protocols', 'HTTP/1.1 101 X\r\n\r\n'],
  ])('that %s is an error, and no other request meets it', async (_, bytes) => {
    const replica = await upstream(({ socket }) => socket.end(bytes));
    const gateway = await gatewayTo(replica);
    const answer = await gateway.post(COMPLETIONS, PROMPT);
    expect(answer.status).toBe(502);
    expect(await answer.json()).toMatchObject({ error: { code: 'replica_failed' } });
    await until('the connection ended', () => replica.connections.size === 0);
  });

  it('are never those of another request: what comes unasked ends the connection', async () => {
    const replica = await upstream(({ socket, index }) => {
      socket.write(whole(200, `{"index":${index}}`) + whole(200, '{"index":"stolen"}'));
    });
    const late = await upstream(({ socket, index }) => {
      socket.write(whole(200, `{"index":${index}}`));
      setImmediate(() => socket.write(whole(200, '{"index":"stolen"}')));
    });
    for (const each of [replica, late]) {
      const gateway = await gatewayTo(each);
      for (let index = 0; index < 5; index++) {
        const answer = await gateway.post(COMPLETIONS, PROMPT);
        expect(await answer.json()).toEqual({ index });
        await until('the connection ended', () => each.connections.size === 0);
      }
    }
  });

  it('that lie about what they are, by the table, are not taken', async () => {
    const liar = await upstream(({ socket }) =>
      socket.write(whole(200, '{}', 'x-bridgekeeper-replica: rp_other;epoch=3\r\n')),
    );
    const gateway = await gatewayTo(liar);
    expect((await gateway.post(COMPLETIONS, PROMPT)).status).toBe(502);
  });

  it('from a replica that is full or ends come from another, or as they are', async () => {
    const full = JSON.stringify({ error: { code: 'queue_full' } });
    const limited = JSON.stringify({ error: { code: 'rate_limited' } });
    const a = await upstream(({ socket, body }) =>
      socket.write(whole(429, body.includes('limited') ? limited : full, 'retry-after: 7\r\n')),
    );
    const b = await upstream(({ socket }) => socket.write(whole(503, '{}')));
    const gateway = await gatewayTo([a, b]);
    const answer = await gateway.post(COMPLETIONS, PROMPT);
    expect([429, 503]).toContain(answer.status);
    expect(a.requests.length + b.requests.length).toBe(2);
    await gateway.reroute(routesTo(a.port));
    const own = await gateway.post(COMPLETIONS, { ...PROMPT, prompt: 'limited' });
    expect(own.status).toBe(429);
    expect(own.headers.get('retry-after')).toBe('7');
  });

  it('come once more over a new connection where an idle one had closed', async () => {
    const replica = await upstream(({ socket, index }) => {
      // The second request meets a connection that closes as it comes.
      if (index === 1) socket.destroy();
      else socket.write(whole(200, `{"index":${index}}`));
    });
    const gateway = await gatewayTo(replica);
    expect(await (await gateway.post(COMPLETIONS, PROMPT)).json()).toEqual({ index: 0 });
    expect(await (await gateway.post(COMPLETIONS, PROMPT)).json()).toEqual({ index: 2 });
  });

  it('that never come end in time', async () => {
    const replica = await upstream(() => undefined);
    const gateway = await gatewayTo(replica, { replicaTimeout: 1 });
    expect((await gateway.post(COMPLETIONS, PROMPT)).status).toBe(502);
  });
});

describe('clients', () => {
  const ask = async (gateway: TestGateway, bytes: string): Promise<string> => {
    const socket = connect(gateway.port, '127.0.0.1');
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (data) => (text += data.toString('latin1')));
    // Who closes his half has left, as Node has it.
    socket.write(bytes);
    // A reset, which newer versions of Node answer a flood with, is an end, too.
    await new Promise((resolve) => socket.once('close', resolve));
    return text;
  };

  it('of HTTP/1.0 get content without chunks, and those that pipeline each their own', async () => {
    const replica = await upstream(({ socket, body }) => {
      const { prompt } = JSON.parse(body) as { prompt: string };
      socket.write(STREAM_HEAD + chunk(token(prompt)) + chunk(token('z')) + STREAM_END);
    });
    const gateway = await gatewayTo(replica);
    const request = (prompt: string, version: string, more = '') => {
      const body = JSON.stringify({ ...PROMPT, prompt });
      return (
        `POST ${COMPLETIONS} HTTP/${version}\r\nhost: localhost\r\n${more}` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
      );
    };
    const old = await ask(gateway, request('old', '1.0'));
    expect(old.endsWith(`\r\n\r\n${token('old')}${token('z')}`)).toBe(true);
    const both = await ask(
      gateway,
      request('first', '1.1') + request('second', '1.1', 'connection: close\r\n'),
    );
    expect(both.indexOf('first')).toBeGreaterThan(0);
    expect(both.indexOf('second')).toBeGreaterThan(both.indexOf('first'));
    expect(both.split(`${STREAM_END}HTTP/1.1 200`).length).toBe(2);
  });

  it('cannot smuggle headers or requests to a replica', async () => {
    const replica = await upstream(({ socket }) => socket.write(whole(200, '{}')));
    const gateway = await gatewayTo(replica);
    const body = JSON.stringify(PROMPT);
    await gateway.post(COMPLETIONS, PROMPT, {
      'x-bridgekeeper-tenant': 'another',
      'x-forwarded-for': '10.0.0.1',
      cookie: 'a=b',
      te: 'trailers',
    });
    expect(replica.requests[0]!.head).not.toMatch(/tenant|forwarded|cookie|^te:/im);
    const both =
      `POST ${COMPLETIONS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n` +
      `content-length: ${body.length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${body}`;
    expect(await ask(gateway, both)).toMatch(/^HTTP\/1.1 400/);
    expect(replica.requests).toHaveLength(1);
  });

  it('with too much of a head or a body are refused before a replica sees them', async () => {
    const replica = await upstream(({ socket }) => socket.write(whole(200, '{}')));
    const gateway = await gatewayTo(replica, { maxBodyBytes: 1000, maxBodiesBytes: 500 });
    const flood = `GET /v1/models HTTP/1.1\r\nhost: localhost\r\n${'a: b\r\n'.repeat(20_000)}\r\n`;
    expect(await ask(gateway, flood)).toMatch(/^HTTP\/1.1 431/);
    const large = await gateway.post(COMPLETIONS, { ...PROMPT, prompt: 'x'.repeat(2000) });
    expect(await large.json()).toMatchObject({ error: { code: 'body_too_large' } });
    const much = await gateway.post(COMPLETIONS, { ...PROMPT, prompt: 'x'.repeat(700) });
    expect(await much.json()).toMatchObject({ error: { code: 'queue_full' } });
    const deep = await gateway.post(COMPLETIONS, `{"a":${'['.repeat(210)}`);
    expect(deep.status).toBe(400);
    expect(replica.requests).toHaveLength(0);
    // What was refused is not held against those that come.
    expect((await gateway.post(COMPLETIONS, PROMPT)).status).toBe(200);
  });
});
