import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { HOST_CLOCK, type ServerClock } from '../host-clock.ts';
import { UsageError } from '../settings/resolve.ts';
import { until } from '../testing/until.ts';
import { HttpServer, type ListenSettings, requireFreeAddress } from './http-server.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-http-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const HAS_IPV6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ address }) => address === '::1'),
);

const SETTINGS: ListenSettings = {
  host: '127.0.0.1',
  port: 0,
  uds: undefined,
  sslKeyfile: undefined,
  sslCertfile: undefined,
  maxConnections: 100,
  requestTimeout: 3600,
  stallTimeout: 60,
};

/** A clock whose timers run when they are told to. */
function handClock() {
  const timers: { readonly seconds: number; readonly action: () => void }[] = [];
  const clock: ServerClock = {
    ...HOST_CLOCK,
    after: (seconds, action) => {
      const timer = { seconds, action };
      timers.push(timer);
      return () => timers.splice(timers.indexOf(timer), 1);
    },
  };
  return { clock, timers };
}

function make(settings: Partial<ListenSettings> = {}, answer = async () => new Response('yes')) {
  const { clock, timers } = handClock();
  return { http: new HttpServer({ fetch: answer }, { ...SETTINGS, ...settings }, clock), timers };
}

const ask = (options: object): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ agent: false, ...options }, (reply) => {
      let text = '';
      reply.on('data', (data) => (text += data));
      reply.on('end', () => resolve(text));
    })
      .on('error', reject)
      .end();
  });

