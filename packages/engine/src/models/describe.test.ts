import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkSampling, GREEDY } from '../request/sampling.ts';
import { smallConfig } from '../selftest/model-folder.ts';
import { parameterCount } from '../testing/parameter-count.ts';
import { describeModel } from './describe.ts';
import { ModelError } from './errors.ts';
import { readModelSpec } from './folder.ts';
import { rankSpec } from './rank-slice.ts';
import { readSamplingDefaults } from './sampling-defaults.ts';
import type { ModelSpec } from './spec.ts';

const inRepository = (path: string) =>
  fileURLToPath(new URL(`../../../../${path}`, import.meta.url));

const rejection = (code: string, ...words: readonly string[]) =>
  expect.objectContaining({
    name: 'ModelError',
    code,
    message: expect.stringMatching(words.map((word) => `(?=.*${word})`).join('')) as string,
  });

/** Of a layer that projects keys and values for its heads. */
const ownHeads = (layer: number, kvHeads: number, headDim: number) =>
  ({ kvHeads, headDim, lineKv: 'keys and values', kvLayer: layer }) as const;

const FULL = ['full_attention', 'full_attention'];

function describing(config: Record<string, unknown>) {
  return () => describeModel(smallConfig({ config }));
}

describe('published configurations', () => {
  test('storyteller', async () => {
    const spec = await readModelSpec(inRepository('models/storyteller'));
    expect(spec).toEqual({
      architecture: 'LlamaForCausalLM',
      hiddenSize: 256,
      layers: 8,
      heads: 4,
      layerKinds: Array.from({ length: 8 }, (_, layer) => ({
        mixer: 'attention',
        ...ownHeads(layer, 2, 64),
        window: 0,
        rope: 0,
        feedForward: { kind: 'dense', intermediateSize: 768, bias: false, activation: 'silu' },
      })),
      vocabularySize: 4096,
      rmsNormEpsilon: 1e-5,
      maxPositions: 512,
      ropes: [{ theta: 10_000, scaling: { type: 'none' }, rotaryDim: 64 }],
      normOffset: 0,
      norms: { before: true, after: false },
      embeddingScale: 1,
      attentionScale: 1 / 8,
      residualScale: 1,
      logits: { scale: 1, cap: 0 },
      queryScaling: null,
      qkvBias: false,
      outputBias: false,
      fusedModules: false,
      qkNorm: 'none',
      valueNorm: false,
      layerScale: false,
      perLayer: null,
      attentionGate: false,
      deltaNet: null,
      latent: null,
      attentionSinks: false,
      tiedHead: true,
      eosTokenIds: [0],
      bosTokenId: 0,
      storedType: 'bf16',
      quantization: null,
    });
  });

  test('Qwen3-8B', async () => {
    const spec = await readModelSpec(inRepository('packages/engine/configs/qwen3-8b'));
    expect(spec).toMatchObject({ qkNorm: 'heads', qkvBias: false, tiedHead: false });
    expect(spec.layerKinds[7]).toMatchObject({ kvHeads: 8, headDim: 128 });
    // The model card says 8.2 billion parameters, 6.95 of them outside the embeddings.
    expect(parameterCount(spec)).toBe(8_190_735_360);
    expect(parameterCount(spec) - 2 * 151_936 * 4096).toBeCloseTo(6.95e9, -7);
  });

  test('Gemma-4-31B', async () => {
    const spec = await readModelSpec(inRepository('packages/engine/configs/gemma-4-31b'));
    // Its card says 30.7 billion parameters, without what sees.
    expect(parameterCount(spec) / 1e9).toBeCloseTo(30.7, 1);
    const [local, full] = [spec.layerKinds[4], spec.layerKinds[5]];
    expect(local).toMatchObject({ ...ownHeads(4, 16, 256), window: 1024, rope: 1 });
    expect(full).toMatchObject({ kvHeads: 4, headDim: 512, lineKv: 'keys', window: 0, rope: 0 });
    const turning = { type: 'proportional', factor: 1, turning: 64 };
    expect(spec.ropes[0]).toEqual({ theta: 1e6, scaling: turning, rotaryDim: 512 });
    expect(spec).toMatchObject({ tiedHead: true, attentionScale: 1, logits: { cap: 30 } });
  });

  test.each([
    // The cards: 30.5 billion parameters of which 3.3 are active, 20.9 and 3.6, 116.8 and 5.1.
    ['qwen3-30b-a3b', 30_532_122_624, 48, 128, 8],
    ['gpt-oss-20b', 20_914_757_184, 24, 32, 4],
    ['gpt-oss-120b', 116_829_156_672, 36, 128, 4],
  ])('%s', async (name, parameters, layers, experts, expertsPerToken) => {
    const spec = await readModelSpec(inRepository(`packages/engine/configs/${name}`));
    expect(spec.layerKinds).toHaveLength(layers);
    expect(spec.layerKinds[0]!.feedForward).toMatchObject({ experts, expertsPerToken });
    expect(parameterCount(spec)).toBe(parameters);
  });

  test.each([
    // The cards: 80 billion parameters of which 3 are active; 27 billion, a tower for images aside.
    ['qwen3-next-80b-a3b', 79_674_391_296, 48],
    ['qwen3.6-27b', 26_895_998_464, 64],
    ['qwen3.6-27b-fp8', 26_895_998_464, 64],
  ])('%s', async (name, parameters, layers) => {
    const spec = await readModelSpec(inRepository(`packages/engine/configs/${name}`));
    const mixers = spec.layerKinds.map(({ mixer }) => mixer);
    expect(mixers).toHaveLength(layers);
    expect(mixers.filter((mixer) => mixer === 'attention')).toHaveLength(layers / 4);
    expect(mixers.slice(0, 4)).toEqual(['delta-net', 'delta-net', 'delta-net', 'attention']);
    expect(spec.ropes).toEqual([{ theta: 1e7, scaling: { type: 'none' }, rotaryDim: 64 }]);
    expect(parameterCount(spec)).toBe(parameters);
  });

  test('Llama-3.2-1B', async () => {
    const spec = await readModelSpec(inRepository('packages/engine/configs/llama-3.2-1b'));
    expect(spec.ropes[0]!.scaling).toEqual({
      type: 'llama3',
      factor: 32,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositions: 8192,
    });
    expect(spec.maxPositions).toBe(131_072);
    expect(parameterCount(spec)).toBe(1_235_814_400);
  });
});

