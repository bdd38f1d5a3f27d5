import { EngineError } from '@bridgekeeper/engine';
import { describe, expect, test } from 'vitest';
import type { ApiError } from './errors.ts';
import { Lifecycle } from './lifecycle.ts';

/** An open answer that remembers how it was ended. */
function openAnswer() {
  const errors: ApiError[] = [];
  let settle = () => {};
  const settled = new Promise<void>((resolve) => {
    settle = resolve;
  });
  return { settled, fail: (error: ApiError) => errors.push(error), errors, settle: () => settle() };
}

const DIED = new EngineError('engine-failed', 'the device was lost');

describe('a server', () => {
  test('takes work until it is stopped', () => {
    const lifecycle = new Lifecycle();
    expect(lifecycle.health).toBe('ready');
    lifecycle.requireReady();
    expect(lifecycle.blame('why')).toMatchObject({ code: 'engine_failed', message: 'why' });
    lifecycle.stop();
    expect(lifecycle.health).toBe('stopping');
    expect(() => lifecycle.requireReady()).toThrow('The server is shutting down.');
    expect(() => lifecycle.requireReady()).toThrow(
      expect.objectContaining({ code: 'shutting_down' }),
    );
    expect(lifecycle.blame('why')).toMatchObject({
      code: 'shutting_down',
      message: 'The server shut down before this was finished.',
    });
  });

  test('forgets an answer that has ended, and ends the others with itself', async () => {
    const lifecycle = new Lifecycle();
    const [done, left] = [openAnswer(), openAnswer()];
    lifecycle.track(done);
    lifecycle.track(left);
    expect(lifecycle.openAnswers).toBe(2);
    done.settle();
    await done.settled;
    expect(lifecycle.openAnswers).toBe(1);
    lifecycle.endOpen();
    expect(done.errors).toEqual([]);
    expect(left.errors.map(({ code }) => code)).toEqual(['shutting_down']);
  });

  test('whose engine died has failed, for open answers and new ones, and stays so', () => {
    const lifecycle = new Lifecycle();
    const answer = openAnswer();
    lifecycle.track(answer);
    lifecycle.fail(DIED);
    lifecycle.fail(new EngineError('engine-failed', 'another reason'));
    lifecycle.stop();
    expect(lifecycle.health).toBe('failed');
    expect(answer.errors[0]).toMatchObject({ code: 'engine_failed', message: DIED.message });
    expect(() => lifecycle.requireReady()).toThrow(DIED.message);
  });

  test('whose engine is started again takes nothing meanwhile, and says why', () => {
    let restarting: { reason: string; retryAfterSeconds: number } | null = null;
    let isAsleep = false;
    const lifecycle = new Lifecycle({ isAsleep: () => isAsleep, restarting: () => restarting });
    expect(lifecycle.trouble).toBeNull();
    restarting = { reason: 'the device was lost', retryAfterSeconds: 12 };
    expect([lifecycle.health, lifecycle.trouble]).toEqual(['restarting', restarting]);
    const thrown = { code: 'engine_restarting', status: 503, headers: { 'Retry-After': '12' } };
    expect(() => lifecycle.requireReady()).toThrow(expect.objectContaining(thrown));
    // One that was asleep is refused as asleep, by the engine.
    isAsleep = true;
    lifecycle.requireReady();
    lifecycle.stop();
    expect([lifecycle.health, lifecycle.trouble?.reason]).toEqual([
      'stopping',
      'the server is shutting down',
    ]);
    lifecycle.fail(DIED);
    expect([lifecycle.health, lifecycle.trouble?.reason]).toEqual(['failed', DIED.message]);
  });
});
