import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where every simulated host has the model. */
export const MODEL_FOLDER = '/sim/model';

/** A start reads all of it, and there are more starts than anything else that takes long. */
export const VOCABULARY = 512;
const MODEL_TOKENS_MAX = 512;
export const PAGE_TOKENS = 16;
/** Keys and values of one head of 16, in two bytes each. */
export const PAGE_BYTES = PAGE_TOKENS * 2 * 16 * 2;

/** Of the bundled model's kind, and small: what it computes is not looked at. */
export const MODEL_CONFIG = {
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

interface TokenizerFile {
  readonly model: {
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (readonly [string, string])[];
  };
}

/** The bundled tokenizer with its first tokens alone: those that the others are merged from. */
function smallTokenizer(bytes: Buffer): Buffer {
  const file = JSON.parse(bytes.toString()) as TokenizerFile;
  const kept = Object.entries(file.model.vocab).filter(([, id]) => id < VOCABULARY);
  const vocab = Object.fromEntries(kept);
  const merges = file.model.merges.filter(([left, right]) => Object.hasOwn(vocab, left + right));
  return Buffer.from(JSON.stringify({ ...file, model: { ...file.model, vocab, merges } }));
}

/** Its files, read once, by their paths on simulated hosts. */
export function modelFiles(): ReadonlyMap<string, Buffer> {
  const folder = new URL('../../../../models/storyteller/', import.meta.url);
  const files = new Map<string, Buffer>();
  for (const name of ['generation_config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    const bytes = readFileSync(fileURLToPath(new URL(name, folder)));
    const small = name === 'tokenizer.json' ? smallTokenizer(bytes) : bytes;
    files.set(`${MODEL_FOLDER}/${name}`, small);
  }
  files.set(`${MODEL_FOLDER}/config.json`, Buffer.from(JSON.stringify(MODEL_CONFIG)));
  return files;
}
