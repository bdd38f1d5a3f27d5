import { describeModel, type ModelSpec } from '@bridgekeeper/engine/models';
import { PlanError } from '../errors.ts';
import { type LayerCounts, type ModelTables, tablesOf } from './tables.ts';

/** A model of an architecture that the engine does not run, as one of that size that it does. */
export interface GenericModel {
  readonly spec: ModelSpec;
  /** What is not as in the model, in sentences for the report. */
  readonly approximations: readonly string[];
  /** What a layer of each kind keeps; where a kind keeps no tokens, what stands for its state. */
  readonly kvBytesPerToken: number;
  readonly isKvDivided: boolean;
  readonly stateBytesPerRequest: number;
  readonly tables: ModelTables;
}

const BF16_BYTES = 2;
const F32_BYTES = 4;

/** What of a model's config.json matters for its size, whatever its architecture calls it. */
class Shape {
  readonly #text: Readonly<Record<string, unknown>>;
  readonly #whole: Readonly<Record<string, unknown>>;

  constructor(config: Readonly<Record<string, unknown>>) {
    const text = config.text_config ?? config.llm_config ?? config;
    this.#whole = config;
    this.#text = typeof text === 'object' && text !== null ? (text as typeof config) : config;
  }

  get(key: string): unknown {
    return this.#text[key] ?? this.#whole[key] ?? undefined;
  }

  /** The first of `keys` that is given. Throws PlanError for one that is no whole number. */
  count(...keys: readonly string[]): number | undefined {
    for (const key of keys) {
      const value = this.get(key);
      if (value === undefined) continue;
      if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31) {
        return value as number;
      }
      throw new PlanError('bad-model', `config.json: "${key}" must be a whole number`);
    }
    return undefined;
  }

  needed(...keys: readonly string[]): number {
    const value = this.count(...keys);
    if (value !== undefined && value > 0) return value;
    const message = `config.json: "${keys[0]}" is missing: no size to plan with`;
    throw new PlanError('bad-model', message);
  }

  layerTypes(layers: number): readonly string[] {
    const types = this.get('layer_types');
    if (Array.isArray(types) && types.length === layers) return types.map(String);
    const interval = this.count('full_attention_interval');
    return Array.from({ length: layers }, (_, layer) =>
      interval !== undefined && interval > 0 && (layer + 1) % interval !== 0
        ? 'linear_attention'
        : 'full_attention',
    );
  }
}

/**
 * Reads any decoder's config.json by its sizes: same hidden and feed-forward sizes, experts and
 * layers, and attention of as many weights, on the architecture of Qwen3. Throws PlanError
 * `bad-model` where sizes are missing.
 */
export function readGenericModel(config: Readonly<Record<string, unknown>>): GenericModel {
  const shape = new Shape(config);
  const hidden = shape.needed('hidden_size', 'n_embd', 'd_model');
  const layers = shape.needed('num_hidden_layers', 'n_layer', 'num_layers');
  const attention = attentionOf(shape, hidden, layers);
  const feedForward = feedForwardOf(shape, layers);
  const vocabulary = shape.needed('vocab_size');
  const quantization = quantizationOf(config);
  const spec = describeModel({
    architectures: [feedForward.experts === null ? 'Qwen3ForCausalLM' : 'Qwen3MoeForCausalLM'],
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: attention.heads,
    num_key_value_heads: attention.kvHeads,
    head_dim: attention.headDim,
    vocab_size: vocabulary,
    max_position_embeddings: shape.count('max_position_embeddings') ?? 32_768,
    tie_word_embeddings: shape.get('tie_word_embeddings') === true,
    torch_dtype: 'bfloat16',
    intermediate_size: feedForward.denseSize,
    ...feedForward.experts,
    ...quantization.config,
  });
  const kinds = spec.layerKinds.map((kind, layer) => {
    return { ...kind, window: attention.windows[layer]! };
  });
  const { kvBytesPerToken, isKvDivided, stateBytesPerRequest } = attention;
  return {
    spec: { ...spec, layerKinds: kinds },
    approximations: [
      ...attention.approximations,
      ...feedForward.approximations,
      ...quantization.approximations,
    ],
    kvBytesPerToken,
    isKvDivided,
    stateBytesPerRequest,
    tables: tablesOf(attention.counts, config),
  };
}