describe('architectures', () => {
  const spec = (config: Record<string, unknown>) => describing(config)();
  const windows = (config: Record<string, unknown>) =>
    spec(config).layerKinds.map(({ window }) => window);

  test('Llama takes its biases from the configuration', () => {
    expect(spec({ attention_bias: true, mlp_bias: true })).toMatchObject({
      qkvBias: true,
      outputBias: true,
      layerKinds: [{ feedForward: { bias: true } }, { feedForward: { bias: true } }],
    });
    const [first] = spec({ num_key_value_heads: null, head_dim: null }).layerKinds;
    expect(first).toMatchObject({ kvHeads: 4, headDim: 16 });
  });

  test('Mistral has a window unless it is null', () => {
    const architectures = ['MistralForCausalLM'];
    expect(windows({ architectures, sliding_window: 4096 })).toEqual([4096, 4096]);
    expect(windows({ architectures, sliding_window: null })).toEqual([0, 0]);
    expect(windows({ architectures, sliding_window: undefined })).toEqual([4096, 4096]);
  });

  test('Qwen2 has q, k and v biases, and a window only when told to use it', () => {
    const architectures = ['Qwen2ForCausalLM'];
    const window = { architectures, sliding_window: 128, max_window_layers: 0 };
    expect(spec({ architectures })).toMatchObject({ qkvBias: true, outputBias: false });
    expect(windows({ ...window, use_sliding_window: false })).toEqual([0, 0]);
    expect(windows({ ...window, use_sliding_window: true })).toEqual([128, 128]);
    const none = { ...window, use_sliding_window: true, max_window_layers: 2 };
    expect(windows(none)).toEqual([0, 0]);
    expect(windows({ ...none, max_window_layers: 1 })).toEqual([0, 128]);
  });

  const MOE = {
    architectures: ['Qwen3MoeForCausalLM'],
    num_experts: 6,
    num_experts_per_tok: 2,
    moe_intermediate_size: 48,
  };

  test('Qwen3-MoE has experts where its keys say so, and weighs them as they say', () => {
    const experts = {
      kind: 'experts',
      experts: 6,
      expertsPerToken: 2,
      intermediateSize: 48,
      routerBias: false,
      weighing: 'softmax-all',
      weightScale: 1,
      choiceBias: false,
      groups: null,
      bias: false,
      gate: { limit: Number.POSITIVE_INFINITY, alpha: 1, shift: 0 },
      stored: 'modules',
      shared: null,
      beside: null,
    };
    const kinds = (more: Record<string, unknown>) =>
      spec({ ...MOE, num_hidden_layers: 4, ...more }).layerKinds.map(
        ({ feedForward }) => feedForward.kind,
      );
    const kind = { mixer: 'attention', window: 0, rope: 0, feedForward: experts } as const;
    expect(spec(MOE).layerKinds).toEqual(
      [0, 1].map((layer) => ({ ...kind, ...ownHeads(layer, 2, 16) })),
    );
    const [first] = spec({ ...MOE, norm_topk_prob: true }).layerKinds;
    expect(first!.feedForward).toEqual({ ...experts, weighing: 'softmax-chosen' });
    expect(kinds({ mlp_only_layers: [1] })).toEqual(['experts', 'dense', 'experts', 'experts']);
    expect(kinds({ decoder_sparse_step: 2 })).toEqual(['dense', 'experts', 'dense', 'experts']);
    expect(spec({ ...MOE, model_type: 'qwen3_moe', architectures: null }).qkNorm).toBe('heads');
  });

  const PHI = { architectures: ['Phi3ForCausalLM'] };

  test('Phi-3 has fused modules, and a window where one is given', () => {
    expect(spec(PHI)).toMatchObject({ fusedModules: true, qkvBias: false, tiedHead: false });
    expect(spec(PHI).layerKinds.map(({ window }) => window)).toEqual([0, 0]);
    expect(spec({ ...PHI, sliding_window: 7 }).layerKinds.map(({ window }) => window)).toEqual([
      7, 7,
    ]);
  });

  test('Phi-4-mini, whose positions are stretched otherwise, is refused', () => {
    const rope = { type: 'longrope', short_factor: [1], long_factor: [2] };
    expect(describing({ ...PHI, rope_scaling: rope })).toThrow(
      rejection('unsupported', 'longrope'),
    );
  });

  test('a part of heads rotates, of an even number of dims', () => {
    const rotary = (factor: unknown) => describing({ ...PHI, partial_rotary_factor: factor });
    expect(rotary(0.75)().ropes[0]).toMatchObject({ rotaryDim: 12 });
    for (const factor of [0, 0.2, 1.5, '1']) {
      expect(rotary(factor)).toThrow(rejection('unsupported', 'partial_rotary_factor'));
    }
  });

  const SMOL = { architectures: ['SmolLM3ForCausalLM'], num_hidden_layers: 5 };

  test('SmolLM3 rotates where its list says so, else in all layers but every fourth', () => {
    const rotations = (more: Record<string, unknown>) =>
      spec({ ...SMOL, ...more }).layerKinds.map(({ rope }) => rope !== null);
    expect(rotations({})).toEqual([true, true, true, false, true]);
    expect(rotations({ no_rope_layer_interval: 2 })).toEqual([true, false, true, false, true]);
    const named = [0, 1, 1, 1, 0, 1];
    expect(rotations({ no_rope_layers: named })).toEqual([false, true, true, true, false]);
    expect(spec({ ...SMOL, tie_word_embeddings: undefined }).tiedHead).toBe(true);
  });

  test.each([[[1, 1]], [[1, 1, 1, 2, 1]], [4]])(
    'SmolLM3 with no_rope_layers %j is refused',
    (list) => {
      const refused = describing({ ...SMOL, no_rope_layers: list });
      expect(refused).toThrow(rejection('malformed', 'no_rope_layers'));
    },
  );

  const SEEING = { architecture: 'Mistral3ForConditionalGeneration' } as const;

  test('of a model that also sees, the text model is described', () => {
    const config = smallConfig({ ...SEEING, config: { sliding_window: null } });
    const described = describeModel({ ...config, tie_word_embeddings: false });
    expect(described).toMatchObject({ architecture: SEEING.architecture, hiddenSize: 64 });
    expect(described).toMatchObject({ storedType: 'bf16', eosTokenIds: [0], tiedHead: false });
  });

  test('what its text model has and is not read is refused, and where it has none', () => {
    const config = smallConfig(SEEING);
    const text = config.text_config as Record<string, unknown>;
    const rope = { rope_type: 'default', rope_theta: 1e6, low_freq_factor: 0.1 };
    const unread = { ...text, rope_theta: undefined, rope_parameters: rope };
    const refused = () => describeModel({ ...config, text_config: unread });
    expect(refused).toThrow(rejection('unsupported', 'low_freq_factor'));
    const none = () => describeModel({ ...config, text_config: null });
    expect(none).toThrow(rejection('malformed', 'text_config'));
    const other = () => describeModel({ ...config, speech_config: {} });
    expect(other).toThrow(rejection('unsupported', 'speech_config'));
  });

  test.each<[Record<string, unknown>, string, string]>([
    [{ num_experts: 1 }, 'malformed', '1 experts'],
    [{ num_experts: 2048 }, 'unsupported', 'num_experts'],
    [{ num_experts: null }, 'malformed', 'num_experts'],
    [{ num_experts_per_tok: 0 }, 'malformed', 'num_experts_per_tok'],
    [{ moe_intermediate_size: null }, 'malformed', 'moe_intermediate_size'],
    [{ mlp_only_layers: ['0'] }, 'malformed', 'mlp_only_layers'],
    [{ n_shared_experts: 1 }, 'unsupported', 'n_shared_experts'],
    [{ quantization_config: { quant_method: 'mxfp4' } }, 'unsupported', 'mxfp4'],
  ])('Qwen3-MoE with %j is refused', (more, code, word) => {
    expect(describing({ ...MOE, ...more })).toThrow(rejection(code, word));
  });

  const OSS = {
    architectures: ['GptOssForCausalLM'],
    attention_bias: true,
    sliding_window: 16,
    num_local_experts: 5,
    num_experts_per_tok: 2,
    quantization_config: { quant_method: 'mxfp4', modules_to_not_convert: ['lm_head'] },
  };

  test('gpt-oss has sinks, a window in every other layer, and stacked experts with biases', () => {
    const described = spec({ ...OSS, num_hidden_layers: 3 });
    expect(described).toMatchObject({ attentionSinks: true, qkvBias: true, outputBias: true });
    expect(described.layerKinds.map(({ window }) => window)).toEqual([16, 0, 16]);
    expect(windows({ ...OSS, layer_types: ['full_attention', 'sliding_attention'] })).toEqual([
      0, 16,
    ]);
    expect(described.layerKinds[0]!.feedForward).toEqual({
      kind: 'experts',
      experts: 5,
      expertsPerToken: 2,
      intermediateSize: 96,
      routerBias: true,
      weighing: 'softmax-chosen',
      weightScale: 1,
      choiceBias: false,
      groups: null,
      bias: true,
      gate: { limit: 7, alpha: 1.702, shift: 1 },
      stored: 'mxfp4 stack',
      shared: null,
      beside: null,
    });
  });

  test.each<[Record<string, unknown>, string, string]>([
    [{ quantization_config: null }, 'unsupported', 'mxfp4'],
    [{ quantization_config: { quant_method: 'fp8' } }, 'unsupported', 'mxfp4'],
    [{ intermediate_size: 100 }, 'malformed', 'blocks of 32'],
    [{ experts_per_token: 4 }, 'malformed', 'experts_per_token'],
    [{ num_experts_per_tok: 8 }, 'malformed', '5 experts'],
    [{ layer_types: ['full_attention', 'chunked_attention'] }, 'unsupported', 'chunked'],
  ])('gpt-oss with %j is refused', (more, code, word) => {
    expect(describing({ ...OSS, ...more })).toThrow(rejection(code, word));
  });

  test('Qwen3 normalises heads and has a head size of its own', () => {
    const architectures = ['Qwen3ForCausalLM'];
    const described = spec({ architectures, head_dim: undefined });
    expect(described.qkNorm).toBe('heads');
    expect(described.layerKinds[0]!.headDim).toBe(128);
  });
});

