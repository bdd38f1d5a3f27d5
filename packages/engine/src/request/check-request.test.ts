import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import { engineOptions, generate, request, withEngine } from '../testing/run.ts';
import { checkRequest } from './check-request.ts';
import { type EngineCard, EngineError } from './request.ts';

function options(maxModelTokens: number) {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: null });
  return engineOptions(device, { dummy: true, maxModelTokens });
}

const refusal = (check: () => void): EngineError => {
  try {
    check();
  } catch (error) {
    if (error instanceof EngineError) return error;
  }
  throw new Error('it was let in');
};

const card = {
  task: 'generate',
  vocabularySize: 10,
  maxModelTokens: 4,
  maxRows: 2,
  maxWaiting: 1,
} as EngineCard;
const open = (...ids: string[]) => new Map(ids.map((id) => [id, undefined]));

describe('a request', () => {
  const check = (tokens: number[], ids: string[] = [], sampling = {}) =>
    checkRequest(request('r', tokens, sampling), card, open(...ids));

  it('is let in up to each limit', () => {
    check([0, 9, 1]);
    check([1], ['a', 'b']);
  });

  it('has an id of its own among those in flight', () => {
    const { code, parameter, message } = refusal(() => check([1], ['r']));
    expect([code, parameter]).toEqual(['bad-request', 'request_id']);
    expect(message).toBe('a request with this id is in flight');
  });

  it('has a prompt that leaves room for one token', () => {
    const none = refusal(() => check([]));
    expect(none).toMatchObject({ code: 'bad-request', parameter: 'prompt' });
    expect(none.message).toBe('the prompt has no tokens');
    const long = refusal(() => check([1, 1, 1, 1]));
    expect(long).toMatchObject({ code: 'prompt-too-long', parameter: 'prompt' });
    expect(long.message).toContain('context length is 4 tokens. However, your prompt has 4');
  });

  it('has tokens of the vocabulary, every one', () => {
    const outside = refusal(() => check([1, 10, 1]));
    expect(outside).toMatchObject({ code: 'bad-request', parameter: 'prompt' });
    expect(outside.message).toBe('the prompt has token ids outside the vocabulary (0 to 9)');
  });

  it('has sampling parameters within their ranges and the vocabulary', () => {
    expect(refusal(() => check([1], [], { topP: 2 })).parameter).toBe('top_p');
    expect(refusal(() => check([1], [], { stopTokenIds: [10] })).parameter).toBe('stop_token_ids');
  });

  it('finds the queue full with as many in flight as rows and queue hold', () => {
    const { code, message } = refusal(() => check([1], ['a', 'b', 'c']));
    expect(code).toBe('queue-full');
    expect(message).toBe('3 requests are in flight, the most this server takes: try again later');
  });
});

describe('the engine', () => {
  it('ends a request where the context ends, however many tokens were asked for', async () => {
    const outcomes = await withEngine(options(40), (engine) =>
      Promise.all(
        [1, 10, 39].map((length) => {
          const prompt = Array.from({ length }, () => 5);
          return generate(engine, request(`r${length}`, prompt, { maxTokens: 100_000 }));
        }),
      ),
    );
    expect(outcomes.map(({ tokens }) => tokens.length)).toEqual([39, 30, 1]);
    expect(outcomes.map(({ finish }) => finish.reason)).toEqual(['length', 'length', 'length']);
  });

  it('gives as many tokens as were asked for where the context has room', async () => {
    const short = request('r', [5, 5], { maxTokens: 38 });
    const { tokens } = await withEngine(options(40), (engine) => generate(engine, short));
    expect(tokens).toHaveLength(38);
  });

  it('refuses what it checks, and everything once it shuts down', async () => {
    await withEngine(options(40), async (engine) => {
      const submit = (id: string, prompt: number[]) => engine.submit(request(id, prompt), () => {});
      expect(refusal(() => submit('a', [])).parameter).toBe('prompt');
      submit('a', [5]);
      expect(refusal(() => submit('a', [5])).parameter).toBe('request_id');
      const stopped = engine.shutdown(0);
      expect(refusal(() => submit('b', [5])).code).toBe('shutting-down');
      await stopped;
    });
  });
});
