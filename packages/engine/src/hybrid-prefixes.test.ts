import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { hash32, openCpuDevice, openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import type { KvPrices } from './kv/tiers/prices.ts';
import { type ModelFolderOptions, writeModelFolder } from './selftest/model-folder.ts';
import { DELTA_NETS } from './testing/delta-net-model.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

const SPARSE = {
  num_experts: 4,
  num_experts_per_tok: 2,
  moe_intermediate_size: 48,
  shared_expert_intermediate_size: 32,
};

const HYBRIDS: readonly (readonly [string, ModelFolderOptions])[] = [
  ['Qwen3-Next', { architecture: 'Qwen3NextForCausalLM', config: { ...DELTA_NETS, ...SPARSE } }],
  ['Qwen3.5', { architecture: 'Qwen3_5ForCausalLM', config: DELTA_NETS }],
  ['Qwen3.5-MoE', { architecture: 'Qwen3_5MoeForCausalLM', config: { ...DELTA_NETS, ...SPARSE } }],
];

const PAGE = 8;
/** Of the one layer with attention, and of a row's part of the one with a delta net, in f32. */
const TOKEN_BYTES = 2 * 2 * 16 * 4;
const STATE_BYTES =
  3 * 256 * Math.ceil(((2 * 2 * 8 + 4 * 12) * 4) / 256) + 256 * Math.ceil((4 * 8 * 12 * 4) / 256);
/** Whatever can be kept is: what it pays is for other tests. */
const FREE = (known: KvPrices): KvPrices => ({
  ...known,
  recomputeNs: () => 1,
  launchNs: () => 0,
});

let root: string;
const folders = new Map<string, string>();

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'hybrids-'));
  for (const [name, options] of HYBRIDS) {
    const folder = join(root, name);
    await writeModelFolder(folder, options);
    folders.set(name, folder);
  }
});
afterAll(() => rm(root, { recursive: true }));

async function options(name: string, more: Partial<EngineOptions> = {}): Promise<EngineOptions> {
  const device = await openCpuDevice({ threads: 1 });
  const model = folders.get(name)!;
  return engineOptions(device, { model, pageTokens: PAGE, kvPrices: FREE, ...more });
}

const range = (count: number) => Array.from({ length: count }, (_, at) => at);

/** Tokens of a text that is told by its name. */
const text = (of: number, length: number) =>
  Array.from({ length }, (_, at) => (hash32(of, at, 7) >>> 0) % 256);

interface Said {
  readonly id: string;
  readonly prompt: readonly number[];
  readonly tenant?: string;
  readonly maxTokens?: number;
}

const ask = (engine: Engine, { id, prompt, tenant = 'one', maxTokens = 8 }: Said) =>
  generate(engine, request(id, prompt, { maxTokens }, tenant));

/** Each in its turn; answers, and of each how much was found and computed of its prompt. */
async function inTurn(engine: Engine, all: readonly Said[]) {
  const turns = [];
  for (const said of all) {
    const before = engine.stats().promptTokens;
    const { tokens, finish } = await ask(engine, said);
    const computed = engine.stats().promptTokens - before;
    turns.push({ tokens, found: finish.cachedTokens, computed });
  }
  return turns;
}

/** What engines with prefix caching say and take, after one without it has said the same. */
async function sameAsWithout(
  name: string,
  all: readonly Said[],
  more: Partial<EngineOptions> = {},
) {
  const play = (options: EngineOptions) => withEngine(options, (engine) => inTurn(engine, all));
  const without = await play(await options(name, { ...more, prefixCaching: false }));
  const turns = await play(await options(name, more));
  expect(without.map(({ found }) => found)).toEqual(all.map(() => 0));
  expect(turns.map(({ tokens }) => tokens)).toEqual(without.map(({ tokens }) => tokens));
  for (const [at, { found, computed }] of turns.entries()) {
    expect(found + computed).toBe(all[at]!.prompt.length);
  }
  return turns.map(({ found }) => found);
}

describe.each(HYBRIDS)('answers of %s are those without prefix caching', (name) => {
  test('for a prompt that comes again, which is continued from its last page', async () => {
    const prompt = text(1, 45);
    expect(
      await sameAsWithout(name, [
        { id: 'a', prompt },
        { id: 'b', prompt },
        { id: 'of another tenant', prompt, tenant: 'other' },
        { id: 'c', prompt },
      ]),
    ).toEqual([0, 40, 0, 40]);
  });

  test('for users of one system prompt, which the third one finds', async () => {
    const users = [30, 31, 32, 33].map((of) => ({
      id: `${of}`,
      prompt: [...text(2, 37), ...text(of, 30)],
    }));
    expect(await sameAsWithout(name, users)).toEqual([0, 0, 32, 32]);
  });

  test('for conversations, each turn of which goes on from the one before', async () => {
    // Answers are part of what follows them; what they are does not matter here.
    const turns = [1, 2, 3].map((turn) => turn * 43);
    const conversation = (of: number) =>
      turns.map((length) => ({ id: `${of} ${length}`, prompt: text(of, length) }));
    const [one, other] = [conversation(4), conversation(5)];
    const all = one.flatMap((said, turn) => [said, other[turn]!]);
    expect(await sameAsWithout(name, all)).toEqual([0, 0, 40, 40, 80, 80]);
  });

  test('for prompts longer than a launch, whose middle is found, too', async () => {
    const long = text(6, 150);
    const parted = [...long.slice(0, 100), ...text(7, 30)];
    const all = [
      { id: 'long', prompt: long },
      { id: 'parted', prompt: parted },
    ];
    expect(await sameAsWithout(name, all, { maxBatchTokens: 50 })).toEqual([0, 96]);
  });
});

