import { ApiError } from '../http/errors.ts';

/** Who defines a field. */
type Origin = 'OpenAI' | 'Anthropic' | 'vLLM' | 'SGLang' | 'llama.cpp' | 'others';

type Body = Readonly<Record<string, unknown>>;

/** A value that says what is done anyway, or a rule for such values and its words. */
type Accepted =
  | readonly unknown[]
  | { readonly words: string; readonly holds: (value: unknown, body: Body) => boolean };

/** A field of a request's body that no schema here has. */
export interface Field {
  readonly name: string;
  readonly origin: Origin;
  /** `harmless`: any value is taken, because none changes the answer. */
  readonly fate: 'harmless' | 'refused';
  readonly why: string;
  /** Of a refused field: what is taken all the same. null always is. */
  readonly accepted: Accepted;
}

function harmless(origin: Origin, why: string, ...names: readonly string[]): Field[] {
  return names.map((name) => ({ name, origin, fate: 'harmless', why, accepted: [] }));
}

function refused(origin: Origin, name: string, why: string, accepted: Accepted = []): Field {
  return { name, origin, fate: 'refused', why, accepted };
}

const NO_SAMPLER = 'this server has no such sampler';
const NO_DISAGGREGATION = 'prompts and outputs are computed by one engine';
const use = (name: string) => `say ${name} instead`;

/**
 * Every field that clients of these servers are known to send and that is not honoured. What is
 * honoured is in the schemas; together they are docs/reference/fields.md.
 */
