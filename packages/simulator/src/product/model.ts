import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where every simulated host has the model. */
export const MODEL_FOLDER = '/sim/model';

export const VOCABULARY = 4096;
const MODEL_TOKENS_MAX = 512;
export const PAGE_TOKENS = 16;
/** Keys and values of one head of 16, in two bytes each. */
export const PAGE_BYTES = PAGE_TOKENS * 2 * 16 * 2;

/** Of the bundled model's kind and tokenizer, and small: what it computes is not looked at. */
const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  bos_token_id: 0,
  eos_token_id: 0,
  dtype: 'bfloat16',
  head_dim: 16,
  hidden_act: 'silu',
  hidden_size: 64,
  intermediate_size: 64,
  max_position_embeddings: MODEL_TOKENS_MAX,
  num_attention_heads: 4,
  num_hidden_layers: 1,
  num_key_value_heads: 1,
  rms_norm_eps: 1e-5,
  rope_parameters: { rope_theta: 10000, rope_type: 'default' },
  tie_word_embeddings: true,
  vocab_size: VOCABULARY,
};

/** Its files, read once, by their paths on simulated hosts. */
export function modelFiles(): ReadonlyMap<string, Buffer> {
  const folder = new URL('../../../../models/storyteller/', import.meta.url);
  const files = new Map<string, Buffer>();
  for (const name of ['generation_config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    files.set(`${MODEL_FOLDER}/${name}`, readFileSync(fileURLToPath(new URL(name, folder))));
  }
  files.set(`${MODEL_FOLDER}/config.json`, Buffer.from(JSON.stringify(CONFIG)));
  return files;
}
