import {
  type EngineCard,
  EngineError,
  type EngineStats,
  type GenerationEvent,
  GREEDY,
} from '@bridgekeeper/engine';
import { describe, expect, test } from 'vitest';
import { HandClock } from '../testing/hand-clock.ts';
import { until } from '../testing/until.ts';
import type { EngineChannel } from './engine-channel.ts';
import type { FromEngine, ToEngine } from './messages.ts';
import { RestartingEngine, type RestartPolicy } from './restarting-engine.ts';
import { SyntheticEngine } from './synthetic-engine.ts';
import { ThreadedEngine } from './threaded-engine.ts';

const TIMING = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
const RESTORED = { what: 'restored', from: 'host', tokens: 16 } as const;
const CROSSED = { purpose: 'tokens', direction: 'd2h', crossings: 1, bytes: 4 } as const;

/** An engine elsewhere, told by hand what to say. */
class HandEngine implements EngineChannel {
  readonly heard: ToEngine[] = [];
  readonly #listeners = new Map<string, ((value: never) => void)[]>();
  isEnded = false;
  /** It does nothing that it is told, and may not even end when it is ended. */
  hangs: 'no' | 'until ended' | 'for ever' = 'no';

  postMessage(message: ToEngine): void {
    this.heard.push(message);
    const { stats } = this;
    if (message.kind === 'shutdown' && this.hangs === 'no') this.terminate();
    if (message.kind !== 'sleep' && message.kind !== 'wake-up') return;
    const isAsleep = message.kind === 'sleep';
    this.say({ kind: 'rested', number: message.number, refusal: null, isAsleep, stats });
  }

  on(event: string, listener: (value: never) => void): void {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  terminate(): void {
    if (this.hangs === 'for ever') return;
    if (!this.isEnded) this.#emit('exit', 1);
    this.isEnded = true;
  }

  get stats(): EngineStats {
    return new SyntheticEngine().stats();
  }

  say(message: FromEngine): void {
    this.#emit('message', message);
  }

  /** Tokens for a request. */
  bring(id: string, tokens: readonly number[], finish?: GenerationEvent['finish']): void {
    const event = { id, tokens, ...(finish === undefined ? {} : { finish }) };
    this.say({ kind: 'events', events: [event], stats: undefined });
  }

  /** As an engine whose device failed does: each open request ends, and then it says why. */
  fail(ids: readonly string[]): void {
    for (const id of ids) {
      const finish = { reason: 'error', message: 'the engine failed', cachedTokens: 0 } as const;
      this.bring(id, [], {
        ...finish,
        timing: TIMING,
        isLost: true,
        crossings: [CROSSED],
        kv: [RESTORED],
      });
    }
    this.say({
      kind: 'failed',
      code: 'engine-failed',
      message: 'lost the device',
      cause: 'device',
    });
    this.terminate();
  }

  get submitted() {
    return this.heard.flatMap((each) => (each.kind === 'submit' ? [each.request] : []));
  }

  #emit(event: string, value: unknown): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(value as never);
  }
}

const CONTINUE: RestartPolicy = { restarts: 2, windowSeconds: 600, requests: 'continue' };

interface Started {
  readonly engine: RestartingEngine;
  /** All that were started, the first one first. */
  readonly engines: HandEngine[];
  readonly log: string[];
  /** What the next starts fail with. */
  readonly refusals: Error[];
  /** Holds starts back until it is called. */
  hold(): () => void;
  readonly cards: Partial<EngineCard>[];
}

function start(policy: RestartPolicy = CONTINUE, clock = new HandClock()): Started {
  const { card } = new SyntheticEngine({ card: { maxRows: 4, maxWaiting: 4 } });
  const first = new HandEngine();
  const engines = [first];
  const refusals: Error[] = [];
  const cards: Partial<EngineCard>[] = [];
  const log: string[] = [];
  const note = (...words: unknown[]) => void log.push(String(words.at(-1)));
  let held = Promise.resolve();
  const engine = new RestartingEngine({
    first: new ThreadedEngine(first, card, first.stats),
    startAgain: async (signal) => {
      await held;
      if (signal.aborted) throw new EngineError('engine-failed', 'the start was given up');
      const refusal = refusals.shift();
      if (refusal !== undefined) throw refusal;
      const next = new HandEngine();
      engines.push(next);
      return new ThreadedEngine(next, { ...card, ...cards.shift() }, next.stats);
    },
    policy,
    seed: 7,
    clock,
    log: { info: note, warn: note, error: note } as never,
  });
  const hold = () => {
    let release = () => {};
    held = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  };
  return { engine, engines, log, refusals, hold, cards };
}

