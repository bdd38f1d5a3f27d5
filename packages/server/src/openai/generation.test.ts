import { type GenerationEvent, type GenerationRequest, GREEDY } from '@bridgekeeper/engine';
import { beforeAll, describe, expect, test } from 'vitest';
import { SyntheticEngine, type SyntheticEngineOptions } from '../engine/synthetic-engine.ts';
import { HOST_CLOCK } from '../host-clock.ts';
import { ApiError } from '../http/errors.ts';
import { Lifecycle } from '../http/lifecycle.ts';
import { SETTINGS } from '../settings/table.ts';
import { until } from '../testing/until.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import type { Choice } from './choice.ts';
import { collect } from './collect.ts';
import { Generation } from './generation.ts';
import { WakeQueue } from './wake-queue.ts';

let text: ModelText;
beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
});

const TIMING = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
const OPTIONS = {
  stop: [],
  includeStop: false,
  skipSpecialTokens: true,
  echoText: '',
  echoLogprobs: false,
  hideOutput: false,
  tokenIds: false,
};

/** Four choices, two for each of two prompts of 3 and 5 tokens, on an engine stepped by hand. */
function make(options: SyntheticEngineOptions = {}) {
  const engine = new SyntheticEngine({ pace: 'by-hand', ...options });
  let nowNs = 1000;
  const clock = { nowNs: () => nowNs, sleepUntilNs: HOST_CLOCK.sleepUntilNs };
  const tokens: (readonly [choice: number, count: number, gapNs: number, first: boolean])[] = [];
  const finished: (readonly [choice: number, reason: string | undefined, elapsedNs: number])[] = [];
  const requests = [3, 3, 5, 5].map((length, index): GenerationRequest => {
    const promptTokens = Uint32Array.from({ length }, (_, at) => 500 + at);
    return { id: `r${index}`, tenant: 't', promptTokens, sampling: { ...GREEDY, maxTokens: 2 } };
  });
  const generation = new Generation(
    {
      requestId: 'x',
      arrivedNs: 100,
      choicesPerPrompt: 2,
      requests: requests.map((request) => ({ request, options: OPTIONS })),
    },
    {
      engine,
      text,
      wakes: new WakeQueue(HOST_CLOCK),
      observer: {
        tokens: ({ index }: Choice, ...rest) => tokens.push([index, ...rest]),
        finished: ({ index, outcome }, ns) => finished.push([index, outcome?.reason, ns]),
      },
      clock,
      lifecycle: new Lifecycle(),
    },
  );
  const advance = (ns: number) => {
    nowNs += ns;
  };
  return { engine, generation, tokens, finished, advance };
}

/** Puts an event of the engine's into a choice, as the engine would. */
const hear = (generation: Generation, at: number, event: Omit<GenerationEvent, 'id'>) => {
  const choice = generation.choices[at]!;
  choice.receive({ id: choice.request.id, ...event }, 0);
  generation.take(choice);
};

