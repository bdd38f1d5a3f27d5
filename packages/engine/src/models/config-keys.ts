import { type ConfigReader, show } from './config-reader.ts';
import type { Family } from './families/family.ts';

/**
 * What is known of the keys of config.json. A key that is not known may be one that changes what
 * the model computes, and ignoring it would give fluent nonsense; so it is refused. A key that is
 * null is one that is absent, as in Hugging Face's configurations.
 */

/** Keys that `describeModel` reads, for every architecture. */
const READ = [
  'architectures',
  'bos_token_id',
  'dtype',
  'eos_token_id',
  'head_dim',
  'hidden_act',
  'hidden_size',
  'intermediate_size',
  'layer_types',
  'max_position_embeddings',
  'model_type',
  'num_attention_heads',
  'num_hidden_layers',
  'num_key_value_heads',
  'partial_rotary_factor',
  'quantization_config',
  'rms_norm_eps',
  'rope_parameters',
  'rope_scaling',
  'rope_theta',
  'tie_word_embeddings',
  'torch_dtype',
  'vocab_size',
];

/** Keys that say nothing of inference: training, provenance, other software's settings. */
const HARMLESS = new Set([
  '_attn_implementation',
  '_attn_implementation_autoset',
  '_commit_hash',
  '_flash_attn_2_enabled',
  '_name_or_path',
  'attention_dropout',
  'attn_implementation',
  'attn_pdrop',
  'auto_map',
  'bad_words_ids',
  'begin_suppress_tokens',
  'cache_implementation',
  'chunk_size_feed_forward',
  'classifier_dropout',
  'cls_token_id',
  'decoder_start_token_id',
  'do_sample',
  'early_stopping',
  'embd_pdrop',
  'exponential_decay_length_penalty',
  'finetuning_task',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'gradient_checkpointing',
  'hidden_dropout',
  'id2label',
  'initializer_range',
  'is_llama_config',
  'keys_to_ignore_at_inference',
  'label2id',
  'length_penalty',
  'mask_token_id',
  'max_length',
  'max_sequence_length',
  'max_window_layers',
  'min_length',
  'model_max_length',
  'neftune_noise_alpha',
  'no_repeat_ngram_size',
  'num_beams',
  'num_labels',
  'num_return_sequences',
  'output_attentions',
  'output_hidden_states',
  'output_router_logits',
  'output_scores',
  'pad_token_id',
  'prefix',
  'pretraining_tp',
  'problem_type',
  'remove_invalid_values',
  'repetition_penalty',
  'resid_pdrop',
  'return_dict',
  'return_dict_in_generate',
  'router_aux_loss_coef',
  'sep_token_id',
  'seq_length',
  'suppress_tokens',
  'task_specific_params',
  'temperature',
  'tokenizer_class',
  'top_k',
  'top_p',
  'torchscript',
  'transformers.js_config',
  'transformers_version',
  'typical_p',
  'unk_token_id',
  'unsloth_fixed',
  'unsloth_version',
  'use_bfloat16',
  'use_cache',
  'use_flash_attn',
]);

/**
 * Keys that change the arithmetic, with the value at which they change nothing. They are what
 * published models of these architectures, or of close relatives, have.
 */
const NEUTRAL: Readonly<Record<string, unknown>> = {
  add_cross_attention: false,
  attention_bias: false,
  attention_multiplier: undefined,
  attention_out_bias: false,
  attn_logit_softcapping: undefined,
  clip_qkv: undefined,
  cross_attention_hidden_size: undefined,
  diversity_penalty: 0,
  dual_chunk_attention_config: undefined,
  embedding_multiplier: 1,
  encoder_no_repeat_ngram_size: 0,
  final_logit_softcapping: undefined,
  is_causal: true,
  is_decoder: false,
  is_encoder_decoder: false,
  logit_scale: 1,
  logits_scaling: 1,
  mlp_bias: false,
  no_rope_layer_interval: undefined,
  num_nextn_predict_layers: 0,
  pruned_heads: {},
  qk_layernorm: false,
  qkv_bias: false,
  quantization: undefined,
  residual_multiplier: 1,
  rope_interleaved: false,
  rope_traditional: false,
  scale_emb: 1,
  sliding_window: undefined,
  tf_legacy_loss: false,
  tie_encoder_decoder: false,
  use_bias: false,
  use_mrope: false,
  use_qk_norm: false,
  use_sliding_window: false,
};

/** What to do about keys that deserve more words than their name. */
const ADVICE: Readonly<Record<string, string>> = {
  quantization: 'holds weights as MLX quantises them; take the unquantised or FP8 checkpoint',
  dual_chunk_attention_config:
    'asks for dual chunk attention; without it the model is right up to its trained length only',
};

function isNeutral(key: string, value: unknown): boolean {
  // No rope in some layers: a list with 1 for each layer that has it.
  if (key === 'no_rope_layers') {
    return Array.isArray(value) && value.every((layer) => layer === 1);
  }
  return Object.hasOwn(NEUTRAL, key) && show(value) === show(NEUTRAL[key]);
}

/**
 * Refuses what `config` says beyond what is read of it, by all families or by this one. Throws
 * ModelError `unsupported`.
 */
export function refuseUnread(config: ConfigReader, { architecture, keys }: Family): void {
  const read = new Set([...READ, ...keys]);
  for (const key of config.keys()) {
    const value = config.get(key);
    if (value === undefined || read.has(key) || HARMLESS.has(key)) continue;
    if (isNeutral(key, value)) continue;
    const found = `is ${show(value)}`;
    if (Object.hasOwn(ADVICE, key)) throw config.error('unsupported', key, ADVICE[key]!);
    const changes = `${found}, which would change what ${architecture} computes here`;
    if (key === 'no_rope_layers' || Object.hasOwn(NEUTRAL, key)) {
      throw config.error('unsupported', key, `${changes} and is not implemented`);
    }
    const unknown = `${found}; the key is not known for ${architecture} and may change the results`;
    const advice = 'if it does not, take it out of config.json';
    throw config.error('unsupported', key, `${unknown}: ${advice}`);
  }
}