describe('the address', () => {
  test('is told as it can be asked', async () => {
    const { http } = make();
    const url = await http.listen();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:[1-9]\d*$/);
    const reply = await fetch(url);
    expect(reply.headers.get('keep-alive')).toBe('timeout=75');
    expect(await reply.text()).toBe('yes');
    await http.close();
  });

  test.runIf(HAS_IPV6)('may be one of IPv6', async () => {
    const { http } = make({ host: '::1' });
    const url = await http.listen();
    expect(url).toMatch(/^http:\/\/\[::1\]:[1-9]\d*$/);
    expect(await (await fetch(url)).text()).toBe('yes');
    await http.close();
  });

  test('that something else has is refused, with where', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const refused = make({ port }).http.listen();
    await expect(refused).rejects.toBeInstanceOf(UsageError);
    await expect(refused).rejects.toMatchObject({
      code: 'bad-value',
      cause: { code: 'EADDRINUSE' },
    });
    await expect(refused).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port} (EADDRINUSE): something else listens there`,
    );
    other.close();
  });

  test('is tried before there is anything to serve, and given back', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    await expect(requireFreeAddress({ ...SETTINGS, port })).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port} (EADDRINUSE): something else listens there`,
    );
    await new Promise((resolve) => other.close(resolve));
    await requireFreeAddress({ ...SETTINGS, port });
    const { http } = make({ port });
    expect(await http.listen()).toBe(`http://127.0.0.1:${port}`);
    await http.close();
  });

  test('that cannot be had for another reason says only that', async () => {
    const uds = join(scratch, 'none', 'socket');
    await expect(make({ uds }).http.listen()).rejects.toThrow(
      new RegExp(`^cannot listen on ${uds} \\(E[A-Z]+\\)$`),
    );
  });

  test('may be a socket file, and takes the place of one that nobody listens on', async () => {
    const uds = join(scratch, 'socket');
    const { http } = make({ uds });
    expect(await http.listen()).toBe('http://localhost');
    expect(await ask({ socketPath: uds, path: '/' })).toBe('yes');
    await expect(make({ uds }).http.listen()).rejects.toThrow('something else listens there');
    expect(await ask({ socketPath: uds, path: '/' })).toBe('yes');
    await http.close();
    // What a process that was killed leaves.
    const listening = `createServer().listen(${JSON.stringify(uds)}`;
    const script = `require('node:net').${listening}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script]);
    expect(existsSync(uds)).toBe(true);
    const next = make({ uds }).http;
    await next.listen();
    expect(await ask({ socketPath: uds, path: '/' })).toBe('yes');
    await next.close();
  });

  test('leaves a file alone that is no socket', async () => {
    const uds = join(scratch, 'file');
    writeFileSync(uds, 'mine');
    await expect(make({ uds }).http.listen()).rejects.toThrow(`cannot listen on ${uds}`);
    expect(existsSync(uds)).toBe(true);
  });
});

describe('a connection', () => {
  test('is kept for the next request', async () => {
    const { http } = make();
    const url = new URL(await http.listen());
    const agent = new Agent({ keepAlive: true });
    const where = { port: url.port, host: url.hostname, agent };
    await ask(where);
    await until('it is free', () => Object.keys(agent.freeSockets).length > 0);
    const [kept] = Object.values(agent.freeSockets)[0]!;
    // What the server does after an answer, it has done when it has answered another.
    await ask({ port: url.port, host: url.hostname });
    await ask(where);
    await until('it is free again', () => Object.keys(agent.freeSockets).length > 0);
    expect(Object.values(agent.freeSockets)[0]).toEqual([kept]);
    agent.destroy();
    await http.close();
  });
});

describe('a client that does not read', () => {
  test('what it asked for is asked of the application a few times only', async () => {
    let asked = 0;
    const { http } = make({}, () => {
      asked += 1;
      return new Promise(() => {});
    });
    const url = new URL(await http.listen());
    const socket = connect(Number(url.port), url.hostname);
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2000));
    await once(socket, 'close');
    expect(asked).toBe(32);
    await http.close();
  });

  test('has as many answers as it likes, where it reads them', async () => {
    const { http } = make();
    const url = new URL(await http.listen());
    const socket = connect(Number(url.port), url.hostname);
    let text = '';
    socket.on('data', (data) => (text += data));
    for (let round = 1; round <= 3; round++) {
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(20));
      await until('they are answered', () => text.split('\r\n\r\nyes').length === 20 * round + 1);
    }
    socket.destroy();
    await http.close();
  });

  test('loses its connection, and the rest of a whole answer', async () => {
    const bytes = 64 * 2 ** 20;
    const answer = async () => new Response(new Uint8Array(bytes));
    const { http } = make({ stallTimeout: 1, maxConnections: 1 }, answer);
    const url = new URL(await http.listen());
    const socket = connect(Number(url.port), url.hostname);
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'readable');
    // Another is let in as soon as this one is gone.
    const isGone = () =>
      ask({ port: url.port, host: url.hostname, method: 'HEAD' }).then(
        () => true,
        () => false,
      );
    await until('it is cut off', isGone);
    let received = 0;
    socket.on('data', (data) => (received += data.length));
    await once(socket, 'close');
    expect(received).toBeLessThan(bytes);
    await http.close();
  });
});

describe('connections', () => {
  test('over the limit are closed, and those within it are served', async () => {
    const { http } = make({ maxConnections: 1 });
    const url = new URL(await http.listen());
    const agent = new Agent({ keepAlive: true });
    const where = { port: url.port, host: url.hostname, agent };
    await ask(where);
    const second = connect(Number(url.port), url.hostname);
    second.on('error', () => {});
    await once(second, 'close');
    expect(await ask(where)).toBe('yes');
    agent.destroy();
    await http.close();
  });
});

describe('files of TLS', () => {
  test('that cannot be read are named', () => {
    const key = join(scratch, 'key.pem');
    writeFileSync(key, 'x');
    const none = join(scratch, 'none.pem');
    const failure = (settings: Partial<ListenSettings>) => {
      try {
        make(settings);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    for (const [flag, settings] of [
      ['--ssl-keyfile', { sslKeyfile: none, sslCertfile: key }],
      ['--ssl-certfile', { sslKeyfile: key, sslCertfile: none }],
    ] as const) {
      const error = failure(settings);
      expect(error).toBeInstanceOf(UsageError);
      expect(error).toMatchObject({
        code: 'bad-file',
        message: `${flag}: cannot read ${none} (ENOENT)`,
        cause: { code: 'ENOENT' },
      });
    }
  });
});

describe('closing', () => {
  test('ends a connection as soon as its last answer has left', async () => {
    let finish: (response: Response) => void = () => {};
    let isAsked = false;
    const { http } = make({}, () => {
      isAsked = true;
      return new Promise((resolve) => {
        finish = resolve;
      });
    });
    const url = new URL(await http.listen());
    const agent = new Agent({ keepAlive: true });
    const answer = ask({ port: url.port, host: url.hostname, agent });
    await until('it is asked', () => isAsked);
    http.stopAccepting();
    const [[socket]] = Object.values(agent.sockets) as [[Socket]];
    const ended = once(socket, 'close');
    finish(new Response('late'));
    expect(await answer).toBe('late');
    await ended;
    await http.close();
  });

  test('without connections takes no time, and leaves no timer', async () => {
    const { http, timers } = make();
    await http.listen();
    await http.close();
    expect(timers).toEqual([]);
  });

  test('ends idle connections at once', async () => {
    const { http, timers } = make();
    const url = new URL(await http.listen());
    const agent = new Agent({ keepAlive: true });
    expect(await ask({ port: url.port, host: url.hostname, agent })).toBe('yes');
    await http.close();
    expect(timers).toEqual([]);
    agent.destroy();
  });

  test('lets an open answer finish, and then ends its connection', async () => {
    let finish: (response: Response) => void = () => {};
    let asked = false;
    const { http, timers } = make({}, () => {
      asked = true;
      return new Promise((resolve) => {
        finish = resolve;
      });
    });
    const url = new URL(await http.listen());
    const agent = new Agent({ keepAlive: true });
    const answer = ask({ port: url.port, host: url.hostname, agent });
    await until('it is asked', () => asked);
    http.stopAccepting();
    http.stopAccepting();
    const refused = connect(Number(url.port), url.hostname);
    const [error] = await once(refused, 'error');
    expect(error.code).toBe('ECONNREFUSED');
    const closed = http.close();
    finish(new Response('late'));
    expect(await answer).toBe('late');
    await closed;
    expect(timers).toEqual([]);
    agent.destroy();
  });

  test('ends what is still open after two seconds', async () => {
    const { http, timers } = make();
    const url = new URL(await http.listen());
    const socket = connect(Number(url.port), url.hostname);
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write('GET / HTTP/1.1\r\nHos');
    const ended = once(socket, 'close');
    // The server has it when it answers another.
    expect(await ask({ port: url.port, host: url.hostname })).toBe('yes');
    let isClosed = false;
    const closed = http.close().then(() => {
      isClosed = true;
    });
    expect(timers.map(({ seconds }) => seconds)).toEqual([2]);
    for (let turns = 0; turns < 10; turns++) await new Promise((go) => setImmediate(go));
    expect(isClosed).toBe(false);
    timers[0]!.action();
    await closed;
    await ended;
  });
});
