import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Clock } from '@bridgekeeper/bridge';
import { GREEDY } from '@bridgekeeper/engine';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SyntheticEngine } from '../engine/synthetic-engine.ts';
import { HOST_CLOCK } from '../host-clock.ts';
import { ApiError } from '../http/errors.ts';
import { Lifecycle } from '../http/lifecycle.ts';
import { SETTINGS } from '../settings/table.ts';
import { until } from '../testing/until.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { Generation } from './generation.ts';
import { type ChunkFormat, SseStream, type StreamLimits } from './sse.ts';
import { WakeQueue } from './wake-queue.ts';

let text: ModelText;
beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
});

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

const OPTIONS = {
  stop: [],
  includeStop: false,
  skipSpecialTokens: true,
  echoText: '',
  echoLogprobs: false,
  hideOutput: false,
  tokenIds: false,
};

/** With this no round waits for the one before it: each step is heard in the next turn. */
const STILL: Clock = { nowNs: () => 0, sleepUntilNs: () => Promise.resolve() };

let requests = 0;

/** Two choices over an engine that steps by hand. */
function generationOver(engine: SyntheticEngine): Generation {
  return new Generation(
    {
      requestId: 'x',
      arrivedNs: 0,
      choicesPerPrompt: 2,
      requests: [0, 1].map(() => {
        requests += 1;
        const sampling = { ...GREEDY, maxTokens: 100 };
        const promptTokens = Uint32Array.of(500, 501, 502);
        const request = { id: `r${requests}`, tenant: 't', promptTokens, sampling };
        return { request, options: OPTIONS };
      }),
    },
    {
      engine,
      text,
      wakes: new WakeQueue(STILL),
      observer: { tokens: () => {}, finished: () => {} },
      clock: HOST_CLOCK,
      lifecycle: new Lifecycle(),
    },
  );
}

interface Opened {
  readonly engine: SyntheticEngine;
  readonly generation: Generation;
  /** How many tokens each chunk that was made carries. */
  readonly chunks: number[];
  readonly recorded: { text: string; readonly ends: string[] };
  readonly response: ServerResponse;
  readonly client: { readonly socket: Socket; received: string; isClosed: boolean };
}

const DONE = 'data: [DONE]\n\n';

/** More than the buffers of a connection take: whoever does not read it holds the writer up. */
const HUGE = 'x'.repeat(64 * 2 ** 20);

/**
 * A stream to a client, over a connection. The client reads unless `isSilent`; a chunk is what
 * `say` makes of it.
 */
async function open(
  limits: Partial<StreamLimits>,
  { isSilent = false, say = () => '.' }: { isSilent?: boolean; say?: (chunk: number) => string },
): Promise<Opened> {
  const engine = new SyntheticEngine({ pace: 'by-hand' });
  const generation = generationOver(engine);
  const chunks: number[] = [];
  const recorded = { text: '', ends: [] as string[] };
  const format: ChunkFormat = {
    chunk: () => say(chunks.push(0)),
    opening: () => '',
    closing: () => `[closing]${DONE}`,
    failure: (_, error) => `data: ${JSON.stringify(error.body)}\n\n${DONE}`,
  };
  let answer: (response: ServerResponse) => void = () => {};
  const answered = new Promise<ServerResponse>((resolve) => {
    answer = resolve;
  });
  const server = createServer((_request: IncomingMessage, response) => {
    const all = { maxPendingTokens: 1000, stallSeconds: 3600, ...limits };
    const stream = new SseStream(response, generation, format, all, {
      sent: (sent) => {
        recorded.text += sent;
      },
      ended: (outcome) => recorded.ends.push(outcome),
    });
    stream.start({ 'X-Request-Id': 'abc' });
    answer(response);
  });
  servers.push(server);
  await new Promise<void>((go) => server.listen(0, '127.0.0.1', go));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  sockets.push(socket);
  const client = { socket, received: '', isClosed: false };
  socket.on('error', () => {});
  socket.on('close', () => {
    client.isClosed = true;
  });
  if (isSilent) socket.pause();
  else socket.on('data', (data) => (client.received += data));
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  return { engine, generation, chunks, recorded, response: await answered, client };
}

/** One step, and what follows from it. */
async function step(engine: SyntheticEngine): Promise<void> {
  engine.step();
  for (let turns = 0; turns < 3; turns++) await new Promise((go) => setImmediate(go));
}

/** Fills the connection of a client that does not read. */
async function block({ engine, generation }: Opened): Promise<void> {
  await until('its connection is full', async () => {
    await step(engine);
    return generation.pendingTokens > 0;
  });
}