function submit(engine: RestartingEngine, id: string, sampling = {}): GenerationEvent[] {
  const events: GenerationEvent[] = [];
  const request = { id, tenant: 't', promptTokens: Uint32Array.of(5), sampling: GREEDY };
  const own = { ...GREEDY, seed: undefined, ...sampling };
  engine.submit({ ...request, sampling: own }, (event) => events.push(event));
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

const DONE = { reason: 'stop', cachedTokens: 0, timing: TIMING } as const;
const failedWith = (events: readonly GenerationEvent[]) => events.at(-1)?.finish?.message;

/** Does what is to be done later when it is told to. */
class LaterClock extends HandClock {
  readonly waits: { readonly seconds: number; readonly action: () => void }[] = [];

  override after(seconds: number, action: () => void): () => void {
    this.waits.push({ seconds, action });
    return () => {};
  }
}

describe('an engine that failed', () => {
  test('is started again, and each request goes on, with its tokens and its seed', async () => {
    const { engine, engines } = start();
    const [begun, waiting] = [submit(engine, 'a'), submit(engine, 'b', { maxTokens: 3 })];
    engines[0]!.bring('a', [11, 12]);
    engines[0]!.fail(['a', 'b']);
    await until('it runs again', () => engine.restarts.count === 1);
    // Nobody heard of it.
    expect(begun.map(({ tokens }) => tokens)).toEqual([[11, 12]]);
    expect(waiting).toEqual([]);
    const [before, again] = [engines[0]!.submitted, engines[1]!.submitted];
    expect(again.map(({ id, priorTokens }) => [id, priorTokens && [...priorTokens]])).toEqual([
      ['a', [11, 12]],
      ['b', undefined],
    ]);
    const seeds = before.map(({ sampling }) => sampling.seed);
    expect(again.map(({ sampling }) => sampling.seed)).toEqual(seeds);
    expect(new Set(seeds).size).toBe(2);
    engines[1]!.bring('a', [13], { ...DONE, crossings: [CROSSED], kv: [RESTORED] });
    expect(begun.at(-1)).toEqual({
      id: 'a',
      tokens: [13],
      finish: {
        ...DONE,
        crossings: [CROSSED, CROSSED],
        kv: [{ ...RESTORED, tokens: 32 }],
        isResumed: true,
      },
    });
    expect(engine.restarts).toMatchObject({
      count: 1,
      resumed: 2,
      failures: { device: 1, thread: 0 },
      last: { cause: 'device', message: 'lost the device' },
    });
    expect(engine.restarts.last?.outageSeconds).toBeGreaterThan(0);
  });

  test('a second time ends the requests that were part of both, and no others', async () => {
    const { engine, engines } = start();
    const both = submit(engine, 'a');
    engines[0]!.fail(['a']);
    await until('it runs again', () => engine.restarts.count === 1);
    const one = submit(engine, 'b');
    engines[1]!.fail(['a', 'b']);
    await until('it runs again', () => engine.restarts.count === 2);
    expect(failedWith(both)).toBe('the engine failed');
    expect(both).toHaveLength(1);
    expect(both[0]?.finish).not.toHaveProperty('isLost');
    expect(one).toEqual([]);
    expect(engines[2]!.submitted.map(({ id }) => id)).toEqual(['b']);
  });

  test.each([
    ['fail', [true, true]],
    ['retry', [true, false]],
    ['continue', [false, false]],
  ] as const)('under %s ends what has begun, and what has not: %o', async (requests, ended) => {
    const { engine, engines } = start({ ...CONTINUE, requests });
    const [begun, waiting] = [submit(engine, 'a'), submit(engine, 'b')];
    engines[0]!.bring('a', [11]);
    engines[0]!.fail(['a', 'b']);
    expect([begun, waiting].map((events) => failedWith(events) !== undefined)).toEqual(ended);
    await until('it runs again', () => engine.restarts.count === 1);
    expect(engines[1]!.submitted).toHaveLength(ended.filter((each) => !each).length);
  });

  test('ends what has sent tokens and owes logprobs of its prompt', async () => {
    const { engine, engines } = start();
    const events = submit(engine, 'a', { promptLogprobs: 1 });
    engines[0]!.bring('a', [11]);
    engines[0]!.fail(['a']);
    expect(failedWith(events)).toBe('the engine failed');
    await until('it runs again', () => engine.restarts.count === 1);
  });

  test('takes nothing while it is started again; who leaves meanwhile is gone', async () => {
    const { engine, engines, hold } = start();
    const release = hold();
    const [left, stays] = [submit(engine, 'a'), submit(engine, 'b')];
    engines[0]!.fail(['a', 'b']);
    await until('it is started', () => engine.restarting !== null);
    expect(codeOf(() => submit(engine, 'c'))).toBe('restarting');
    expect(engine.restarting).toMatchObject({ reason: expect.stringContaining('lost the device') });
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 2, kvUsage: 0 });
    engine.cancel('a');
    expect(left.at(-1)?.finish?.reason).toBe('cancelled');
    await expect(engine.sleep({ level: 1, mode: 'abort', keepsKv: false })).rejects.toMatchObject({
      code: 'restarting',
    });
    release();
    await until('it runs again', () => engine.restarting === null);
    expect(engines[1]!.submitted.map(({ id }) => id)).toEqual(['b']);
    expect(stays).toEqual([]);
    expect(codeOf(() => submit(engine, 'c'))).toBe('none');
  });

  test('has answered who left before it failed, and the next one is not given that', async () => {
    const { engine, engines } = start();
    const [left, stays] = [submit(engine, 'a'), submit(engine, 'b')];
    // It hangs: nothing is heard of what it is told.
    engine.cancel('a');
    expect(left).toEqual([]);
    engines[0]!.fail(['a', 'b']);
    expect(left.at(-1)?.finish).toMatchObject({ reason: 'cancelled', crossings: [CROSSED] });
    await until('it runs again', () => engines.length === 2 && engine.restarting === null);
    expect(engines[1]!.submitted.map(({ id }) => id)).toEqual(['b']);
    expect(stays).toEqual([]);
  });

  test('and does not start is tried as often as the budget lets, and has failed', async () => {
    const { engine, engines, refusals, log } = start();
    refusals.push(new EngineError('out-of-memory', 'no room'), new Error('no folder'));
    const events = submit(engine, 'a');
    engines[0]!.fail(['a']);
    const error = await engine.failed;
    expect(error.message).toBe(
      'no folder; the engine is not started again: it was started 2 times within 600 s ' +
        '(--engine-restarts 2)',
    );
    expect(failedWith(events)).toBe('the engine failed');
    expect(engine.restarts).toMatchObject({ count: 0, failures: { device: 2, other: 1 } });
    expect(log.join('\n')).toContain('could not be started again: no room');
    expect(codeOf(() => submit(engine, 'b'))).toBe('engine-failed');
    await engine.shutdown(0);
  });

  test('is not started again where the budget is none, or its model is not the same', async () => {
    const none = start({ ...CONTINUE, restarts: 0 });
    const events = submit(none.engine, 'a');
    none.engines[0]!.fail(['a']);
    expect((await none.engine.failed).message).toContain('--engine-restarts is 0');
    expect(failedWith(events)).toBe('the engine failed');

    const other = start();
    other.engine.checkBefore(async () => {
      throw new Error('these are other files');
    });
    const held = submit(other.engine, 'a');
    other.engines[0]!.fail(['a']);
    expect((await other.engine.failed).message).toContain('these are other files');
    expect(failedWith(held)).toBe('the engine failed');
    expect(other.engines).toHaveLength(1);
  });

  test('that comes up as another one is ended, and counts as not started', async () => {
    const { engine, engines, cards } = start();
    cards.push({ sealRoot: 'f'.repeat(64) });
    engines[0]!.fail([]);
    await until('a second start', () => engine.restarts.count === 1);
    expect(engines).toHaveLength(3);
    expect(engines[1]!.isEnded).toBe(true);
    expect(engine.restarts.failures).toMatchObject({ device: 1, model: 1 });
  });

  test('rests as it did, and is watched as it was', async () => {
    const { engine, engines } = start();
    const batches: unknown[] = [];
    const stop = engine.watch((batch) => batches.push(batch));
    const rest = { level: 2, mode: 'wait', keepsKv: false } as const;
    await engine.sleep(rest);
    engines[0]!.fail([]);
    await until('it is started', () => engine.restarts.count === 1);
    const [sleep, watch] = engines[1]!.heard;
    expect(sleep).toMatchObject({ kind: 'sleep', request: { ...rest, mode: 'abort' } });
    expect(watch).toEqual({ kind: 'watch', on: true });
    expect([engine.isAsleep, codeOf(() => submit(engine, 'a'))]).toEqual([true, 'asleep']);
    engines[1]!.say({ kind: 'live', batch: 1 as never, stats: engines[1]!.stats });
    stop();
    expect(batches).toEqual([1]);
    await engine.wakeUp();
    expect(engine.isAsleep).toBe(false);
  });

  test('and is being started when the server stops ends with it', async () => {
    const { engine, engines, hold } = start();
    const release = hold();
    const events = submit(engine, 'a');
    engines[0]!.fail(['a']);
    await until('it is started', () => engine.restarting !== null);
    const stopped = engine.shutdown(1000);
    release();
    await stopped;
    expect(failedWith(events)).toBe('the engine shut down before this request was done');
    expect(engines).toHaveLength(1);
    expect(codeOf(() => submit(engine, 'b'))).toBe('engine-failed');
  });

  test('or whose thread just ended is one that failed', async () => {
    const { engine, engines } = start();
    submit(engine, 'a');
    engines[0]!.terminate();
    await until('it runs again', () => engine.restarts.count === 1);
    expect(engine.restarts.failures.thread).toBe(1);
    expect(engines[1]!.submitted).toHaveLength(1);
  });

  test('one that hangs does not keep a server that stops', async () => {
    for (const hangs of ['until ended', 'for ever'] as const) {
      const clock = new LaterClock();
      const { engine, engines, log } = start(CONTINUE, clock);
      engines[0]!.hangs = hangs;
      const events = submit(engine, 'a');
      const stopped = engine.shutdown(5000);
      clock.waits[0]!.action();
      clock.waits[1]!.action();
      await stopped;
      expect(clock.waits.map(({ seconds }) => seconds)).toEqual([15, 10]);
      expect(log.at(-1)).toContain('does not end');
      expect(failedWith(events)).toBe(hangs === 'for ever' ? undefined : 'the engine failed');
      expect(codeOf(() => submit(engine, 'b'))).toBe('engine-failed');
    }
  });
});
