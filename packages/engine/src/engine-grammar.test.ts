import { buildVocabulary, openCpuDevice } from '@bridgekeeper/device';
import {
  type Automaton,
  controlBytes,
  Dice,
  encodeAutomaton,
  isOver,
  mayEnd,
  type Place,
  placeAfter,
  randomAutomaton,
  randomText,
  stateOf,
} from '@bridgekeeper/device/testing';
import { describe, expect, it } from 'vitest';
import type { EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import type { CompiledGrammar } from './grammar/compiled.ts';
import { POLICY_NAMES } from './policies/policy.ts';
import { EngineError, type EngineStats, type GenerationRequest } from './request/request.ts';
import { engineOptions, generate, type Outcome, request, withEngine } from './testing/run.ts';

/** Storyteller's, and what its ids are here: they need not be its own texts. */
const VOCABULARY_SIZE = 4096;
const CONTROL = new Set([7, 4000]);
const END = 2;
const texts = vocabularyTexts(3);
const vocabulary = buildVocabulary(VOCABULARY_SIZE, (id) => texts[id]!, CONTROL);

function vocabularyTexts(seed: number): readonly (Uint8Array | null)[] {
  const dice = new Dice(seed);
  const plain = Array.from({ length: VOCABULARY_SIZE }, () => randomText(dice));
  return plain.map((text, id) => (CONTROL.has(id) ? controlBytes(id) : text));
}

let grammars = 0;
function compiled(automaton: Automaton): CompiledGrammar {
  grammars += 1;
  return { digest: `grammar ${grammars}`, words: encodeAutomaton(automaton) };
}

const ONE = { maximum: 0, frames: [] } as const;
/** Any number of these letters: never complete, and may always end. */
const LETTERS: Automaton = {
  states: [stateOf({ ab: { target: 0, ...ONE } }, { isFinal: true })],
  start: 0,
  forced: null,
};
/** `a` and `b` are thought without end; from where a row is forced to, it says `"a`. */
const THINKING: Automaton = {
  states: [
    stateOf({ ab: 0 }, { isThinking: true }),
    stateOf({ '"': 2 }),
    stateOf({ a: 3 }),
    stateOf({}, { isFinal: true }),
  ],
  start: 0,
  forced: 1,
};

async function options(overrides: Partial<EngineOptions> = {}): Promise<EngineOptions> {
  const device = await openCpuDevice({ law: null, threads: 1 });
  return engineOptions(device, {
    maxRows: 8,
    grammars: { vocabulary, poolBytes: 2 ** 16 },
    ...overrides,
  });
}

interface Constrained {
  readonly automaton: Automaton;
  readonly request: GenerationRequest;
}

/** Requests under random grammars, some of which share one. */
function traffic(seed: number, count: number): Constrained[] {
  const dice = new Dice(seed);
  const made = Array.from({ length: count }, () => {
    const automaton = randomAutomaton(dice);
    return { automaton, grammar: compiled(automaton) };
  });
  return Array.from({ length: count }, (_, index) => {
    const { automaton, grammar } = made[dice.integer(0, count - 1)]!;
    const prompt = Array.from({ length: dice.integer(1, 40) }, (_, i) => 20 + ((7 * i) % 300));
    const plain = request(`r${index}`, prompt, {
      maxTokens: dice.integer(1, 30),
      temperature: dice.integer(0, 2),
      seed: BigInt(index),
      stopTokenIds: [END],
    });
    return { automaton, request: { ...plain, grammar } };
  });
}

/** Every token of an outcome is one that its grammar admits, and it ended for a reason. */
function expectObeys({ automaton, request: { sampling } }: Constrained, outcome: Outcome): void {
  let place: Place = { state: automaton.start, frames: [], budget: -1 };
  const { tokens, finish } = outcome;
  const isEnd = (at: number) => tokens[at] === END;
  tokens.forEach((token, at) => {
    if (isEnd(at)) {
      expect(mayEnd(automaton, place)).toBe(true);
      expect(at).toBe(tokens.length - 1);
      return;
    }
    const next = placeAfter(automaton, place, texts[token]!);
    expect(next).not.toBeNull();
    place = next!;
    if (at < tokens.length - 1) expect(isOver(automaton, place)).toBe(false);
  });
  const last = tokens.length - 1;
  if (isEnd(last)) {
    expect(finish).toMatchObject({ reason: 'stop', stopToken: END });
  } else if (finish.reason === 'stop') {
    expect(isOver(automaton, place)).toBe(true);
    expect(finish.stopToken).toBeUndefined();
  } else if (finish.reason === 'error') {
    const admitted = texts.filter((text) => placeAfter(automaton, place, text) !== null);
    expect(admitted).toHaveLength(0);
    expect(mayEnd(automaton, place)).toBe(false);
    expect(finish.message).toContain('grammar');
  } else {
    expect(finish.reason).toBe('length');
    expect(tokens).toHaveLength(sampling.maxTokens);
  }
}

async function run(
  wanted: readonly GenerationRequest[],
  overrides: Partial<EngineOptions> = {},
): Promise<{ outcomes: Outcome[]; stats: EngineStats }> {
  return withEngine(await options(overrides), async (engine) => {
    const outcomes = await Promise.all(wanted.map((each) => generate(engine, each)));
    return { outcomes, stats: engine.stats() };
  });
}

const purposes = (stats: EngineStats) =>
  Object.fromEntries(stats.bridge.totals.map(({ purpose, crossings }) => [purpose, crossings]));

describe('requests with a grammar', () => {
  it.each(POLICY_NAMES)('sample tokens that random grammars admit under %s', async (policy) => {
    const all = traffic(11, 40);
    const { outcomes, stats } = await run(
      all.map((each) => each.request),
      { policy },
    );
    all.forEach((each, index) => {
      expectObeys(each, outcomes[index]!);
    });
    const reasons = new Set(outcomes.map(({ finish }) => finish.reason));
    expect([...reasons].sort()).toEqual(['error', 'length', 'stop']);
    expect(stats.grammars.uploads + stats.grammars.hits).toBe(all.length);
    expect(stats.grammars.hits).toBeGreaterThan(0);
  });

  it('get the same tokens with preemptions, and where grammars give way to others', async () => {
    const letters = compiled(LETTERS);
    const long = Array.from({ length: 8 }, (_, at) => ({
      ...request(`long ${at}`, [47, 1190 + at], { maxTokens: 60, temperature: 1, seed: 4n }),
      grammar: letters,
    }));
    const all = [...long, ...traffic(12, 20).map((each) => each.request)];
    const tokensOf = ({ outcomes }: { outcomes: Outcome[] }) =>
      outcomes.map(({ tokens }) => tokens);
    const roomy = await run(all);
    expect(roomy.stats.preemptions + roomy.stats.grammars.evictions).toBe(0);
    const fewPages = { maxModelTokens: 96, kvBytes: 7 * 2 ** 17, maxBatchTokens: 24 };
    const preempted = await run(all, { ...fewPages, policy: 'resident' });
    expect(preempted.stats.preemptions).toBeGreaterThan(0);
    expect(tokensOf(preempted)).toEqual(tokensOf(roomy));
    const largest = Math.max(...all.map(({ grammar }) => grammar!.words.byteLength));
    const onlyOne = { grammars: { vocabulary, poolBytes: largest + 256 } };
    const evicted = await run(all, { ...onlyOne, policy: 'resident' });
    expect(evicted.stats.grammars.evictions).toBeGreaterThan(0);
    expect(tokensOf(evicted)).toEqual(tokensOf(roomy));
  });

  it.each(POLICY_NAMES)(
    'cross as often as others, and once for their grammar, under %s',
    async (policy) => {
      const sampling = { maxTokens: 24, temperature: 1, seed: 5n };
      const plain = request('a', [47, 1190, 614], sampling);
      // One step a launch, however fast the machine is at the moment.
      const burst = { tollNs: 0, interTokenLimitNs: 1 };
      const free = await run([plain], { policy, burst });
      const grammar = compiled(LETTERS);
      const bound = await run([{ ...plain, grammar }], { policy, burst });
      expect(bound.outcomes[0]!.tokens).toHaveLength(24);
      expect(bound.outcomes[0]!.tokens).not.toEqual(free.outcomes[0]!.tokens);
      expect(purposes(bound.stats)).toEqual({ ...purposes(free.stats), grammar: 1 });
      const share = bound.outcomes[0]!.finish.crossings!.filter(
        ({ purpose }) => purpose === 'grammar',
      );
      const bytes = grammar.words.byteLength;
      expect(share).toEqual([{ purpose: 'grammar', direction: 'h2d', crossings: 1, bytes }]);
    },
  );

  it('bring a grammar once for a tenant, and find none of another', async () => {
    const grammar = compiled(LETTERS);
    await withEngine(await options(), async (engine) => {
      const uploads = async (id: string, tenant: string) => {
        await generate(engine, { ...request(id, [5, 6], { maxTokens: 4 }, tenant), grammar });
        return engine.stats().grammars;
      };
      const heldBytes = Math.ceil(grammar.words.byteLength / 256) * 256;
      expect(await uploads('a', 'one')).toMatchObject({ uploads: 1, hits: 0, held: 1, heldBytes });
      expect(await uploads('b', 'one')).toMatchObject({ uploads: 1, hits: 1, held: 1 });
      expect(await uploads('c', 'two')).toMatchObject({ uploads: 2, hits: 1, held: 2 });
    });
  });

  it('leave rows beside them as they are', async () => {
    const free = Array.from({ length: 3 }, (_, at) =>
      request(`free ${at}`, [47, 1190 + at], { maxTokens: 16, temperature: 1, seed: BigInt(at) }),
    );
    const alone = await run(free);
    const bound = traffic(13, 5).map((each) => each.request);
    const beside = await run([...free, ...bound]);
    expect(beside.outcomes.slice(0, 3).map(({ tokens }) => tokens)).toEqual(
      alone.outcomes.map(({ tokens }) => tokens),
    );
    // A row's earlier grammar is not that of the next request in it.
    const after = await withEngine(await options({ maxRows: 1 }), async (engine) => {
      await generate(engine, bound[0]!);
      return generate(engine, free[0]!);
    });
    expect(after.tokens).toEqual(alone.outcomes[0]!.tokens);
  });

  it('reuse prefixes, and end when they are cancelled', async () => {
    await withEngine(await options(), async (engine) => {
      const prompt = Array.from({ length: 64 }, (_, at) => 20 + at);
      const sampling = { maxTokens: 12, temperature: 1, seed: 9n };
      const wanted = (id: string) => ({
        ...request(id, prompt, sampling),
        grammar: compiled(LETTERS),
      });
      const first = await generate(engine, wanted('a'));
      const again = await generate(engine, wanted('b'));
      expect(again.finish.cachedTokens).toBeGreaterThan(0);
      expect(again.tokens).toEqual(first.tokens);
      expect(
        await cancelledAfter(
          engine,
          { ...wanted('c'), sampling: { ...wanted('c').sampling, maxTokens: 400 } },
          3,
        ),
      ).toBe('cancelled');
      expect((await generate(engine, wanted('d'))).tokens).toEqual(first.tokens);
    });
  });

  it('end thinking when its budget is spent', async () => {
    const wanted = (id: string, budget?: number): GenerationRequest => ({
      ...request(id, [47, 1190], { maxTokens: 30, temperature: 1, seed: 3n }),
      grammar: compiled(THINKING),
      ...(budget === undefined ? {} : { thinkingBudget: budget }),
    });
    const { outcomes } = await run([wanted('a', 5), wanted('b', 0), wanted('c')]);
    const textOf = (tokens: readonly number[]) =>
      Buffer.concat(tokens.map((token) => texts[token]!)).toString('latin1');
    const [five, none, free] = outcomes.map(({ tokens }) => tokens);
    expect(textOf(five!.slice(0, 5))).toMatch(/^[ab]+$/);
    expect(textOf(five!.slice(5))).toBe('"a');
    expect(textOf(none!)).toBe('"a');
    expect(textOf(free!)).toMatch(/^[ab]+$/);
    expect(outcomes.map(({ finish }) => finish.reason)).toEqual(['stop', 'stop', 'length']);
  });

  it('are refused where they cannot be had, by name', async () => {
    const grammar = compiled(LETTERS);
    const refusal = async (
      more: Partial<GenerationRequest>,
      overrides: Partial<EngineOptions> = {},
    ) =>
      withEngine(await options(overrides), async (engine) => {
        try {
          engine.submit({ ...request('a', [1]), ...more }, () => undefined);
        } catch (error) {
          expect(error).toBeInstanceOf(EngineError);
          const { code, parameter, message } = error as EngineError;
          return [code, parameter, message];
        }
        return 'accepted';
      });
    const without = { grammars: undefined };
    expect(await refusal({ grammar }, without)).toEqual([
      'bad-request',
      'grammar',
      expect.stringContaining('takes no grammars'),
    ]);
    expect(await refusal({ grammar }, { grammars: { vocabulary, poolBytes: 256 } })).toEqual([
      'bad-request',
      'grammar',
      expect.stringContaining('of 256 at most'),
    ]);
    const cut = grammar.words.subarray(0, -1);
    expect(await refusal({ grammar: { digest: 'cut', words: cut } })).toMatchObject({
      1: 'grammar',
    });
    expect(await refusal({ thinkingBudget: 3 })).toMatchObject({ 1: 'thinking_budget' });
    const bad = { grammar, thinkingBudget: -1 };
    expect(await refusal(bad)).toMatchObject({ 1: 'thinking_budget' });
    expect(await refusal({ grammar, thinkingBudget: 3 })).toBe('accepted');
  });
});

async function cancelledAfter(engine: Engine, wanted: GenerationRequest, tokens: number) {
  return new Promise<string>((resolve) => {
    let seen = 0;
    engine.submit(wanted, (event) => {
      seen += event.tokens.length;
      if (seen >= tokens) engine.cancel(wanted.id);
      if (event.finish !== undefined) resolve(event.finish.reason);
    });
  });
}
