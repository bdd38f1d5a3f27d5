import { Worker } from 'node:worker_threads';
import { type EngineError, type GenerationEvent, GREEDY } from '@bridgekeeper/engine';
import { afterEach, describe, expect, test } from 'vitest';
import { until } from '../testing/until.ts';
import { SyntheticEngine } from './synthetic-engine.ts';
import { ThreadedEngine } from './threaded-engine.ts';

/**
 * The other side of the thread. A request's first token says what becomes of it: 1 to 3 end the
 * thread in the three ways there are, any other brings that token and waits to be cancelled.
 */
const THREAD = `
  const { parentPort: port } = require('node:worker_threads');
  const stats = ${JSON.stringify(new SyntheticEngine().stats())};
  const timing = { queuedNs: 1, prefillNs: 2, decodeNs: 3, preemptions: 4 };
  let cancels = 0;
  const send = (events, more) => port.postMessage({ kind: 'events', events, stats: more });
  port.postMessage({ kind: 'ready' });
  port.on('message', (message) => {
    if (message.kind === 'submit') {
      const { id, promptTokens: [first] } = message.request;
      if (first === 1) throw new Error('lost its memory');
      if (first === 2) process.exit(7);
      const lost = { kind: 'failed', message: 'the device was lost', cause: 'device' };
      if (first === 3) port.postMessage(lost);
      else send([{ id, tokens: [first] }, { id: 'unknown', tokens: [9] }]);
    } else if (message.kind === 'cancel') {
      cancels += 1;
      const finish = { reason: 'cancelled', cachedTokens: 0, timing };
      send([{ id: message.id, tokens: [], finish }], { ...stats, steps: cancels });
    } else {
      port.postMessage({ kind: 'ended' });
      port.close();
    }
  });
`;

const workers: Worker[] = [];
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
});

function start(): ThreadedEngine {
  const worker = new Worker(THREAD, { eval: true });
  workers.push(worker);
  const { card } = new SyntheticEngine({ card: { maxRows: 1, maxWaiting: 1 } });
  return new ThreadedEngine(worker, card, new SyntheticEngine().stats());
}

/** Submits a request; what it brings comes into the list that is returned. */
function submit(engine: ThreadedEngine, id: string, first = 5): GenerationEvent[] {
  const events: GenerationEvent[] = [];
  const promptTokens = Uint32Array.of(first);
  const request = { id, tenant: 't', promptTokens, sampling: GREEDY };
  engine.submit(request, (event) => events.push(event));
  return events;
}

const codeOf = (action: () => void): string => {
  try {
    action();
  } catch (error) {
    return (error as EngineError).code;
  }
  return 'none';
};

describe('an engine in a thread', () => {
  test('hands each request its events, and forgets it with the last', async () => {
    const engine = start();
    const [a, b] = [submit(engine, 'a', 5), submit(engine, 'b', 6)];
    await until('both have tokens', () => a.length === 1 && b.length === 1);
    expect([a[0]?.tokens, b[0]?.tokens]).toEqual([[5], [6]]);
    // The queue is full, and the id taken, until one ends.
    expect(codeOf(() => submit(engine, 'c'))).toBe('queue-full');
    expect(codeOf(() => submit(engine, 'a'))).toBe('bad-request');
    engine.cancel('a');
    await until('it ends', () => a.at(-1)?.finish !== undefined);
    expect(a.at(-1)?.finish?.reason).toBe('cancelled');
    const again = submit(engine, 'a', 7);
    await until('it has tokens', () => again.length === 1);
    expect(a).toHaveLength(2);
  });

  test('knows the stats that came last, and keeps them where none come', async () => {
    const engine = start();
    expect(engine.stats().steps).toBe(0);
    const events = submit(engine, 'a');
    engine.cancel('nobody');
    engine.cancel('a');
    await until('it ends', () => events.length === 2);
    // Only what is in flight is cancelled.
    expect(engine.stats().steps).toBe(1);
    const more = submit(engine, 'b');
    await until('it has tokens', () => more.length === 1);
    expect(engine.stats().steps).toBe(1);
  });

  test.each([
    [1, 'the engine thread failed: lost its memory'],
    [2, 'the engine thread ended with code 7'],
    [3, 'the device was lost'],
  ])('that dies (%i) fails what is open once, and says why', async (first, message) => {
    const engine = start();
    const open = submit(engine, 'a');
    await until('it has tokens', () => open.length === 1);
    const last = submit(engine, 'b', first);
    const error = await engine.failed;
    expect(error).toMatchObject({ code: 'engine-failed', message });
    const none = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
    const finish = {
      reason: 'error',
      message: 'the engine failed',
      cachedTokens: 0,
      timing: none,
      isLost: true,
    };
    expect(open.slice(1)).toEqual([{ id: 'a', tokens: [], finish }]);
    expect(last).toEqual([{ id: 'b', tokens: [], finish }]);
    expect(codeOf(() => submit(engine, 'c'))).toBe('engine-failed');
    // Also where the thread itself goes on: nothing of the server waits for it for ever.
    await engine.shutdown(0);
    expect(last).toHaveLength(1);
  });

  test('that is shut down takes nothing more and has not failed', async () => {
    const engine = start();
    let hasFailed = false;
    void engine.failed.then(() => {
      hasFailed = true;
    });
    const stopped = engine.shutdown(0);
    expect(codeOf(() => submit(engine, 'a'))).toBe('shutting-down');
    await Promise.all([stopped, engine.shutdown(0)]);
    await new Promise((go) => setImmediate(go));
    expect(hasFailed).toBe(false);
  });
});