interface Attention {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Of each layer. */
  readonly windows: readonly number[];
  readonly kvBytesPerToken: number;
  readonly isKvDivided: boolean;
  readonly stateBytesPerRequest: number;
  readonly counts: LayerCounts;
  readonly approximations: readonly string[];
}

function attentionOf(shape: Shape, hidden: number, layers: number): Attention {
  const heads = shape.needed('num_attention_heads', 'n_head');
  const headDim = shape.count('head_dim') ?? Math.floor(hidden / heads);
  const latent = shape.count('kv_lora_rank');
  if (latent !== undefined) return latentAttention(shape, hidden, layers, heads, latent);
  const kvHeads = shape.count('num_key_value_heads') ?? heads;
  const tokenBytes = 2 * kvHeads * headDim * BF16_BYTES;
  const types = shape.layerTypes(layers);
  const slidingWindow = shape.count('sliding_window') ?? 4096;
  const linear = linearLayer(shape, hidden, kvHeads, headDim);
  const windows = types.map((type) => {
    if (type === 'sliding_attention') return slidingWindow;
    return type === 'linear_attention' ? Math.max(1, Math.round(linear.stepBytes / tokenBytes)) : 0;
  });
  const count = (type: string) => types.filter((each) => each === type).length;
  const others = types.filter((type) => !/^(full|sliding|linear)_attention$/.test(type)).length;
  const full = count('full_attention') + others;
  const globalHeads = shape.count('num_global_key_value_heads') ?? kvHeads;
  const globalDim = shape.count('global_head_dim') ?? headDim;
  const linearLayers = count('linear_attention');
  // As many query heads as give all of its attention layers together the weights that they have.
  const equalHeads = (weights: number) => {
    const perHead = 2 * hidden * headDim;
    return Math.max(1, Math.round((weights - 2 * hidden * kvHeads * headDim) / perHead / kvHeads));
  };
  const gated = shape.get('attn_output_gate') === true ? 3 : 2;
  const fullWeights =
    hidden * heads * globalDim * gated +
    hidden * globalHeads * globalDim * (shape.get('attention_k_eq_v') === true ? 1 : 2);
  const slidingWeights = hidden * (2 * heads + 2 * kvHeads) * headDim;
  const weights =
    (full * fullWeights +
      count('sliding_attention') * slidingWeights +
      linearLayers * linear.weights) /
    layers;
  return {
    heads: kvHeads * equalHeads(weights),
    kvHeads,
    headDim,
    windows,
    kvBytesPerToken: full * 2 * globalHeads * globalDim * BF16_BYTES,
    isKvDivided: true,
    stateBytesPerRequest:
      count('sliding_attention') * slidingWindow * tokenBytes + linearLayers * linear.stateBytes,
    counts: { full, sliding: count('sliding_attention'), linear: linearLayers },
    approximations: [
      'Attention is priced as grouped-query attention with as many weights on average.',
      ...(linearLayers === 0
        ? []
        : [
            `${linearLayers} linear-attention layers are priced as windows that read as many ` +
              'bytes a step as their state has, read and written.',
          ]),
      ...(globalDim === headDim
        ? []
        : ['Full-attention layers have heads of another size; KV reads are those of the others.']),
    ],
  };
}

