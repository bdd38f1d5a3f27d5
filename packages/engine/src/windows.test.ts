import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash32, openCpuDevice, splitDevice } from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import type { EngineOptions } from './create.ts';
import type { Engine } from './engine.ts';
import { type ModelFolderOptions, writeModelFolder } from './selftest/model-folder.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

const TYPES = ['sliding_attention', 'full_attention'];
const PARAMETERS = {
  full_attention: { rope_type: 'default', rope_theta: 1e4 },
  sliding_attention: { rope_type: 'default', rope_theta: 1e3 },
};

const gptOss = (window: number): ModelFolderOptions => ({
  architecture: 'GptOssForCausalLM',
  quantization: { quant_method: 'mxfp4' },
  config: {
    sliding_window: window,
    num_hidden_layers: 2,
    num_local_experts: 2,
    num_experts_per_tok: 1,
    attention_bias: true,
    hidden_act: 'silu',
    max_position_embeddings: 1024,
    rope_parameters: { rope_type: 'default', rope_theta: 1e4 },
    rope_theta: undefined,
  },
});

const gemma3 = (window: number): ModelFolderOptions => ({
  architecture: 'Gemma3ForCausalLM',
  tiedHead: true,
  config: {
    hidden_act: undefined,
    sliding_window: window,
    num_hidden_layers: 3,
    layer_types: ['sliding_attention', ...TYPES],
    query_pre_attn_scalar: 20,
    max_position_embeddings: 1024,
    rope_theta: undefined,
    rope_parameters: PARAMETERS,
  },
});

/** The last two layers take keys and values of the first two; heads differ in size. */
const gemma4 = (window: number): ModelFolderOptions => ({
  architecture: 'Gemma4ForCausalLM',
  tiedHead: true,
  config: {
    hidden_act: undefined,
    hidden_size_per_layer_input: 0,
    global_head_dim: 32,
    sliding_window: window,
    num_hidden_layers: 4,
    layer_types: [...TYPES, ...TYPES],
    num_kv_shared_layers: 2,
    use_double_wide_mlp: true,
    max_position_embeddings: 1024,
    rope_theta: undefined,
    rope_parameters: {
      full_attention: { rope_type: 'proportional', rope_theta: 1e4, partial_rotary_factor: 0.5 },
      sliding_attention: { rope_type: 'default', rope_theta: 1e3 },
    },
  },
});

const DRAFTS = { drafts: 3, lookupMin: 1, lookupMax: 3, always: true } as const;
const FP8 = 'fp8-e4m3' as const;

const draw = (seed: number, counter: number, below: number) =>
  (hash32(seed, 5, counter) >>> 0) % below;

const text = (seed: number, length: number) => Array.from({ length }, (_, i) => draw(seed, i, 250));

/** Of an answer: its tokens, and how likely each was. */
interface Said {
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
}

/** Prompts that begin alike, and end in others; each goes on behind its own answer. */
async function converse(engine: Engine, seed: number): Promise<Said[]> {
  const shared = 30 + 40 * draw(seed, 1000, 4);
  const prompt = [...text(7, shared), ...text(100 + seed, 1 + draw(seed, 1001, 60))];
  const answers: Said[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const at = 2000 + 10 * turn;
    const sampling = {
      maxTokens: 1 + draw(seed, at, 70),
      temperature: draw(seed, at + 1, 2),
      seed: BigInt(1 + seed),
      logprobs: 0,
    };
    const { tokens, events } = await generate(engine, request(`${seed}.${turn}`, prompt, sampling));
    const logprobs = events.flatMap((event) => event.logprobs ?? []);
    answers.push({ tokens, logprobs: logprobs.map(({ logprob }) => logprob) });
    prompt.push(...tokens, ...text(200 + seed + turn, 1 + draw(seed, at + 2, 20)));
  }
  return answers;
}

const SIZES = { maxModelTokens: 576, maxBatchTokens: 40, pageTokens: 8, maxRows: 8 };

interface Answers {
  readonly answers: Said[][];
  readonly prefixHitTokens: number;
  readonly engine: Engine;
}

async function answers(
  model: string,
  options: Partial<EngineOptions>,
  conversations: number,
): Promise<Answers> {
  const device = await openCpuDevice({ threads: 1 });
  return withEngine(engineOptions(device, { model, ...SIZES, ...options }), async (engine) => {
    const seeds = Array.from({ length: conversations }, (_, seed) => seed);
    const all = await Promise.all(seeds.map((seed) => converse(engine, seed)));
    const { prefixHitTokens, kvUsage } = engine.stats();
    expect(kvUsage).toBe(0);
    return { answers: all, prefixHitTokens, engine };
  });
}

