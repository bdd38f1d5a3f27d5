/** Every other layer of a small model is a gated delta net, as Qwen3-Next and Qwen3.5 have them. */
export const DELTA_NETS = {
  full_attention_interval: 2,
  partial_rotary_factor: 0.5,
  linear_key_head_dim: 8,
  linear_value_head_dim: 12,
  linear_num_key_heads: 2,
  linear_num_value_heads: 4,
};
