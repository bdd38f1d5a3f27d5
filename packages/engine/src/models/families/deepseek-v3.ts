import type { ConfigReader } from '../config-reader.ts';
import { describeRope } from '../describe-rope.ts';
import type { ExpertsFeedForward, LatentAttention } from '../spec.ts';
import { alike, denseOf, type Family } from './family.ts';
import { sigmoidExperts } from './glm4-moe.ts';

/** Experts are groups of neighbours, of which a token chooses from a few. */
function experts(config: ConfigReader): ExpertsFeedForward {
  config.choice('topk_method', ['noaux_tc'], 'noaux_tc');
  config.choice('scoring_func', ['sigmoid'], 'sigmoid');
  if (config.integer('moe_layer_freq', 1, 1) !== 1) {
    throw config.error('unsupported', 'moe_layer_freq', 'is not 1; supported: 1');
  }
  const all = sigmoidExperts(config);
  const count = config.integer('n_group', 1, 8);
  const kept = config.integer('topk_group', 1, Math.min(count, 4));
  if (count === 1) return all;
  const size = all.experts / count;
  if (!Number.isInteger(size) || size < 2 || count > MAX_GROUPS) {
    const most = `at most ${MAX_GROUPS}, of as many experts each, and at least two`;
    const message = `is ${count} for ${all.experts} experts; supported: ${most}`;
    throw config.error('unsupported', 'n_group', message);
  }
  if (kept > count || kept * size < all.expertsPerToken) {
    const message = `is ${kept} of ${count} groups of ${size} experts, of which a token has`;
    throw config.error('malformed', 'topk_group', `${message} ${all.expertsPerToken}`);
  }
  return { ...all, groups: { count, kept } };
}

/** One for each lane of a warp. */
const MAX_GROUPS = 32;

function latentOf(config: ConfigReader): LatentAttention {
  const hasQueryRank = config.get('q_lora_rank') !== undefined;
  return {
    queryRank: hasQueryRank ? config.integer('q_lora_rank', 1) : null,
    kvRank: config.integer('kv_lora_rank', 1, 512),
    rotaryDim: rotaryDimOf(config),
    keyDim: config.integer('qk_nope_head_dim', 1, 128),
    valueDim: config.integer('v_head_dim', 1, 128),
  };
}

/** transformers also writes it as `head_dim`. */
function rotaryDimOf(config: ConfigReader): number {
  const dims = config.integer('qk_rope_head_dim', 2, 64);
  if (dims % 2 !== 0) {
    const message = `is ${dims}; rotary positions need it even`;
    throw config.error('unsupported', 'qk_rope_head_dim', message);
  }
  checkSum(config, 'head_dim', dims);
  checkSum(config, 'qk_head_dim', dims + config.integer('qk_nope_head_dim', 1, 128));
  if (!config.boolean('rope_interleave', true)) {
    throw config.error('unsupported', 'rope_interleave', 'is false; supported: true');
  }
  return dims;
}

function checkSum(config: ConfigReader, key: string, value: number): void {
  const found = config.integer(key, 1, value);
  if (found === value) return;
  throw config.error('malformed', key, `is ${found}; the other keys make it ${value}`);
}

/** Scores grow with the square of what YaRN multiplies by: cos and sin then have the ratio. */
function scoreScale(config: ConfigReader, { keyDim, rotaryDim }: LatentAttention): number {
  const plain = (keyDim + rotaryDim) ** -0.5;
  const parameters = config.object('rope_parameters') ?? config.object('rope_scaling');
  const isSet = (parameters?.get('mscale_all_dim') ?? 0) !== 0;
  if (parameters === undefined || !isSet) return plain;
  const factor = parameters.positive('factor', 1);
  const magnitude =
    factor <= 1 ? 1 : 0.1 * parameters.positive('mscale_all_dim') * Math.log(factor) + 1;
  return plain * magnitude ** 2;
}

/** DeepSeek V3, R1 and V3.1, and Kimi K2. */
const deepSeekV3: Omit<Family, 'modelType'> = {
  architecture: 'DeepseekV3ForCausalLM',
  keys: [
    ...['aux_loss_alpha', 'ep_size', 'first_k_dense_replace', 'kv_lora_rank', 'moe_layer_freq'],
    ...['moe_intermediate_size', 'n_group', 'n_routed_experts', 'n_shared_experts'],
    ...['norm_topk_prob', 'num_experts_per_tok', 'num_mtp_layers', 'num_nextn_predict_layers'],
    ...['q_lora_rank', 'qk_head_dim', 'qk_nope_head_dim', 'qk_rope_head_dim', 'rope_interleave'],
    ...['routed_scaling_factor', 'scoring_func', 'seq_aux', 'topk_group', 'topk_method'],
    ...['v_head_dim'],
  ],
  headDim: rotaryDimOf,
  ropes: (config, rotaryDim) => describeRope(config, rotaryDim, 1),
  read: (config, layers) => {
    const latent = latentOf(config);
    const denseLayers = config.integer('first_k_dense_replace', 0, 3);
    const routed = layers > denseLayers ? experts(config) : undefined;
    const plain = denseLayers > 0 ? denseOf(config) : undefined;
    return {
      latent,
      mixers: alike(layers, 'latent-attention'),
      layerHeads: Array.from({ length: layers }, (_, kvLayer) => ({
        kvHeads: 1,
        headDim: latent.kvRank + latent.rotaryDim,
        lineKv: 'keys' as const,
        kvLayer,
      })),
      attentionScale: scoreScale(config, latent),
      feedForwards: Array.from({ length: layers }, (_, layer) =>
        layer < denseLayers ? plain! : routed!,
      ),
    };
  },
};

export const deepSeekV3Families: readonly Family[] = [
  { ...deepSeekV3, modelType: 'deepseek_v3' },
  { ...deepSeekV3, modelType: 'kimi_k2' },
];