const NAMES = HYBRIDS.map(([name]) => name);

/** Prompts that begin alike, in part or whole, and come all at once. */
const CROWD: readonly Said[] = range(8).map((of) => ({
  id: `${of}`,
  prompt: [...text(8, 24 + (of % 3) * 9), ...text(of % 5, 5 + of * 4)],
  maxTokens: 20 + of,
}));

describe.each(['drain-first', 'resident'] as const)('under %s', (policy) => {
  test.each(NAMES)('eight at once and again say what each says alone: %s', async (name) => {
    const alone = await withEngine(
      await options(name, { prefixCaching: false, maxRows: 1 }),
      async (engine) => (await inTurn(engine, CROWD)).map(({ tokens }) => tokens),
    );
    const settings: readonly Partial<EngineOptions>[] = [
      {},
      { maxBatchTokens: 20 },
      // Few snapshots, which go and come all the time.
      { snapshots: 2 },
      // Few pages, so that rows are preempted and snapshots go with pages.
      { kvBytes: 26 * PAGE * TOKEN_BYTES + 4 * STATE_BYTES, maxModelTokens: 96, snapshots: 4 },
    ];
    for (const setting of settings) {
      await withEngine(await options(name, { policy, ...setting }), async (engine) => {
        for (const round of [1, 2, 3]) {
          const said = CROWD.map(({ id, ...more }) => ({ id: `${round} ${id}`, ...more }));
          const answers = await Promise.all(said.map((each) => ask(engine, each)));
          expect(answers.map(({ tokens }) => tokens)).toEqual(alone);
        }
        const { prefixHitTokens, preemptions } = engine.stats();
        expect(prefixHitTokens).toBeGreaterThan(0);
        expect(preemptions > 0).toBe(setting.kvBytes !== undefined);
      });
    }
  });
});

test('a turn goes on from the one before, whose answer is part of its prompt', async () => {
  for (const name of NAMES) {
    const converse = async (more: Partial<EngineOptions>) =>
      withEngine(await options(name, more), async (engine) => {
        let prompt = text(13, 30);
        const turns = [];
        for (const turn of range(4)) {
          const [said] = await inTurn(engine, [{ id: `${turn}`, prompt, maxTokens: 21 }]);
          turns.push(said!);
          prompt = [...prompt, ...said!.tokens, ...text(14 + turn, 9)];
        }
        return turns;
      });
    const without = await converse({ prefixCaching: false });
    const turns = await converse({});
    expect(turns.map(({ tokens }) => tokens)).toEqual(without.map(({ tokens }) => tokens));
    // Prompts of 30, 60, 90 and 120 tokens: each goes on from the last page of the one before.
    expect(turns.map(({ found }) => found)).toEqual([0, 24, 56, 88]);
  }
});

describe('on a modelled GPU', () => {
  const MODEL = fileURLToPath(new URL('../configs/qwen3.6-27b', import.meta.url));

  /** What each prompt took until its first token, asked one after the other. */
  async function firstTokensMs(prefixCaching: boolean, all: readonly Said[]): Promise<number[]> {
    const clock = new VirtualClock();
    clock.runFreely();
    const device = openModelDevice({ law: profileLaw(referenceProfile('b300-cc')), clock });
    const sizes = { maxRows: 8, maxBatchTokens: 2048, maxModelTokens: 16_384 };
    const settings = { ...sizes, model: MODEL, dummy: true, prefixCaching, pageTokens: 32 };
    return withEngine(
      engineOptions(device, { ...settings, policy: 'resident' }),
      async (engine) => {
        // What a launch takes at least is learnt from a small one.
        await ask(engine, { id: 'before', prompt: text(50, 9) });
        const times = [];
        for (const said of all) {
          const { queuedNs, prefillNs } = (await ask(engine, said)).finish.timing;
          times.push((queuedNs + prefillNs) / 1e6);
        }
        return times;
      },
    );
  }

  const known = text(20, 6000);
  const longer = [...known, ...text(21, 700)];

  test('what goes on from a snapshot is there in a fraction of the time', async () => {
    const all = [
      { id: 'a', prompt: known },
      { id: 'b', prompt: longer },
    ];
    const without = await firstTokensMs(false, all);
    const times = await firstTokensMs(true, all);
    expect(times[1]! / without[1]!).toBeLessThan(1 / 4);
    // That there is a snapshot costs the first one a launch, which reads the weights once.
    expect(times[0]! - without[0]!).toBeGreaterThan(5);
    expect(times[0]! - without[0]!).toBeLessThan(12);
  });

  test('a short prompt takes as long as without snapshots', async () => {
    const first = { id: 'a', prompt: known };
    const all = [first, ...range(3).map((of) => ({ id: `${of}`, prompt: text(30 + of, 200) }))];
    const [, ...short] = await firstTokensMs(true, all);
    const [, ...without] = await firstTokensMs(false, all);
    expect(short).toEqual(without);
  });

  test('what another tenant has takes as long as what nobody has', async () => {
    const own = { id: 'a', prompt: known, tenant: 'a' };
    const [, hit] = await firstTokensMs(true, [own, { id: 'b', prompt: longer, tenant: 'b' }]);
    const other = [...text(40, 6000), ...text(21, 700)];
    const [, miss] = await firstTokensMs(true, [own, { id: 'b', prompt: other, tenant: 'b' }]);
    expect(hit).toBe(miss);
  });
});