describe('newcomers', () => {
  const described = (architecture: string, config: Record<string, unknown>) => () =>
    describeModel(smallConfig({ architecture, config }));
  const windowsOf = ({ layerKinds }: ReturnType<typeof describeModel>) =>
    layerKinds.map(({ window, rope }) => [window, rope]);
  const GEMMA = { hidden_act: undefined, num_hidden_layers: 6, sliding_window: 9 };

  test('Gemma 3 turns windowed layers by a base of their own, in both spellings', () => {
    const old = { ...GEMMA, rope_theta: 1e6, rope_local_base_freq: 1e4 };
    const scaled = { ...old, rope_scaling: { rope_type: 'linear', factor: 8 } };
    const byType = {
      full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
      sliding_attention: { rope_type: 'default', rope_theta: 1e4 },
    };
    const fresh = { ...GEMMA, rope_theta: undefined, rope_parameters: byType };
    const spec = described('Gemma3ForCausalLM', scaled)();
    expect(described('Gemma3ForCausalLM', fresh)()).toEqual(spec);
    expect(spec.ropes).toMatchObject([
      { theta: 1e6, scaling: { type: 'linear', factor: 8 } },
      { theta: 1e4, scaling: { type: 'none' } },
    ]);
    expect(windowsOf(spec)).toEqual([...new Array(5).fill([9, 1]), [0, 0]]);
    expect(spec).toMatchObject({ normOffset: 1, embeddingScale: 8, attentionScale: 1 / 16 });
  });

  const GEMMA4 = {
    ...GEMMA,
    hidden_size_per_layer_input: 0,
    head_dim: undefined,
    rope_theta: undefined,
  };

  test('Gemma 4 has heads of two sizes, and layers that take the keys and values of others', () => {
    const shared = { ...GEMMA4, num_hidden_layers: 12, num_kv_shared_layers: 5 };
    const spec = described('Gemma4ForCausalLM', { ...shared, use_double_wide_mlp: true })();
    const heads = spec.layerKinds.map(({ headDim, lineKv, kvLayer }) => [headDim, lineKv, kvLayer]);
    const both = 'keys and values';
    expect(heads.slice(0, 7)).toEqual([
      ...[0, 1, 2, 3, 4].map((layer) => [256, both, layer]),
      ...[
        [512, both, 5],
        [256, both, 6],
      ],
    ]);
    expect(heads.slice(7)).toEqual([...new Array(4).fill([256, 'none', 6]), [512, 'none', 5]]);
    const widths = spec.layerKinds.map(({ feedForward }) => feedForward.intermediateSize);
    expect(widths).toEqual([...new Array(7).fill(96), ...new Array(5).fill(192)]);
    expect(spec.ropes).toMatchObject([{ rotaryDim: 512 }, { theta: 1e4, rotaryDim: 256 }]);
  });

  test('Gemma 4 has inputs for each layer unless none are said to be', () => {
    const perLayer = (more: Record<string, unknown>) =>
      described('Gemma4ForCausalLM', { ...GEMMA4, ...more })().perLayer;
    expect(perLayer({})).toBeNull();
    expect(perLayer({ hidden_size_per_layer_input: null })).toBeNull();
    const usual = { width: 256, vocabularySize: 262_144 };
    expect(perLayer({ hidden_size_per_layer_input: undefined })).toEqual(usual);
  });

  test.each<[Record<string, unknown>, string, string]>([
    [{ use_bidirectional_attention: 'all' }, 'unsupported', 'use_bidirectional_attention'],
    [{ num_kv_shared_layers: 6 }, 'malformed', 'num_kv_shared_layers'],
    [{ num_kv_shared_layers: 1 }, 'malformed', 'full_attention'],
    [{ num_global_key_value_heads: 3 }, 'malformed', 'num_global_key_value_heads'],
    [{ attn_logit_softcapping: 50 }, 'unsupported', 'attn_logit_softcapping'],
    [{ global_head_dim: 511 }, 'unsupported', 'global_head_dim'],
    [{ enable_moe_block: true }, 'malformed', 'num_experts'],
    [{ enable_moe_block: true, num_experts: 4, top_k_experts: 5 }, 'malformed', 'top_k_experts'],
    [
      { hidden_size_per_layer_input: 8, vocab_size_per_layer_input: 8 },
      'malformed',
      'vocab_size_per_layer_input',
    ],
  ])('Gemma 4 with %j is refused', (more, code, word) => {
    const config = { ...GEMMA4, ...more };
    expect(described('Gemma4ForCausalLM', config)).toThrow(rejection(code, word));
  });

  test('Olmo 3 has a window in three layers of four, where its list says nothing', () => {
    const spec = described('Olmo3ForCausalLM', { num_hidden_layers: 4, sliding_window: 9 })();
    expect(windowsOf(spec)).toEqual([
      [9, 1],
      [9, 1],
      [9, 1],
      [0, 0],
    ]);
    expect(spec).toMatchObject({ qkNorm: 'whole', norms: { before: false, after: true } });
  });

  const DEEPSEEK = {
    head_dim: undefined,
    first_k_dense_replace: 1,
    n_routed_experts: 8,
    num_experts_per_tok: 3,
    n_shared_experts: 1,
    moe_intermediate_size: 24,
    n_group: 4,
    topk_group: 2,
    q_lora_rank: 24,
    kv_lora_rank: 32,
    qk_nope_head_dim: 20,
    qk_rope_head_dim: 16,
    v_head_dim: 12,
  };

  test('DeepSeek V3 has latent attention, experts of groups, and YaRN in its scores', () => {
    const rope = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096 };
    const scaled = { ...rope, mscale: 0.5, mscale_all_dim: 1 };
    const published = { ...DEEPSEEK, num_nextn_predict_layers: 1, rope_scaling: scaled };
    const spec = described('DeepseekV3ForCausalLM', published)();
    expect(spec.latent).toEqual({
      queryRank: 24,
      kvRank: 32,
      rotaryDim: 16,
      keyDim: 20,
      valueDim: 12,
    });
    const kind = { mixer: 'latent-attention', kvHeads: 1, headDim: 48, lineKv: 'keys', window: 0 };
    expect(spec.layerKinds).toMatchObject([
      { ...kind, kvLayer: 0, feedForward: { kind: 'dense' } },
      {
        ...kind,
        kvLayer: 1,
        feedForward: { kind: 'experts', groups: { count: 4, kept: 2 }, choiceBias: true },
      },
    ]);
    // 0.1 ln 40 + 1, twice; the ratio of both magnitudes is in cos and sin.
    expect(spec.attentionScale).toBeCloseTo(1.3688879454113936 ** 2 / 6, 12);
    const [{ scaling, rotaryDim }] = spec.ropes as [ModelSpec['ropes'][number]];
    const ratio = 1.1844439727056968 / 1.3688879454113936;
    expect(scaling).toMatchObject({ type: 'yarn', factor: 40, attentionFactor: ratio });
    expect(rotaryDim).toBe(16);
    const plain = described('DeepseekV3ForCausalLM', {
      ...DEEPSEEK,
      q_lora_rank: null,
      n_group: 1,
    })();
    expect(plain.latent!.queryRank).toBeNull();
    const shared = () => rankSpec(plain, { of: 2, wholeExperts: false });
    expect(shared).toThrow(rejection('unsupported', '--tensor-parallel-size 1'));
    expect(plain.attentionScale).toBeCloseTo(1 / 6, 12);
    expect(plain.layerKinds[1]!.feedForward).toMatchObject({ groups: null });
  });

  test.each<[string, Record<string, unknown>, string, string]>([
    [
      'Gemma3ForCausalLM',
      { ...GEMMA, hidden_act: 'silu', attn_logit_softcapping: 50 },
      'unsupported',
      'attn_logit_softcapping',
    ],
    [
      'Gemma3ForCausalLM',
      { ...GEMMA, hidden_activation: 'relu' },
      'unsupported',
      'gelu_pytorch_tanh',
    ],
    [
      'Glm4MoeForCausalLM',
      { n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 8, n_group: 2 },
      'unsupported',
      'n_group',
    ],
    [
      'Glm4MoeForCausalLM',
      { n_routed_experts: 4, num_experts_per_tok: 5, moe_intermediate_size: 8 },
      'malformed',
      '4 experts',
    ],
    ['Qwen3_5ForCausalLM', { attn_output_gate: false }, 'unsupported', 'attn_output_gate'],
    ['Qwen3_5ForCausalLM', { linear_conv_kernel_dim: 3 }, 'unsupported', 'linear_conv_kernel_dim'],
    ['Qwen3_5ForCausalLM', { linear_num_key_heads: 3 }, 'malformed', 'linear_num_key_heads'],
    [
      'Qwen3_5ForCausalLM',
      { layer_types: ['sliding_attention', 'full_attention'] },
      'unsupported',
      'linear_attention',
    ],
    [
      'MiniMaxM2ForCausalLM',
      { num_local_experts: 4, num_experts_per_tok: 2, attn_type_list: [1, 0] },
      'unsupported',
      'attn_type_list',
    ],
    [
      'LlamaForCausalLM',
      {
        rope_theta: undefined,
        rope_parameters: { rope_type: 'default', rope_theta: 1e4, llama_4_scaling_beta: 0.1 },
      },
      'unsupported',
      'llama_4_scaling_beta',
    ],
    ['DeepseekV2ForCausalLM', {}, 'unsupported', 'DeepseekV3ForCausalLM'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, n_group: 3 }, 'unsupported', 'n_group'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, n_group: 8 }, 'unsupported', 'at least two'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, topk_group: 5 }, 'malformed', 'topk_group'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, topk_group: 1 }, 'malformed', 'a token has 3'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, head_dim: 8 }, 'malformed', 'head_dim'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, rope_interleave: false }, 'unsupported', 'true'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, topk_method: 'greedy' }, 'unsupported', 'noaux_tc'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, moe_layer_freq: 2 }, 'unsupported', 'moe_layer_freq'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, attention_bias: true }, 'unsupported', 'bias'],
    ['DeepseekV3ForCausalLM', { ...DEEPSEEK, index_topk: 2048 }, 'unsupported', 'index_topk'],
  ])('%s with %j is refused', (architecture, config, code, word) => {
    expect(described(architecture, config)).toThrow(rejection(code, word));
  });
});

