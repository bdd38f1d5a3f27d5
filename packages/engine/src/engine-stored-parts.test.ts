import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { DeviceError, hash32, openCpuDevice, splitDevice } from '@bridgekeeper/device';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import type { SidePart } from './kv/tiers/accounts.ts';
import { type ModelFolderOptions, writeModelFolder } from './selftest/model-folder.ts';
import { DELTA_NETS } from './testing/delta-net-model.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';
import { Route } from './traffic/route.ts';

/** Every other layer sees 21 tokens, less than any prompt here has. */
const WINDOWED: ModelFolderOptions = {
  architecture: 'GptOssForCausalLM',
  quantization: { quant_method: 'mxfp4' },
  config: {
    sliding_window: 21,
    num_hidden_layers: 2,
    num_local_experts: 2,
    num_experts_per_tok: 1,
    attention_bias: true,
    hidden_act: 'silu',
    max_position_embeddings: 1024,
    rope_parameters: { rope_type: 'default', rope_theta: 1e4 },
    rope_theta: undefined,
  },
};

/** Every other layer is a delta net, whose state is of a row. */
const HYBRID: ModelFolderOptions = {
  architecture: 'Qwen3_5ForCausalLM',
  config: {
    max_position_embeddings: 1024,
    ...DELTA_NETS,
  },
};

const SIZES = { maxModelTokens: 400, maxBatchTokens: 160, pageTokens: 8, maxRows: 3 };
/** No state is kept in the middle of a prompt. */
const WHOLE = { maxBatchTokens: 400 };
const profile = referenceProfile('b300-cc');

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'bridgekeeper-stored-parts-'));
  for (const [name, options] of Object.entries({ window: WINDOWED, state: HYBRID })) {
    await mkdir(join(root, name));
    await writeModelFolder(join(root, name), options);
  }
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(() => rm(root, { recursive: true }));

async function withModel<T>(
  part: SidePart,
  more: Partial<EngineOptions>,
  use: (engine: Engine) => Promise<T>,
  ranks = 1,
): Promise<T> {
  const alone = await openCpuDevice({ threads: 1, law: profileLaw(profile) });
  const device = ranks === 1 ? alone : splitDevice(alone, ranks);
  const model = join(root, part);
  const sizes = part === 'state' ? { ...SIZES, ...WHOLE } : SIZES;
  const common = { model, ...sizes, bridge: profile, expertParallel: ranks > 1 };
  return withEngine(engineOptions(device, { ...common, ...more }), use);
}

const draw = (seed: number, counter: number, below: number) =>
  (hash32(seed, 9, counter) >>> 0) % below;
const text = (seed: number, length: number) => Array.from({ length }, (_, i) => draw(seed, i, 250));

/** Conversations that push each other off the device, some of whose turns come at once. */
async function converse(engine: Engine): Promise<number[][]> {
  const talks = Array.from({ length: 7 }, (_, of) => text(100 + of, 180 + draw(1, of, 100)));
  const answers: number[][] = [];
  for (let turn = 0; turn < 3; turn++) {
    for (let first = 0; first < talks.length; ) {
      const together = talks.slice(first, first + 1 + draw(2, 10 * turn + first, 3));
      const outcomes = await Promise.all(
        together.map((prompt, at) => {
          const maxTokens = 1 + draw(3, 100 * turn + first + at, 12);
          const id = `${turn} ${first + at}`;
          return generate(engine, request(id, prompt, { maxTokens }));
        }),
      );
      for (const [at, { tokens, finish }] of outcomes.entries()) {
        expect(finish.reason).toBe('length');
        answers.push(tokens);
        together[at]!.push(...tokens, ...text(500 + turn, 1 + draw(4, first + at, 20)));
      }
      first += together.length;
    }
  }
  return answers;
}

interface Plain {
  readonly answers: number[][];
  readonly pageBytes: number;
}

const plain = new Map<string, Promise<Plain>>();