test('who is cancelled leaves nothing that another could take for its own', async () => {
  const [name] = NAMES;
  const prompt = text(9, 150);
  const later = [...prompt.slice(0, 120), ...text(10, 9)];
  const [expected] = await withEngine(await options(name!, { prefixCaching: false }), (engine) =>
    inTurn(engine, [{ id: 'later', prompt: later }]),
  );
  await withEngine(await options(name!, { maxBatchTokens: 32 }), async (engine) => {
    for (const at of range(6)) {
      const gone = ask(engine, { id: `gone ${at}`, prompt, maxTokens: 50 });
      while (engine.stats().steps < at + 2) await new Promise(setImmediate);
      engine.cancel(`gone ${at}`);
      const [said, cancelled] = await Promise.all([
        ask(engine, { id: `later ${at}`, prompt: later }),
        gone,
      ]);
      expect(said.tokens).toEqual(expected!.tokens);
      expect(cancelled.finish.reason).toBe('cancelled');
    }
    expect(engine.stats().prefixHitTokens).toBeGreaterThan(0);
  });
});

describe('what cannot be continued is computed', () => {
  const prompt = text(12, 45);
  const twice = [
    { id: 'a', prompt },
    { id: 'b', prompt },
  ];

  test('where no snapshot may be kept, and where prompts are computed whole', async () => {
    expect(await sameAsWithout('Qwen3.5', twice, { snapshots: 0 })).toEqual([0, 0]);
    const whole = { chunkedPrefill: false, maxBatchTokens: 256, maxModelTokens: 256 };
    expect(await sameAsWithout('Qwen3.5', twice, whole)).toEqual([0, 0]);
  });

  test('after a sleep that did not keep KV, and is continued after one that did', async () => {
    const found = async (keepsKv: boolean) =>
      withEngine(
        await options('Qwen3.5', { availableHostBytes: () => 2 ** 40 }),
        async (engine) => {
          const first = await ask(engine, twice[0]!);
          await engine.sleep({ level: 1, mode: 'wait', keepsKv });
          await engine.wakeUp();
          const second = await ask(engine, twice[1]!);
          expect(second.tokens).toEqual(first.tokens);
          return second.finish.cachedTokens;
        },
      );
    expect([await found(true), await found(false)]).toEqual([40, 0]);
  });

  test('and its prompt’s logprobs are of all of it', async () => {
    await withEngine(await options('Qwen3.5'), async (engine) => {
      await ask(engine, twice[0]!);
      const wanted = request('b', prompt, { maxTokens: 4, promptLogprobs: 0 });
      const { finish, events } = await generate(engine, wanted);
      expect(finish.cachedTokens).toBe(0);
      expect(events.flatMap(({ promptLogprobs = [] }) => promptLogprobs)).toHaveLength(44);
    });
  });
});

test('snapshots that could be of no use are refused', async () => {
  const refusal = async (name: string, more: Partial<EngineOptions>) => {
    const { device, ...rest } = await options(name, more);
    const failed = await createEngine({ ...rest, device, snapshots: 4 }).catch((error) => error);
    await device.close();
    return [failed.code, failed.parameter, failed.message];
  };
  const refused = (why: string) => [
    'bad-model',
    'state_snapshots',
    `--state-snapshots: ${why}; leave it out`,
  ];
  expect(await refusal('Qwen3.5', { prefixCaching: false })).toEqual(
    refused('they need --enable-prefix-caching'),
  );
  const whole = { chunkedPrefill: false, maxBatchTokens: 256, maxModelTokens: 256 };
  expect(await refusal('Qwen3.5', whole)).toEqual(refused('they need --enable-chunked-prefill'));
  const device = await openCpuDevice({ threads: 1 });
  const opening = createEngine(engineOptions(device, { snapshots: 4 }));
  await expect(opening).rejects.toThrow('this model keeps no states beside KV');
  await device.close();
});
