import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { type Device, openCpuDevice, splitDevice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions } from './create.ts';
import type { PolicyName } from './policies/policy.ts';
import { type ModelFolderOptions, writeModelFolder } from './selftest/model-folder.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'tensor-parallel-'));
});
afterAll(() => rm(root, { recursive: true }));

const PROMPTS = [
  [1, 5, 9, 2, 17, 3],
  [7, 7, 30],
  [2, 4, 8, 16, 31, 11, 6, 1, 12],
];
const TOKENS = 8;
const POLICIES = ['overlap', 'drain-first', 'drain-worker', 'resident'] as const;

/** What each prompt is answered with, and how likely each of these tokens was. */
async function answers(ranks: number, options: Partial<EngineOptions>) {
  const alone = await openCpuDevice({ threads: 1 });
  const device = ranks === 1 ? alone : splitDevice(alone, ranks);
  const small = { maxRows: 3, maxBatchTokens: 32, maxModelTokens: 64, ...options };
  return withEngine(engineOptions(device, small), (engine) =>
    Promise.all(
      PROMPTS.map(async (prompt, i) => {
        const wanted = request(`${i}`, prompt, { maxTokens: TOKENS, logprobs: 0 });
        const { tokens, events, finish } = await generate(engine, wanted);
        const logprobs = events.flatMap((event) => event.logprobs ?? []);
        return { tokens, finish, logprobs: logprobs.map(({ logprob }) => logprob) };
      }),
    ),
  );
}

