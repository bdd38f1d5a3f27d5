import type { ModelFolderOptions } from '../selftest/model-folder.ts';

/** A small DeepSeek V3: latent attention, queries of the layer itself, one group of experts. */
export const LATENT_MODEL: ModelFolderOptions = {
  architecture: 'DeepseekV3ForCausalLM',
  config: {
    head_dim: undefined,
    num_attention_heads: 3,
    num_key_value_heads: undefined,
    first_k_dense_replace: 0,
    n_routed_experts: 5,
    num_experts_per_tok: 2,
    n_shared_experts: 2,
    n_group: 1,
    topk_group: 1,
    moe_intermediate_size: 48,
    norm_topk_prob: false,
    kv_lora_rank: 20,
    qk_nope_head_dim: 12,
    qk_rope_head_dim: 8,
    v_head_dim: 16,
  },
};