/** A gated delta net's weights and state (architectures.md's names of the sizes). */
function linearLayer(shape: Shape, hidden: number, kvHeads: number, headDim: number) {
  const keyHeads = shape.count('linear_num_key_heads') ?? kvHeads;
  const valueHeads = shape.count('linear_num_value_heads') ?? keyHeads;
  const keyDim = shape.count('linear_key_head_dim') ?? headDim;
  const valueDim = shape.count('linear_value_head_dim') ?? headDim;
  const stateBytes = valueHeads * keyDim * valueDim * F32_BYTES;
  return {
    weights: hidden * (2 * keyHeads * keyDim + 3 * valueHeads * valueDim),
    stateBytes,
    stepBytes: 2 * stateBytes,
  };
}

/** DeepSeek's: one latent vector a token, and products that take the place of heads' own. */
function latentAttention(
  shape: Shape,
  hidden: number,
  layers: number,
  heads: number,
  latent: number,
): Attention {
  const rope = shape.count('qk_rope_head_dim') ?? 64;
  const nope = shape.count('qk_nope_head_dim') ?? 128;
  const value = shape.count('v_head_dim') ?? 128;
  const queryRank = shape.count('q_lora_rank');
  const queries =
    queryRank === undefined
      ? hidden * heads * (nope + rope)
      : hidden * queryRank + queryRank * heads * (nope + rope);
  const weights =
    queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden;
  const headDim = 2 * Math.ceil((latent + rope) / 4);
  return {
    heads: Math.max(1, Math.round((weights - 2 * hidden * headDim) / (2 * hidden * headDim))),
    kvHeads: 1,
    headDim,
    windows: new Array<number>(layers).fill(0),
    kvBytesPerToken: layers * (latent + rope) * BF16_BYTES,
    isKvDivided: false,
    stateBytesPerRequest: 0,
    counts: { full: layers, sliding: 0, linear: 0 },
    approximations: [
      'Latent attention is priced as one key-value head of the same bytes a token and as many ' +
        'weights; its arithmetic at long contexts is higher.',
    ],
  };
}

function feedForwardOf(shape: Shape, layers: number) {
  const experts = shape.count('num_experts', 'num_local_experts', 'n_routed_experts') ?? 0;
  const intermediate = shape.count('intermediate_size', 'n_inner') ?? 0;
  const enabled = shape.get('enable_moe_block') !== false;
  if (experts === 0 || !enabled) {
    const denseSize = intermediate || shape.needed('intermediate_size');
    return { denseSize, experts: null, approximations: [] };
  }
  const perToken = shape.needed('num_experts_per_tok', 'top_k_experts', 'experts_per_token');
  const size = shape.count('moe_intermediate_size', 'expert_intermediate_size') ?? intermediate;
  const sharedSize = shape.count('shared_expert_intermediate_size');
  const shared = shape.count('n_shared_experts') ?? Math.ceil((sharedSize ?? 0) / size);
  const dense = Math.min(layers, shape.count('first_k_dense_replace') ?? 0);
  return {
    denseSize: intermediate || size,
    experts: {
      num_experts: experts + shared,
      num_experts_per_tok: perToken + shared,
      moe_intermediate_size: size,
      norm_topk_prob: true,
      mlp_only_layers: Array.from({ length: dense }, (_, layer) => layer),
    },
    approximations:
      shared === 0 ? [] : [`The shared expert is priced as ${shared} more that are chosen.`],
  };
}

function quantizationOf(config: Readonly<Record<string, unknown>>) {
  const quantization = config.quantization_config as Readonly<Record<string, unknown>> | undefined;
  if (quantization === undefined || quantization === null) {
    return { config: {}, approximations: [] };
  }
  const method = String(quantization.quant_method ?? 'unnamed').slice(0, 64);
  const isFp8 = method === 'fp8' || quantization.format === 'float-quantized';
  const blocks = { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [128, 128] };
  return {
    config: { quantization_config: blocks },
    approximations: isFp8
      ? []
      : [`Weights are quantized by ${method}; they are priced as FP8, a byte each.`],
  };
}