/** `onRanks`: what is otherwise on them. */
async function expectSameOnRanks(
  ranks: number,
  options: Partial<EngineOptions>,
  onRanks: Partial<EngineOptions> = {},
): Promise<void> {
  const expected = await answers(1, options);
  const found = await answers(ranks, { ...options, ...onRanks });
  expect(found.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
  for (const [i, { logprobs }] of found.entries()) {
    expect(logprobs).toHaveLength(TOKENS);
    for (const [at, logprob] of logprobs.entries()) {
      expect(logprob).toBeCloseTo(expected[i]!.logprobs[at]!, 3);
    }
  }
}

let folders = 0;
async function folderOf(options: ModelFolderOptions): Promise<string> {
  folders += 1;
  const folder = join(root, `${folders}`);
  await writeModelFolder(folder, { tokenizer: 'none', ...options });
  return folder;
}

const QUANTIZED = { quant_method: 'fp8', weight_block_size: [16, 16] };

const MODELS: readonly (readonly [string, number, ModelFolderOptions])[] = [
  ['biases and a tied head', 2, { tiedHead: true, config: { attention_bias: true } }],
  [
    'a vocabulary that is not divided, biases between gate and down, FP8 in blocks',
    2,
    { quantization: QUANTIZED, config: { vocab_size: 333, mlp_bias: true } },
  ],
  [
    'two ranks for each KV head, a window, head norms',
    4,
    { architecture: 'Qwen3ForCausalLM', config: { sliding_window: 4, use_sliding_window: true } },
  ],
  [
    'fused modules, FP8 with a scale for each tensor',
    2,
    {
      architecture: 'Phi3ForCausalLM',
      quantization: { quant_method: 'fp8', activation_scheme: 'dynamic' },
    },
  ],
  [
    'experts in FP8',
    2,
    {
      architecture: 'Qwen3MoeForCausalLM',
      config: { num_experts: 5, num_experts_per_tok: 2, moe_intermediate_size: 32 },
      quantization: QUANTIZED,
    },
  ],
  [
    'experts in MXFP4, sinks',
    2,
    {
      architecture: 'GptOssForCausalLM',
      quantization: { quant_method: 'mxfp4' },
      config: {
        attention_bias: true,
        num_local_experts: 3,
        num_experts_per_tok: 2,
        sliding_window: 8,
        intermediate_size: 128,
      },
    },
  ],
];

describe('ranks answer as one device does', () => {
  it('the bundled model, resident', () => expectSameOnRanks(2, { policy: 'resident' }));
  it.each(MODELS)('%s, on %i ranks', async (_, ranks, folder) =>
    expectSameOnRanks(ranks, { model: await folderOf(folder) }),
  );

  // Prompts of 6, 3 and 9 tokens are graphs of 8, 4 and 16 lines.
  it.each([MODELS[0]!, MODELS[5]!])(
    '%s, on %i ranks, prompts captured',
    async (_, ranks, folder) => {
      const model = await folderOf(folder);
      await expectSameOnRanks(ranks, { model }, { capturedPrompts: 32 });
    },
  );
});

it('a launch on ranks has several steps where drains are long, and one drain for all', async () => {
  // Beside a step on any machine.
  const tollNs = 40e6;
  const { crossings, ...base } = referenceProfile('h100-native');
  const d2h = { ...crossings.d2h, pinned: { ...crossings.d2h.pinned, idleTollNs: tollNs } };
  const law = profileLaw({ ...base, crossings: { ...crossings, d2h } });
  const burst = { tollNs, interTokenLimitNs: 60e9 };
  const model = await folderOf({});
  const limits = { model, maxRows: 3, maxBatchTokens: 32, maxModelTokens: 64, burst };
  const wanted = request('1', PROMPTS[0]!, { maxTokens: 16 });
  const run = async (device: Device, policy: PolicyName) =>
    withEngine(engineOptions(device, { ...limits, policy }), async (engine) => ({
      ...(await generate(engine, wanted)),
      stats: engine.stats(),
    }));
  const { tokens } = await run(await openCpuDevice({ threads: 1 }), 'drain-first');
  const ranks = splitDevice(await openCpuDevice({ threads: 1, law }), 2);
  const found = await run(ranks, 'resident');
  expect(found.tokens).toEqual(tokens);
  const { steps, graphLaunches, bridge } = found.stats;
  const drains = bridge.totals.find(({ direction }) => direction === 'd2h')!;
  expect(drains.crossings).toBeLessThan(0.75 * steps);
  // A graph of each step: none may hold the launching thread before all ranks have theirs.
  expect(graphLaunches).toBeGreaterThanOrEqual(wanted.sampling.maxTokens - 1);
});

const FEW_EXPERTS: readonly (readonly [string, number, ModelFolderOptions])[] = [
  [
    'Qwen3-MoE in FP8, a dense layer among them, an odd number of experts',
    2,
    {
      architecture: 'Qwen3MoeForCausalLM',
      config: {
        num_experts: 5,
        num_experts_per_tok: 2,
        moe_intermediate_size: 24,
        mlp_only_layers: [0],
      },
      quantization: { quant_method: 'fp8', weight_block_size: [8, 16] },
    },
  ],
  [
    'gpt-oss in MXFP4 with biases, whose experts have an odd number of blocks',
    3,
    {
      architecture: 'GptOssForCausalLM',
      quantization: { quant_method: 'mxfp4' },
      config: {
        attention_bias: true,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        num_local_experts: 7,
        num_experts_per_tok: 3,
        sliding_window: 8,
        intermediate_size: 96,
      },
    },
  ],
  [
    'every line to all experts',
    2,
    {
      architecture: 'Qwen3MoeForCausalLM',
      storedType: 'f32',
      config: { num_experts: 3, num_experts_per_tok: 3, moe_intermediate_size: 16 },
    },
  ],
];

describe('ranks with whole experts answer as one device does', () => {
  it.each(FEW_EXPERTS)('%s, on %i ranks', async (_, ranks, folder) =>
    expectSameOnRanks(ranks, { model: await folderOf(folder), expertParallel: true }),
  );

  it.each(POLICIES)('under %s', async (policy) => {
    const [, ranks, folder] = FEW_EXPERTS[1]!;
    await expectSameOnRanks(ranks, { model: await folderOf(folder), expertParallel: true, policy });
  });

  it('where a router sends everything to the experts of one rank', async () => {
    const [, , folder] = FEW_EXPERTS[1]!;
    const model = await folderOf(folder);
    await biasRouters(model, [8, 8, 8]);
    await expectSameOnRanks(3, { model, expertParallel: true });
  });
});

/** Adds to the routers' biases, first experts first: more than any logit. */
async function biasRouters(folder: string, first: readonly number[]): Promise<void> {
  const path = join(folder, 'model.safetensors');
  const file = await readFile(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { readonly dtype: string; readonly data_offsets: readonly [number, number] }
  >;
  const routers = Object.entries(header).filter(([name]) => name.endsWith('router.bias'));
  expect(routers.length).toBeGreaterThan(0);
  for (const [, { dtype, data_offsets: offsets }] of routers) {
    expect(dtype).toBe('BF16');
    for (const [expert, value] of first.entries()) {
      // bf16 has the upper half of an f32.
      const bits = new Uint32Array(new Float32Array([value]).buffer)[0]! >>> 16;
      file.writeUInt16LE(bits, 8 + headerBytes + offsets[0] + 2 * expert);
    }
  }
  await writeFile(path, file);
}

describe('what cannot be divided is refused by name', () => {
  const FOUR = { num_attention_heads: 4, num_key_value_heads: 4 };
  it.each([
    ['4 attention heads cannot be divided among 3 ranks', 3, { config: FOUR }],
    [
      '3 KV heads cannot be divided among 2 ranks',
      2,
      { config: { num_attention_heads: 6, num_key_value_heads: 3 } },
    ],
    ['90 columns between gate and down', 4, { config: { ...FOUR, intermediate_size: 90 } }],
    [
      'FP8 blocks of 40 inputs cannot be cut at input 32',
      2,
      { quantization: { ...QUANTIZED, weight_block_size: [16, 40] } },
    ],
    [
      '3 blocks of 32 MXFP4 codes cannot be divided among 2 ranks: take a number that divides ' +
        'them, or --enable-expert-parallel',
      2,
      {
        architecture: 'GptOssForCausalLM',
        quantization: { quant_method: 'mxfp4' },
        config: {
          attention_bias: true,
          num_local_experts: 3,
          num_experts_per_tok: 2,
          sliding_window: 8,
          intermediate_size: 96,
        },
      },
    ],
    ['LlamaForCausalLM has no experts', 2, {}, true],
    [
      '3 experts cannot be shared out to 4 ranks',
      4,
      {
        architecture: 'Qwen3MoeForCausalLM',
        config: { ...FOUR, num_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 16 },
      },
      true,
    ],
  ] as const)('%s', async (message, ranks, folder, ...[expertParallel]) => {
    const alone = await openCpuDevice({ threads: 1 });
    const model = await folderOf(folder as ModelFolderOptions);
    const limits = { model, expertParallel: expertParallel === true, maxModelTokens: 64 };
    const options = engineOptions(splitDevice(alone, ranks), limits);
    await expect(createEngine(options)).rejects.toThrow(message);
    expect(alone.counters().allocatedBytes).toBe(0);
    await alone.close();
  });
});

it('a rank that fails ends all requests with an error', async () => {
  const device = splitDevice(await openCpuDevice({ threads: 1 }), 2);
  const small = { maxRows: 3, maxBatchTokens: 32, maxModelTokens: 256 };
  await withEngine(engineOptions(device, small), async (engine) => {
    const wanted = PROMPTS.map((prompt, i) => request(`${i}`, prompt, { maxTokens: 200 }));
    const outcomes = wanted.map((each) => generate(engine, each));
    const { device: second } = device.ranks[1]!;
    const buffer = second.allocate(16, 'too small');
    const out = { buffer, offsetBytes: 0, bytes: 16 };
    const wrong = { elements: 64, type: 'f32', mean: 0, spread: 0, seed: 0 } as const;
    second.createStream('what fails').launch('fill-uniform', { out, ...wrong });
    for (const { finish } of await Promise.all(outcomes)) expect(finish.reason).toBe('error');
  });
});