describe('spellings', () => {
  const yarn = { factor: 4, original_max_position_embeddings: 64 };

  test('rope_parameters and rope_scaling say the same', () => {
    const old = describing({ rope_theta: 5e5, rope_scaling: { type: 'yarn', ...yarn } })();
    const parameters = { rope_type: 'yarn', rope_theta: 5e5, ...yarn };
    const fresh = describing({ rope_theta: undefined, rope_parameters: parameters })();
    expect(fresh).toEqual(old);
    expect(fresh.ropes[0]).toEqual({
      theta: 5e5,
      rotaryDim: 16,
      scaling: {
        type: 'yarn',
        factor: 4,
        originalMaxPositions: 64,
        betaFast: 32,
        betaSlow: 1,
        attentionFactor: 0.1 * Math.log(4) + 1,
        truncate: true,
      },
    });
    expect(fresh.maxPositions).toBe(256);
  });

  test('dtype and torch_dtype say the same', () => {
    const spec = (config: Record<string, unknown>) => describing(config)().storedType;
    expect(spec({ torch_dtype: 'float16' })).toBe('f16');
    expect(spec({ torch_dtype: undefined, dtype: 'float32' })).toBe('f32');
    expect(spec({ torch_dtype: undefined })).toBe(undefined);
    expect(spec({ torch_dtype: 'auto' })).toBe(undefined);
    expect(spec({ torch_dtype: 'torch.float16' })).toBe('f16');
  });

  test('end-of-sequence ids are those of both files', () => {
    const config = smallConfig({ config: { eos_token_id: 5 } });
    expect(describeModel(config, { eos_token_id: [7, 5] }).eosTokenIds).toEqual([7, 5]);
    expect(describeModel(smallConfig({ config: { eos_token_id: null } })).eosTokenIds).toEqual([]);
    expect(describeModel(smallConfig({ config: { bos_token_id: -1 } })).bosTokenId).toBe(undefined);
  });

  test('yarn magnitudes', () => {
    const factor = (more: Record<string, unknown>) => {
      const { scaling } = describing({ rope_scaling: { type: 'yarn', ...yarn, ...more } })()
        .ropes[0]!;
      return scaling.type === 'yarn' ? scaling.attentionFactor : Number.NaN;
    };
    expect(factor({ attention_factor: 0.5 })).toBe(0.5);
    const ratio = (0.1 * 0.7 * Math.log(4) + 1) / (0.1 * 1.3 * Math.log(4) + 1);
    expect(factor({ mscale: 0.7, mscale_all_dim: 1.3 })).toBeCloseTo(ratio, 15);
    expect(factor({ mscale: 0.7 })).toBeCloseTo(0.1 * Math.log(4) + 1, 15);
    expect(factor({ factor: 1 })).toBe(1);
    // DeepSeek-R1-0528-Qwen3-8B: its value undoes the paper's magnitude.
    expect(factor({ attn_factor: 0.8782488562869419 })).toBeCloseTo(1, 12);
    expect(factor({ attn_factor: 2, attention_factor: 0.5 })).toBe(0.5);
  });
});