/** What the same conversations say where KV does not leave the device. */
function plainly(part: SidePart, ranks = 1): Promise<Plain> {
  const name = `${part} on ${ranks}`;
  const say = async (engine: Engine) => {
    const pageBytes = engine.card.kvParts[0]!.bytes;
    return { answers: await converse(engine), pageBytes };
  };
  const known = plain.get(name) ?? withModel(part, {}, say, ranks);
  plain.set(name, known);
  return known;
}

/** As little KV on the device as one row may need, and so many pages of host memory and disk. */
async function tiered<T>(
  part: SidePart,
  hostPages: number,
  diskPages: number,
  use: (engine: Engine) => Promise<T>,
  policy: EngineOptions['policy'] = 'drain-first',
  ranks = 1,
): Promise<T> {
  // Each rank has its part of a page, and its share of what is below.
  const { pageBytes } = await plainly(part, ranks);
  const tiers = {
    hostBytes: hostPages * pageBytes * ranks,
    disk: diskPages === 0 ? null : { folder: root, bytes: diskPages * pageBytes * ranks },
    spillLaneShare: 1,
    policy: 'lru',
  } as const;
  const more = {
    policy,
    kvBytes: 100 * pageBytes,
    ...(part === 'state' && { snapshots: 2 }),
    tiers,
    // Prompts of tests are too short to be worth it.
    kvPrices: (known: Parameters<NonNullable<EngineOptions['kvPrices']>>[0]) => ({
      ...known,
      recomputeNs: () => 1e9,
      launchNs: () => 0,
    }),
  };
  return withModel(part, more, use, ranks);
}

test.each([
  ['window', 'host memory', 400, 0, 1],
  ['window', 'host memory and disk', 100, 400, 1],
  ['window', 'those of two ranks', 100, 400, 2],
  ['state', 'host memory', 600, 0, 1],
  ['state', 'host memory and disk', 120, 800, 1],
] as const)(
  'answers are the same where a %s comes back from %s',
  async (part, _, hostPages, diskPages, ranks) => {
    const say = async (engine: Engine) => {
      const answers = await converse(engine);
      return { answers, kv: engine.stats().kv };
    };
    const { answers, kv } = await tiered(part, hostPages, diskPages, say, undefined, ranks);
    expect(answers).toEqual((await plainly(part, ranks)).answers);
    const { moved } = kv.parts.find((each) => each.part === part)!;
    expect(Math.min(moved!.spilled, moved!.restored)).toBeGreaterThan(0);
    if (diskPages > 0) expect(moved!.demoted).toBeGreaterThan(0);
  },
  60_000,
);

/** Of so many crossings of KV one fails. Those that did. */
function failingCrossings(every: number): { readonly failed: number } {
  const cross = Route.prototype.cross;
  const told = { failed: 0 };
  let crossings = 0;
  vi.spyOn(Route.prototype, 'cross').mockImplementation(async function (this: Route, wanted) {
    crossings += 1;
    if (wanted.purpose.startsWith('kv') && crossings % every === 0) {
      told.failed += 1;
      await Promise.resolve();
      throw new DeviceError('launch-failed', 'this crossing fails');
    }
    return cross.call(this, wanted);
  });
  return told;
}

test.each(['window', 'state'] as const)(
  'answers are the same though crossings fail, and the device sleeps and forgets: %s',
  async (part) => {
    const { answers: wanted } = await plainly(part);
    const check = async (engine: Engine) => {
      const told = failingCrossings(15);
      expect(await converse(engine)).toEqual(wanted);
      expect(told.failed).toBeGreaterThan(0);
      const { total, parts } = engine.stats().kv;
      expect(Math.min(total.restored, parts[1]!.moved!.restored)).toBeGreaterThan(0);
      await engine.sleep({ level: 1, mode: 'wait', keepsKv: false });
      await engine.wakeUp();
      expect(await converse(engine)).toEqual(wanted);
      expect(engine.stats().kv.total.restored).toBeGreaterThan(total.restored);
    };
    await tiered(part, 1000, 0, check, 'resident');
  },
  60_000,
);