async function inFolder(options: ModelFolderOptions, use: (model: string) => Promise<void>) {
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-windows-'));
  try {
    await writeModelFolder(folder, { ...options, storedType: 'f32' });
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const ONE_POOL = { hasOnePool: true } as const;

describe('a model whose windows have pages of their own says what it says with one pool', () => {
  it.each([
    ['gpt-oss, windows of less than a page', gptOss(3), {}],
    ['gpt-oss, windows of two pages', gptOss(17), {}],
    ['Gemma 3, drafts', gemma3(17), { speculation: DRAFTS }],
    ['Gemma 3, windows longer than most prompts, KV in FP8', gemma3(120), { kvFormat: FP8 }],
    ['Gemma 4, layers that share keys and values', gemma4(20), {}],
  ])('%s', async (_, folder, more) => {
    await inFolder(folder, async (model) => {
      const options = { policy: 'resident', ...more } as const;
      const ample = await answers(model, { ...ONE_POOL, ...options }, 0);
      const { memory } = ample.engine.card;
      const kvBytes = (memory.kvBytes / memory.kvPages) * 120;
      const one = await answers(model, { ...ONE_POOL, ...options, kvBytes }, 12);
      expect(one.engine.card.memory).toMatchObject({ kvPages: 120, window: null });
      const two = await answers(model, { ...options, kvBytes }, 12);
      const { window, kvPages } = two.engine.card.memory;
      expect(kvPages).toBeGreaterThan(120);
      expect(window!.pages).toBeLessThan(120);
      expect(two.answers).toEqual(one.answers);
      expect(two.prefixHitTokens).toBeGreaterThan(0);
    });
  });
});

it('the log says what each token takes, and where windows keep more than they see', async () => {
  await inFolder(gemma3(17), async (model) => {
    const linesOf = async (more: Partial<EngineOptions>) => {
      const said: string[] = [];
      const onModel = (lines: readonly string[]) => said.push(...lines);
      const { engine } = await answers(model, { ...more, onModel }, 0);
      return { said: said.join('\n'), kv: engine.stats().kv, memory: engine.card.memory };
    };
    // A layer has 2 x 2 heads of 16, in f32: 256 bytes; of three layers one sees all.
    const two = await linesOf({});
    expect(two.said).toMatch(/KV 0\.3 KiB for each token, and 0\.5 KiB for each of the last 17$/);
    const { pages } = two.memory.window!;
    expect(two.kv).toMatchObject({
      pageBytes: 256 * 8,
      window: { tokens: 17, pageBytes: 512 * 8, pages, held: 0 },
    });
    const one = await linesOf(ONE_POOL);
    expect(one.said).toMatch(/KV 0\.8 KiB for each token$/m);
    expect(one.said).toMatch(/those that see a window keep the KV of whole contexts$/);
    expect(one.kv).toMatchObject({ pageBytes: 768 * 8, window: null });
  });
});

const PROMPT = text(1, 90);
const SAMPLING = { maxTokens: 30, logprobs: 0, promptLogprobs: 0 };

/** What a prompt is answered with, and how likely each of its tokens and of the answer's was. */
async function lines(engine: Engine, id: string) {
  const { tokens, events } = await generate(engine, request(id, PROMPT, SAMPLING));
  const all = events.flatMap(({ promptLogprobs = [], logprobs = [] }) => [
    ...promptLogprobs,
    ...logprobs,
  ]);
  return { tokens, logprobs: all.map(({ logprob }) => logprob) };
}

it('several devices each have their windows', async () => {
  await inFolder(gemma3(17), async (model) => {
    const found = [];
    for (const ranks of [1, 2]) {
      const alone = await openCpuDevice({ threads: 1 });
      const device = ranks === 1 ? alone : splitDevice(alone, ranks);
      const options = engineOptions(device, { model, ...SIZES });
      found.push(
        await withEngine(options, async (engine) => {
          expect(engine.card.memory.window).not.toBeNull();
          return lines(engine, 'a');
        }),
      );
    }
    const [one, two] = found;
    expect(two!.tokens).toEqual(one!.tokens);
    expect(one!.logprobs).toHaveLength(PROMPT.length - 1 + SAMPLING.maxTokens);
    for (const [at, logprob] of two!.logprobs.entries()) {
      expect(logprob).toBeCloseTo(one!.logprobs[at]!, 3);
    }
  });
});

it.each([true, false])(
  'a sleep frees windows, and wakes up with room: KV kept %s',
  async (keepsKv) => {
    await inFolder(gptOss(17), async (model) => {
      const device = await openCpuDevice({ threads: 1 });
      const more = { availableHostBytes: () => 2 ** 40, ...SIZES };
      await withEngine(engineOptions(device, { model, ...more }), async (engine) => {
        const allocated = () => device.counters().allocatedBytes;
        const before = await lines(engine, 'before');
        const awakeBytes = allocated();
        await engine.sleep({ level: 1, mode: 'wait', keepsKv });
        const { kvBytes } = engine.card.memory;
        const freedBytes = engine.card.weightBytes + (keepsKv ? 0 : kvBytes);
        expect(awakeBytes - allocated()).toBe(freedBytes);
        await engine.wakeUp();
        expect(allocated()).toBe(awakeBytes);
        expect(await lines(engine, 'after')).toEqual(before);
        const hits = engine.stats().prefixHitTokens;
        const { tokens } = await generate(engine, request('again', PROMPT, { maxTokens: 30 }));
        expect(tokens).toEqual(before.tokens);
        // Full pages of all but the last token: prompts with logprobs take none and leave theirs.
        expect(engine.stats().prefixHitTokens - hits).toBe(88);
      });
    });
  },
);