describe('an answer', () => {
  test('tells the observer of gaps between tokens, the first since the request arrived', () => {
    const { engine, generation, tokens, finished, advance } = make();
    generation.start({ wake: () => {} });
    engine.step();
    advance(50);
    engine.step();
    expect(tokens.slice(0, 4)).toEqual([0, 1, 2, 3].map((index) => [index, 1, 900, true]));
    expect(tokens.slice(4)).toEqual([0, 1, 2, 3].map((index) => [index, 1, 50, false]));
    expect(finished).toEqual([]);
    advance(7);
    for (const choice of generation.choices) generation.take(choice);
    expect(finished).toEqual([0, 1, 2, 3].map((index) => [index, 'length', 957]));
    expect(generation.isSettled).toBe(true);
  });

  test('is settled when its last choice is', async () => {
    const { engine, generation } = make();
    generation.start({ wake: () => {} });
    engine.step();
    engine.step();
    for (const choice of generation.choices) {
      expect(generation.isSettled).toBe(false);
      generation.take(choice);
      // Taking what is done again counts nothing twice.
      generation.take(choice);
    }
    expect(generation.isSettled).toBe(true);
    await generation.settled;
  });

  test('counts each prompt once, and every token that was generated', () => {
    const { engine, generation } = make();
    generation.start({ wake: () => {} });
    engine.step();
    engine.step();
    expect(generation.pendingTokens).toBe(8);
    for (const choice of generation.choices) generation.take(choice);
    expect(generation.pendingTokens).toBe(0);
    expect(generation.usage()).toEqual({
      prompt_tokens: 8,
      total_tokens: 16,
      completion_tokens: 8,
      prompt_tokens_details: { cached_tokens: 0 },
    });
  });

  test('adds up what was cached of each prompt and what crossed for every choice', () => {
    const { generation } = make();
    const share = (bytes: number) => ({
      purpose: 'tokens' as const,
      direction: 'd2h' as const,
      crossings: 1,
      bytes,
    });
    [1, 2, 4, 8].forEach((cachedTokens, at) => {
      const crossings = at === 3 ? {} : { crossings: [share(at)] };
      const finish = { reason: 'length' as const, cachedTokens, timing: TIMING, ...crossings };
      hear(generation, at, { tokens: [500], finish });
    });
    expect(generation.usage().prompt_tokens_details).toEqual({ cached_tokens: 5 });
    expect(generation.crossings()).toEqual([share(0), share(1), share(2)]);
  });

  test('of which not every choice is accepted is taken back whole', async () => {
    const { engine, generation, finished } = make({ card: { maxRows: 1, maxWaiting: 1 } });
    let wakes = 0;
    const start = () => generation.start({ wake: () => (wakes += 1) });
    expect(start).toThrow(ApiError);
    await generation.settled;
    expect(engine.openIds).toEqual([]);
    expect(generation.choices.map(({ outcome }) => outcome?.reason)).toEqual(
      Array(4).fill('abort'),
    );
    expect(finished).toHaveLength(2);
    expect(wakes).toBe(0);
  });

  test('that is refused outright is settled at once', async () => {
    const { engine, generation } = make();
    await engine.shutdown(0);
    expect(() => generation.start({ wake: () => {} })).toThrow('shutting down');
    await generation.settled;
    expect(generation.isSettled).toBe(true);
  });

  test('that is given up cancels what runs, and drops the rest unheard', async () => {
    const { engine, generation } = make();
    let wakes = 0;
    generation.start({ wake: () => (wakes += 1) });
    engine.step();
    await until('it is heard', () => wakes === 1);
    generation.abort();
    expect(generation.pendingTokens).toBe(0);
    await generation.settled;
    expect(engine.openIds).toEqual([]);
    expect(wakes).toBe(1);
    expect(generation.error).toBeUndefined();
  });

  test('whose engine died fails in every choice that had not ended', async () => {
    const { engine, generation, finished } = make();
    let wakes = 0;
    generation.start({ wake: () => (wakes += 1) });
    engine.cancel('r0');
    await until('the first has ended', () => engine.openIds.length === 3);
    generation.fail(new ApiError('engine_failed', 'lost'));
    // The first one's end has come, and is still to be taken.
    expect(finished.map(([index, reason]) => [index, reason])).toEqual([
      [1, 'error'],
      [2, 'error'],
      [3, 'error'],
    ]);
    expect(wakes).toBeGreaterThan(0);
    expect(generation.error?.message).toBe('lost');
    expect(generation.isSettled).toBe(false);
    generation.take(generation.choices[0]!);
    generation.fail(new ApiError('engine_failed', 'again'));
    expect(finished).toHaveLength(4);
    await generation.settled;
  });
});

describe('an answer in one piece', () => {
  test('has the text, reason and logprobs of each choice', async () => {
    const { engine, generation } = make();
    const whole = collect(generation, undefined);
    engine.step();
    await new Promise((go) => setImmediate(go));
    engine.step();
    const choices = await whole;
    const said = [500, 501].map((token) => text.tokenizer.decode([token], true)).join('');
    expect(choices?.map(({ index, text: each }) => [index, each.trim()])).toEqual(
      [0, 1, 2, 3].map((index) => [index, said.trim()]),
    );
    expect(choices?.map(({ finish }) => finish?.reason)).toEqual(Array(4).fill('length'));
  });

  test('fails as a whole with the first choice that does, and stops the others', async () => {
    const { engine, generation } = make();
    const whole = collect(generation, undefined);
    engine.cancel('r1');
    await expect(whole).rejects.toMatchObject({ code: 'engine_failed' });
    expect(engine.openIds).toEqual([]);
  });
});