describe('a client that does not read', () => {
  test('is kept up to as many tokens as are allowed, and cut off with one more', async () => {
    const opened = await open({ maxPendingTokens: 10 }, { isSilent: true, say: () => HUGE });
    const { engine, generation, recorded, response } = opened;
    await block(opened);
    while (generation.pendingTokens < 10 && !response.destroyed) await step(engine);
    expect([generation.pendingTokens, response.destroyed]).toEqual([10, false]);
    expect(engine.openIds).toHaveLength(2);
    expect(recorded.ends).toEqual([]);
    await step(engine);
    await until('it is cut off', () => engine.openIds.length === 0);
    expect(recorded.ends).toEqual(['cut']);
    expect(response.writableEnded).toBe(false);
  });

  test('is cut off after a while, though few tokens are pending', async () => {
    const opened = await open({ stallSeconds: 0.2 }, { isSilent: true, say: () => HUGE });
    await step(opened.engine);
    await until('it is cut off', () => opened.recorded.ends.length > 0, 20);
    expect(opened.recorded.ends).toEqual(['cut']);
    await until('nothing is computed for it', () => opened.engine.openIds.length === 0);
  });

  test('is cut off likewise where only the end is left unread', async () => {
    const opened = await open({ stallSeconds: 0.2 }, { isSilent: true, say: () => '.' });
    const { engine, generation, response } = opened;
    // Everything to the end in one write.
    response.write(HUGE);
    for (let steps = 0; steps < 99; steps++) engine.step();
    await step(engine);
    await until('all is written', () => generation.isSettled);
    await until('its connection is closed', () => response.destroyed, 20);
  });

  test('gets what came meanwhile in one chunk for each choice when it reads on', async () => {
    const say = (chunk: number) => (chunk === 1 ? HUGE : '.');
    const opened = await open({}, { isSilent: true, say });
    const { engine, generation, chunks, client } = opened;
    await step(engine);
    await until('its connection is full', async () => {
      await step(engine);
      return generation.pendingTokens >= 10;
    });
    const before = chunks.length;
    client.socket.on('data', () => {});
    client.socket.resume();
    await until('it has read all', () => generation.pendingTokens === 0);
    expect(chunks.length - before).toBe(2);
    // It is served as before.
    await step(engine);
    await until('the next is written', () => chunks.length - before === 4);
  });

  test('and then reads is not taken for one that never reads', async () => {
    const say = (chunk: number) => (chunk === 1 ? HUGE : '.');
    // Far more than it takes to begin to read on a busy machine.
    const limits = { stallSeconds: 3 };
    const reading = await open(limits, { isSilent: true, say });
    await step(reading.engine);
    reading.client.socket.on('data', () => {});
    reading.client.socket.resume();
    await until('it has read', () => reading.response.writableLength === 0);
    // The clock of this one starts later: when it is over, so is the other's, if it still runs.
    const silent = await open(limits, { isSilent: true, say: () => HUGE });
    await step(silent.engine);
    await until('the silent one is cut off', () => silent.recorded.ends.length > 0);
    expect(reading.recorded.ends).toEqual([]);
    expect(reading.engine.openIds).toHaveLength(2);
  });

  test('is told of an error all the same', async () => {
    const say = (chunk: number) => (chunk <= 2 ? HUGE : '.');
    const opened = await open({}, { isSilent: true, say });
    await block(opened);
    opened.generation.fail(new ApiError('engine_failed', 'the device was lost'));
    expect(opened.recorded.ends).toEqual(['failed']);
    expect(opened.recorded.text).toContain('the device was lost');
  });
});

describe('a stream', () => {
  test('has the headers of events, and records what it sends', async () => {
    const { engine, recorded, client } = await open({}, { say: (chunk) => `[${chunk}]` });
    await until('it is complete', async () => {
      await step(engine);
      return engine.openIds.length === 0;
    });
    await until('it is received', () => client.received.includes('[DONE]'));
    const [head, body] = client.received.split('\r\n\r\n') as [string, string];
    expect(head).toContain('X-Request-Id: abc');
    expect(head).toContain('Content-Type: text/event-stream; charset=utf-8');
    expect(head).toContain('Cache-Control: no-cache');
    expect(head).toContain('X-Accel-Buffering: no');
    expect(recorded.text.endsWith('[closing]data: [DONE]\n\n')).toBe(true);
    expect(recorded.ends).toEqual(['complete']);
    const sent = body.replace(/(^|\r\n)[0-9a-f]+\r\n/g, '').replace(/\r\n/g, '');
    expect(sent).toContain(recorded.text);
    expect(recorded.text).toMatch(/^\[1\]\[2\]\[3\]/);
  });

  test('ends once: nothing follows an error', async () => {
    const { engine, generation, recorded } = await open({}, {});
    await step(engine);
    generation.fail(new ApiError('engine_failed', 'lost'));
    const { text: sent } = recorded;
    generation.fail(new ApiError('engine_failed', 'again'));
    await step(engine);
    expect(recorded.text).toBe(sent);
    expect(sent).toMatch(/"code":"engine_failed"\}\}\n\ndata: \[DONE\]\n\n$/);
    expect(recorded.ends).toEqual(['failed']);
  });

  test('of which one choice failed ends, and nothing is computed for the other', async () => {
    const { engine, recorded } = await open({}, {});
    await step(engine);
    engine.cancel(engine.openIds[0]!);
    await until('it ends', () => recorded.ends.length > 0);
    expect(recorded.ends).toEqual(['failed']);
    await until('nothing is computed for it', () => engine.openIds.length === 0);
  });

  test('whose client leaves is cut, and costs nothing more', async () => {
    const { engine, recorded, client, generation } = await open({}, {});
    await step(engine);
    client.socket.destroy();
    await until('it is noticed', () => recorded.ends.length > 0);
    expect(recorded.ends).toEqual(['cut']);
    await until('nothing is computed for it', () => engine.openIds.length === 0);
    await generation.settled;
    expect(recorded.ends).toEqual(['cut']);
  });

  test('writes nothing where its format has nothing to say', async () => {
    const { engine, recorded, chunks } = await open({}, { say: () => '' });
    await step(engine);
    expect(chunks).toHaveLength(2);
    expect(recorded.text).toBe('');
  });
});
