import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { GREEDY } from '@bridgekeeper/engine';
import { beforeAll, describe, expect, test } from 'vitest';
import { SyntheticEngine } from '../engine/synthetic-engine.ts';
import { HOST_CLOCK } from '../host-clock.ts';
import { ApiError } from '../http/errors.ts';
import { Lifecycle } from '../http/lifecycle.ts';
import { SETTINGS } from '../settings/table.ts';
import { until } from '../testing/until.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { collect } from './collect.ts';
import { Generation } from './generation.ts';
import { WakeQueue } from './wake-queue.ts';

let text: ModelText;
beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
});

/** Two choices of two tokens over an engine that steps by hand, with logprobs. */
function make() {
  const engine = new SyntheticEngine({ pace: 'by-hand' });
  const options = {
    stop: [],
    includeStop: false,
    skipSpecialTokens: true,
    echoText: '',
    echoLogprobs: false,
    hideOutput: false,
    tokenIds: false,
  };
  const sampling = { ...GREEDY, maxTokens: 2, logprobs: 0 };
  const generation = new Generation(
    {
      requestId: 'x',
      arrivedNs: 0,
      choicesPerPrompt: 2,
      requests: ['a', 'b'].map((id) => ({
        request: { id, tenant: 't', promptTokens: Uint32Array.of(600, 700), sampling },
        options,
      })),
    },
    {
      engine,
      text,
      wakes: new WakeQueue(HOST_CLOCK),
      observer: { tokens: () => {}, finished: () => {} },
      clock: HOST_CLOCK,
      lifecycle: new Lifecycle(),
    },
  );
  return { engine, generation };
}

/** A client's connection, with the response that waits for its answer. */
async function connection() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const requested = once(server, 'request');
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  const [, response] = (await requested) as [unknown, ServerResponse];
  server.close();
  return { socket, response };
}

async function finish({ engine }: ReturnType<typeof make>) {
  engine.step();
  // Each token is heard by itself.
  await new Promise((go) => setImmediate(go));
  engine.step();
}

describe('an answer in one piece', () => {
  test('is put together from what comes, and lets go of the connection', async () => {
    const made = make();
    const { socket, response } = await connection();
    const before = response.listenerCount('close');
    const whole = collect(made.generation, response);
    await finish(made);
    const choices = (await whole)!;
    const said = text.tokenizer.decode([600, 700], false);
    expect(choices.map(({ index, text: each }) => [index, each.trim()])).toEqual([
      [0, said.trim()],
      [1, said.trim()],
    ]);
    for (const { logprobs, finish: end } of choices) {
      expect(logprobs.map(({ token }) => token)).toEqual([600, 700]);
      expect(end).toEqual({ reason: 'length', stopReason: null });
    }
    expect(response.listenerCount('close')).toBe(before);
    socket.destroy();
  });

  test('is nothing to a client that leaves, and nothing more is computed for it', async () => {
    const { engine, generation } = make();
    const { socket, response } = await connection();
    const whole = collect(generation, response);
    engine.step();
    expect(engine.openIds).toHaveLength(2);
    socket.destroy();
    expect(await whole).toBeUndefined();
    expect(engine.openIds).toEqual([]);
    expect(generation.choices.map(({ outcome }) => outcome?.reason)).toEqual(['abort', 'abort']);
  });

  test('is nothing to a client that had left before', async () => {
    const { engine, generation } = make();
    const { socket, response } = await connection();
    socket.destroy();
    await until('it is noticed', () => response.destroyed);
    expect(await collect(generation, response)).toBeUndefined();
    expect(engine.openIds).toEqual([]);
  });

  test('goes by the client that left, whatever else went wrong', async () => {
    const { generation } = make();
    const { socket, response } = await connection();
    const whole = collect(generation, response);
    response.once('close', () => generation.fail(new ApiError('engine_failed', 'lost')));
    socket.destroy();
    expect(await whole).toBeUndefined();
  });

  test('needs no connection', async () => {
    const made = make();
    const whole = collect(made.generation, undefined);
    await finish(made);
    expect(await whole).toHaveLength(2);
  });

  test('is an error where the engine fails', async () => {
    const { generation } = make();
    const { socket, response } = await connection();
    const before = response.listenerCount('close');
    const whole = collect(generation, response);
    generation.fail(new ApiError('engine_failed', 'lost'));
    await expect(whole).rejects.toMatchObject({ code: 'engine_failed', message: 'lost' });
    expect(response.listenerCount('close')).toBe(before);
    socket.destroy();
  });
});