export const FIELDS: readonly Field[] = [
  refused('OpenAI', 'functions', use('tools'), [[]]),
  refused('OpenAI', 'function_call', use('tool_choice'), ['auto', 'none']),
  refused('OpenAI', 'best_of', 'it may not exceed n', {
    words: 'up to `n`',
    holds: (value, { n }) => Number(value) <= Number(n ?? 1),
  }),
  refused('OpenAI', 'suffix', 'models here only continue text', ['']),
  refused('OpenAI', 'modalities', 'models here only write text', [['text'], []]),
  refused('OpenAI', 'audio', 'models here only write text'),
  refused('OpenAI', 'web_search_options', 'this server searches nothing'),
  refused('OpenAI', 'background', 'answers are given to the client that waits for them', [false]),
  refused('OpenAI', 'conversation', 'say previous_response_id, or send what was said'),
  refused('OpenAI', 'context_management', 'say truncation: "auto", or send what is to be kept', [
    [],
  ]),
  refused('OpenAI', 'moderation', 'answers are not moderated'),
  ...harmless('OpenAI', 'there are no tools but the client’s', 'max_tool_calls'),
  refused('OpenAI', 'verbosity', 'models here know no such thing', ['medium']),
  ...harmless('OpenAI', 'a prediction only saves time', 'prediction'),
  ...harmless('OpenAI', 'answers are not kept', 'store', 'metadata'),
  ...harmless('OpenAI', 'says who asks', 'user', 'safety_identifier'),
  ...harmless('OpenAI', 'all requests are served alike', 'service_tier'),
  ...harmless(
    'OpenAI',
    'prefixes are cached by key and cache_salt',
    'prompt_cache_key',
    'prompt_cache_retention',
    'prompt_cache_options',
  ),

  refused('Anthropic', 'container', 'this server runs no tools'),
  refused('Anthropic', 'mcp_servers', 'this server runs no tools', [[]]),
  refused('Anthropic', 'inference_geo', 'a server does not know where it is'),
  refused('Anthropic', 'speed', 'all requests are served alike', ['standard']),
  ...harmless('Anthropic', 'prefixes are cached by themselves', 'cache_control', 'diagnostics'),
  ...harmless('Anthropic', 'says who asks', 'user_profile_id', 'workspace_id'),

  ...harmless('vLLM', 'grammars are compiled one way', 'guided_decoding_backend'),
  refused(
    'vLLM',
    'guided_whitespace_pattern',
    'JSON is written with a space behind , and : or none',
  ),
  refused('vLLM', 'use_beam_search', 'this server samples', [false]),
  ...harmless('vLLM', 'only beam search reads it', 'length_penalty', 'early_stopping'),
  refused('vLLM', 'chat_template', "only the model's own template is run"),
  refused('vLLM', 'prompt_embeds', 'prompts are text or token ids'),
  refused('vLLM', 'logits_processors', 'requests bring no code', [[]]),
  refused('vLLM', 'priority', 'requests run in order of arrival', [0]),
  refused('vLLM', 'truncation_side', 'prompts are cut at their start', ['left']),
  refused('vLLM', 'kv_transfer_params', NO_DISAGGREGATION),
  refused('vLLM', 'vllm_xargs', 'this engine has no extensions'),
  refused('vLLM', 'repetition_detection', 'this server does not look for repetitions'),
  refused('vLLM', 'return_token_offsets', 'answers have none', [false]),
  refused('vLLM', 'logprob_token_ids', 'logprobs are of the best tokens'),
  ...harmless(
    'vLLM',
    'there is nothing but text to process',
    'mm_processor_kwargs',
    'media_io_kwargs',
  ),
  ...harmless(
    'vLLM',
    'special tokens are written as the tokenizer’s decoder writes them',
    'spaces_between_special_tokens',
  ),

  refused('SGLang', 'no_stop_trim', use('include_stop_str_in_output'), [false]),
  refused('SGLang', 'stop_regex', use('stop'), ['', []]),
  refused('SGLang', 'lora_path', 'adapters are not loaded'),
  refused('SGLang', 'session_params', 'there are no sessions'),
  refused('SGLang', 'separate_reasoning', 'reasoning is told apart by --reasoning-parser', [true]),
  refused('SGLang', 'stream_reasoning', 'reasoning is streamed as it comes', [true]),
  refused('SGLang', 'custom_logit_processor', 'requests bring no code', ['']),
  refused('SGLang', 'custom_params', 'requests bring no code'),
  refused('SGLang', 'return_hidden_states', 'answers have none', [false]),
  refused('SGLang', 'return_routed_experts', 'answers have none', [false]),
  refused('SGLang', 'input_ids', 'say prompt to /v1/completions instead'),
  ...['bootstrap_host', 'bootstrap_port', 'bootstrap_room'].map((name) =>
    refused('SGLang', name, NO_DISAGGREGATION),
  ),
  ...harmless('SGLang', 'names the request: say request_id to see it in the answer', 'rid'),

  refused('llama.cpp', 'n_predict', use('max_tokens')),
  refused('llama.cpp', 'n_probs', use('logprobs'), [0]),
  refused('llama.cpp', 'repeat_penalty', use('repetition_penalty')),
  refused('llama.cpp', 'repeat_last_n', 'penalties are over all tokens', [-1]),
  refused('llama.cpp', 'penalize_nl', 'penalties are over all tokens', [true]),
  refused('llama.cpp', 'grammar_lazy', 'grammars hold an answer from its start', [false]),
  refused('llama.cpp', 'mirostat', NO_SAMPLER, [0]),
  ...harmless('llama.cpp', 'only mirostat reads it', 'mirostat_tau', 'mirostat_eta'),
  refused('llama.cpp', 'typical_p', NO_SAMPLER, [1]),
  refused('llama.cpp', 'tfs_z', NO_SAMPLER, [1]),
  refused('llama.cpp', 'top_n_sigma', NO_SAMPLER, [-1, 0]),
  refused('llama.cpp', 'dry_multiplier', NO_SAMPLER, [0]),
  ...harmless(
    'llama.cpp',
    'only dry_multiplier makes it count',
    'dry_base',
    'dry_allowed_length',
    'dry_penalty_last_n',
    'dry_sequence_breakers',
  ),
  refused('llama.cpp', 'xtc_probability', NO_SAMPLER, [0]),
  ...harmless('llama.cpp', 'only xtc_probability makes it count', 'xtc_threshold'),
  refused('llama.cpp', 'dynatemp_range', NO_SAMPLER, [0]),
  ...harmless('llama.cpp', 'only dynatemp_range makes it count', 'dynatemp_exponent'),
  refused('llama.cpp', 'samplers', 'samplers run in one order'),
  refused('llama.cpp', 'min_keep', NO_SAMPLER, [0, 1]),
  refused('llama.cpp', 'lora', 'adapters are not loaded', [[]]),
  refused('llama.cpp', 'image_data', 'models here only read text', [[]]),
  refused('llama.cpp', 't_max_predict_ms', 'answers are not cut by time', [-1, 0]),
  refused('llama.cpp', 'n_indent', 'lines are not told apart', [0]),
  refused('llama.cpp', 'post_sampling_probs', 'logprobs are of the logits as they are', [false]),
  refused('llama.cpp', 'return_tokens', use('return_token_ids'), [false]),
  refused('llama.cpp', 'timings_per_token', 'answers have no timings', [false]),
  refused('llama.cpp', 'return_progress', 'answers have no progress', [false]),
  refused('llama.cpp', 'response_fields', 'answers are sent whole', [[]]),
  refused('llama.cpp', 'reasoning_format', 'reasoning is told apart by --reasoning-parser', [
    'auto',
    'deepseek',
  ]),
  refused('llama.cpp', 'parse_tool_calls', use('tool_choice'), [true]),
  ...harmless(
    'llama.cpp',
    'what is cached changes no answer',
    'cache_prompt',
    'id_slot',
    'n_cache_reuse',
  ),
  ...harmless('llama.cpp', 'a context here is never shifted', 'n_keep', 'n_discard'),

  ...['enable_thinking', 'thinking'].map((name) =>
    refused('others', name, use('chat_template_kwargs')),
  ),
  refused('others', 'max_new_tokens', use('max_tokens')),
  refused('others', 'do_sample', use('temperature')),
  refused('others', 'num_beams', 'this server samples', [1]),
  refused('others', 'no_repeat_ngram_size', NO_SAMPLER, [0]),
  refused('others', 'top_a', NO_SAMPLER, [0]),
];

const BY_NAME = new Map(FIELDS.map((field) => [field.name, field]));

/** Names of a body's fields that neither `own`, the schema of its route, nor the table has. */
export function unknownFields(body: Body, own: ReadonlySet<string>): string[] {
  return Object.keys(body).filter(
    (name) => !own.has(name) && !BY_NAME.has(name) && body[name] !== null,
  );
}

/**
 * Throws ApiError `unsupported_value` for the first field that asks for what is not done. `own` are
 * the fields of its route, `others` those of which another route makes something.
 */
export function refuseFields(
  body: Body,
  own: ReadonlySet<string>,
  others: ReadonlyMap<string, string>,
): void {
  for (const [name, value] of Object.entries(body)) {
    if (value === null || own.has(name)) continue;
    const field = BY_NAME.get(name);
    const why = field === undefined ? others.get(name) : refusalOf(field, value, body);
    if (why !== undefined) {
      throw new ApiError('unsupported_value', `${name} cannot be honoured: ${why}.`, name);
    }
  }
}

function refusalOf({ fate, why, accepted }: Field, value: unknown, body: Body): string | undefined {
  if (fate === 'harmless') return undefined;
  const isAccepted =
    'holds' in accepted
      ? accepted.holds(value, body)
      : accepted.some((each) => isSame(each, value));
  return isAccepted ? undefined : why;
}

/** Of plain values, and of lists of them. */
function isSame(a: unknown, b: unknown): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((each, at) => each === b[at]);
}