describe('what is refused, and how', () => {
  test.each<[Record<string, unknown>, string, ...string[]]>([
    [{ architectures: ['GPT2LMHeadModel'] }, 'unsupported', 'architectures', 'Qwen3ForCausalLM'],
    [{ architectures: undefined }, 'unsupported', 'architectures', 'LlamaForCausalLM'],
    [{ quantization_config: { quant_method: 'aqlm' } }, 'unsupported', 'aqlm', 'awq', 'bf16'],
    [{ quantization_config: { quant_method: 'awq' } }, 'malformed', 'bits'],
    [{ hidden_act: 'gelu' }, 'unsupported', 'hidden_act', 'silu'],
    [{ rope_scaling: { type: 'longrope' } }, 'unsupported', 'longrope', 'llama3'],
    [{ rope_scaling: { factor: 2 } }, 'malformed', 'rope_scaling', 'rope_type'],
    [{ rope_scaling: { type: 'linear' } }, 'malformed', 'rope_scaling', 'factor'],
    [{ rope_scaling: [] }, 'malformed', 'rope_scaling', 'object'],
    [{ rope_parameters: { full_attention: {} } }, 'malformed', 'rope_parameters', 'rope_type'],
    [{ partial_rotary_factor: 0 }, 'unsupported', 'partial_rotary_factor', 'even number'],
    [{ torch_dtype: ['float32'] }, 'unsupported', 'torch_dtype', 'bfloat16'],
    [{ torch_dtype: 'float8_e4m3fn' }, 'unsupported', 'torch_dtype', 'bfloat16'],
    [
      { layer_types: ['full_attention', 'sliding_attention'] },
      'unsupported',
      'layer_types',
      'layer 1',
    ],
    [{ layer_types: ['full_attention'] }, 'malformed', 'layer_types', '1 entries'],
    [{ hidden_size: 64.5 }, 'malformed', 'hidden_size', '64.5'],
    [{ hidden_size: '64' }, 'malformed', 'hidden_size', 'whole number'],
    [{ hidden_size: -1 }, 'malformed', 'hidden_size', '-1'],
    [{ hidden_size: 1e300 }, 'malformed', 'hidden_size', '2147483647'],
    [{ num_hidden_layers: undefined }, 'malformed', 'num_hidden_layers', 'missing'],
    [{ num_key_value_heads: 3 }, 'malformed', 'num_key_value_heads', 'divide'],
    [{ hidden_size: 65, head_dim: null }, 'malformed', 'head_dim', '16.25'],
    [{ head_dim: 15 }, 'unsupported', 'head_dim', 'even'],
    [{ rms_norm_eps: 0 }, 'malformed', 'rms_norm_eps', 'above 0'],
    [{ rope_theta: 'x' }, 'malformed', 'rope_theta', 'above 0'],
    [{ tie_word_embeddings: 1 }, 'malformed', 'tie_word_embeddings', 'true or false'],
    [{ eos_token_id: 4096 }, 'malformed', 'eos_token_id', 'below'],
    [{ eos_token_id: ['0'] }, 'malformed', 'eos_token_id', 'token ids'],
  ])('%j', (config, code, ...words) => {
    expect(describing(config)).toThrow(rejection(code, 'config.json', ...words));
  });

  test.each([[null], [[]], [3], ['text']])('config.json of %j', (config) => {
    expect(() => describeModel(config)).toThrow(rejection('malformed', 'config.json'));
  });

  test('any value under any key gives a spec or a ModelError', () => {
    const keys = Object.keys(smallConfig());
    const values = fc.oneof(fc.jsonValue(), fc.double(), fc.constant({ type: 'yarn' }));
    fc.assert(
      fc.property(fc.constantFrom(...keys, 'rope_scaling', 'layer_types'), values, (key, value) => {
        try {
          describeModel(smallConfig({ config: { [key]: value } }));
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test.each<Record<string, unknown>>([
    { pretraining_tp: 7, use_cache: false, transformers_version: '5.17.0' },
    { attention_multiplier: null, quantization: null, something_new: null },
    {
      embedding_multiplier: 1,
      residual_multiplier: 1.0,
      logits_scaling: 1,
      no_rope_layers: [1, 1],
    },
    { bos_token_id: -1, rope_scaling: { rope_type: 'default', factor: 1 } },
    { use_sliding_window: false, max_window_layers: 28, layer_types: FULL },
    { architectures: undefined, model_type: 'llama' },
    { dtype: 'torch.bfloat16' },
  ])('%j changes nothing', (config) => {
    const { bosTokenId: _, ...found } = describing(config)();
    const { bosTokenId: __, ...plain } = describing({})();
    expect(found).toEqual(plain);
  });

  test.each<[Record<string, unknown>, ...string[]]>([
    [{ no_rope_layers: [1, 0] }, 'no_rope_layers', 'LlamaForCausalLM'],
    [{ embedding_multiplier: 12 }, 'embedding_multiplier', '12'],
    [{ residual_multiplier: 0.22 }, 'residual_multiplier'],
    [{ attention_multiplier: 0.0078125 }, 'attention_multiplier', 'not implemented'],
    [{ logits_scaling: 8 }, 'logits_scaling'],
    [{ quantization: { group_size: 64, bits: 4 } }, 'quantization', 'MLX', 'unquantised'],
    [{ dual_chunk_attention_config: { chunk_size: 262144 } }, 'dual_chunk_attention_config'],
    [{ something_new: false }, 'something_new', 'not known', 'take it out'],
    [{ architectures: ['Qwen2ForCausalLM'], mlp_bias: true }, 'mlp_bias', 'Qwen2ForCausalLM'],
    [{ rope_scaling: { type: 'linear', factor: 2, llama_4_scaling_beta: 0.1 } }, 'llama_4_scaling'],
    [{ layer_types: ['linear_attention', 'full_attention'] }, 'layer_types', 'full_attention'],
    [{ layer_types: ['sliding_attention', 'full_attention'] }, 'layer_types', 'full_attention'],
    [{ architectures: undefined, model_type: 'mamba' }, 'architectures', 'mamba'],
    [{ num_hidden_layers: 1_000_000 }, 'num_hidden_layers', '1024'],
  ])('%j changes the arithmetic and is refused by name', (config, ...words) => {
    expect(describing(config)).toThrow(rejection('unsupported', 'config.json', ...words));
  });
});

describe('sampling defaults', () => {
  const read = (config: Record<string, unknown>) => {
    const bytes = new TextEncoder().encode(JSON.stringify(config));
    const contents = new Map([['generation_config.json', bytes]]);
    return readSamplingDefaults({ folder: 'model', contents });
  };

  test('those of the bundled model are none', async () => {
    expect(await readSamplingDefaults(inRepository('models/storyteller'))).toEqual({});
  });

  test('what requests may ask for is taken; a top_k of -1 is none', async () => {
    const config = { temperature: 0.6, top_k: -1, top_p: 0.95, min_p: 0, repetition_penalty: 1.05 };
    const expected = { temperature: 0.6, topK: 0, topP: 0.95, minP: 0, repetitionPenalty: 1.05 };
    expect(await read({ ...config, do_sample: false })).toEqual(expected);
    const params = { ...GREEDY, ...expected, temperature: 100, minP: 1, repetitionPenalty: 100 };
    expect(() => checkSampling(params, 10)).not.toThrow();
  });

  test.each([
    ['temperature', -1],
    ['temperature', 101],
    ['temperature', '0.6'],
    ['top_k', 1.5],
    ['top_k', -2],
    ['top_p', 0],
    ['top_p', 1.1],
    ['min_p', 1.1],
    ['repetition_penalty', 0],
    ['repetition_penalty', 101],
  ])('%s of %j is refused, as it is in a request', async (key, value) => {
    const words = ['generation_config.json', key, 'no request'];
    await expect(read({ [key]: value })).rejects.toEqual(rejection('malformed', ...words));
    const name = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    expect(() => checkSampling({ ...GREEDY, [name]: value }, 10)).toThrow(key);
  });
});
