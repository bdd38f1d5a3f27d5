import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ReferenceRope, type RopeConfig, referenceRope } from './reference-rope.ts';

/** The keys of config.json that the reference reads. */
interface Config extends RopeConfig {
  readonly architectures: readonly string[];
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly intermediate_size: number;
  readonly vocab_size: number;
  readonly rms_norm_eps: number;
  readonly sliding_window: number | null;
  /** 1 for each layer whose queries and keys are rotated; absent: all. */
  readonly no_rope_layers?: readonly number[];
  /** Which layers have the window; absent: all. */
  readonly layer_types?: readonly string[];
  readonly num_experts?: number;
  readonly num_experts_per_tok?: number;
  readonly norm_topk_prob?: boolean;
  readonly swiglu_limit?: number;
  /** Granite. */
  readonly embedding_multiplier?: number;
  readonly attention_multiplier?: number;
  readonly residual_multiplier?: number;
  readonly logits_scaling?: number;
  /** GLM-4.5. */
  readonly routed_scaling_factor?: number;
  /** DeepSeek V3. */
  readonly n_group?: number;
  readonly topk_group?: number;
  readonly q_lora_rank?: number | null;
  readonly kv_lora_rank?: number;
  readonly qk_nope_head_dim?: number;
  readonly qk_rope_head_dim?: number;
  readonly v_head_dim?: number;
  /** Gemma. */
  readonly query_pre_attn_scalar?: number;
  readonly final_logit_softcapping?: number | null;
  /** Gemma 4. */
  readonly global_head_dim?: number;
  readonly num_global_key_value_heads?: number;
  readonly num_kv_shared_layers?: number;
  readonly hidden_size_per_layer_input?: number;
  readonly top_k_experts?: number;
  /** The gated delta net of Qwen3-Next and 3.5. */
  readonly linear_num_key_heads?: number;
  readonly linear_num_value_heads?: number;
  readonly linear_key_head_dim?: number;
  readonly linear_value_head_dim?: number;
  readonly quantization_config?: {
    readonly quant_method?: string;
    readonly checkpoint_format?: string;
    readonly weight_block_size?: readonly [number, number];
    readonly config_groups?: {
      readonly group_0: { readonly weights: { readonly block_structure?: readonly number[] } };
    };
  };
}

/** An entry of a safetensors header. */
interface Header {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

type Vector = Float64Array;

/** The values of E4M3 codes; all but the sign: 4 bits of exponent, 3 of fraction. */
function e4m3(code: number): number {
  const [exponent, fraction] = [(code >> 3) & 15, (code & 7) / 8];
  const size = exponent === 0 ? fraction * 2 ** -6 : (1 + fraction) * 2 ** (exponent - 7);
  return code < 128 ? size : -size;
}

/** The nearest value of E4M3, ties to the even code, no greater than 448. */
export function referenceE4m3(value: number): number {
  const size = Math.min(Math.abs(value), 448);
  const step = 2 ** (Math.max(Math.floor(Math.log2(size)), -6) - 3);
  const steps = size / step;
  const below = Math.floor(steps);
  const isUp = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
  return Math.sign(value) * Math.min((below + (isUp ? 1 : 0)) * step, 448);
}

/** The bits of bfloat16 are the upper half of float32's. */
function bf16(words: Uint16Array): Vector {
  const floats = new Float32Array(words.length);
  const bits = new Uint32Array(floats.buffer);
  for (let i = 0; i < words.length; i++) bits[i] = words[i]! << 16;
  return new Float64Array(floats);
}

const E4M3 = Float64Array.from({ length: 256 }, (_, code) => e4m3(code));

/** Values of a tensor's bytes, whose buffer is theirs alone: safetensors are little-endian. */
const READERS: Readonly<Record<string, (bytes: Uint8Array<ArrayBuffer>) => Vector>> = {
  F32: ({ buffer }) => new Float64Array(new Float32Array(buffer)),
  BF16: ({ buffer }) => bf16(new Uint16Array(buffer)),
  F8_E4M3: (codes) => new Float64Array(codes.length).map((_, i) => E4M3[codes[i]!]!),
  F16: ({ buffer }) => new Float64Array(new Uint16Array(buffer)).map(half),
  U8: (bytes) => new Float64Array(bytes),
  I32: ({ buffer }) => new Float64Array(new Uint32Array(buffer)),
  I64: ({ buffer }) => Float64Array.from(new BigInt64Array(buffer), Number),
};

/** A float16: a sign, 5 bits of exponent, 10 of fraction. */
function half(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, (bits & 1023) / 1024];
  const size = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
  return bits < 0x8000 ? size : -size;
}

/** Four bits of a word, counted from its lowest. */
const nibble = (word: number, place: number) => Math.floor(word / 16 ** place) % 16;
/** Where AutoAWQ puts each of eight outputs. */
const AWQ_PLACES = [0, 4, 1, 5, 2, 6, 3, 7];

/** What is stored of a module in 4 bits. */
interface Int4 {
  readonly outputs: number;
  readonly inputs: number;
  readonly groups: number;
  readonly codes: Vector;
  readonly scales: Vector;
  readonly zeros: Vector | undefined;
}

/** Values [outputs, inputs] as AutoAWQ, AutoGPTQ and compressed-tensors mean them. */
function int4(method: string, isSecond: boolean, stored: Int4): Vector {
  const { outputs, inputs, groups, codes, scales, zeros } = stored;
  return Float64Array.from({ length: outputs * inputs }, (_, i) => {
    const [o, k] = [Math.floor(i / inputs), i % inputs];
    const g = Math.floor(k / (inputs / groups));
    if (method === 'compressed-tensors') {
      const code = nibble(codes[o * (inputs / 8) + Math.floor(k / 8)]!, k % 8);
      const zero = zeros === undefined ? 8 : nibble(zeros[Math.floor(o / 8) * groups + g]!, o % 8);
      return (code - zero) * scales[o * groups + g]!;
    }
    const column = Math.floor(o / 8);
    const word = zeros![g * (outputs / 8) + column]!;
    const scale = scales[g * outputs + o]!;
    if (method === 'awq') {
      const place = AWQ_PLACES[o % 8]!;
      return (nibble(codes[k * (outputs / 8) + column]!, place) - nibble(word, place)) * scale;
    }
    const code = nibble(codes[Math.floor(k / 8) * outputs + o]!, k % 8);
    return (code - nibble(word, o % 8) - (isSecond ? 0 : 1)) * scale;
  });
}

/** MXFP4's values: a sign and one of eight sizes, times 2 to the power of a scale less 127. */
const E2M1_SIZES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
function mxfp4(blocks: Vector, scales: Vector): Vector {
  return Float64Array.from({ length: 2 * blocks.length }, (_, i) => {
    const byte = blocks[Math.floor(i / 2)]!;
    const code = i % 2 === 1 ? Math.floor(byte / 16) : byte % 16;
    const size = E2M1_SIZES[code % 8]! * 2 ** (scales[Math.floor(i / 32)]! - 127);
    return code >= 8 ? -size : size;
  });
}

/** What most families call a tensor: MiniMax numbers products, others have the text in a part. */
function usualName(name: string): string {
  return name
    .replace(/^language_model\./, '')
    .replace('.block_sparse_moe.e_score', '.mlp.gate.e_score')
    .replace('.block_sparse_moe.', '.mlp.')
    .replace('.w1.', '.gate_proj.')
    .replace('.w2.', '.down_proj.')
    .replace('.w3.', '.up_proj.');
}

/** In what the reference does not compute exactly. */
export interface ReferenceErrors {
  /** Applied to each key and value. */
  readonly roundKv?: (value: number) => number;
  /**
   * How far router logits are off, in units of their spread over experts: what turns a token that
   * is torn between two experts to the other one.
   */
  readonly routerError?: number;
}

/** Repeatable, with a mean of 0 and a standard deviation of 1. */
function noise(...seeds: readonly number[]): number {
  let mixed = 0x2545f491;
  for (const seed of seeds)
    mixed = Math.imul(mixed ^ (seed + 0x9e3779b9), 0x85ebca6b) ^ (mixed >>> 13);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0xc2b2ae35);
  return ((mixed >>> 8) / 2 ** 24 - 0.5) * Math.sqrt(12);
}

/**
 * A decoder in plain float64, written from the architectures' papers and sharing nothing with the
 * engine: no pages, no batches, no fused weights. Reads single safetensors files of float32 and
 * bfloat16, of FP8 with scales, of integers of 4 bits, and of experts in MXFP4.
 */
export class ReferenceModel {
  readonly #config: Config;
  readonly #tensors = new Map<string, Vector>();
  /** What modules made of vectors that are still there, by their names. */
  readonly #products = new WeakMap<Vector, Map<string, Vector>>();
  readonly #roundKv: (value: number) => number;
  readonly #routerError: number;

  constructor(folder: string, { roundKv, routerError }: ReferenceErrors = {}) {
    this.#roundKv = roundKv ?? ((value) => value);
    this.#routerError = routerError ?? 0;
    const { text_config: text, ...config } = JSON.parse(
      readFileSync(join(folder, 'config.json'), 'utf8'),
    ) as Config & { text_config?: Config };
    this.#config = { ...config, ...text };
    const file = readFileSync(join(folder, 'model.safetensors'));
    const headerBytes = Number(file.readBigUInt64LE(0));
    const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as {
      [name: string]: Header;
    };
    for (const [name, { dtype, data_offsets: offsets }] of Object.entries(header)) {
      const [from, to] = offsets.map((offset) => 8 + headerBytes + offset);
      const bytes = new Uint8Array(file.subarray(from, to));
      this.#tensors.set(usualName(name), READERS[dtype]!(bytes));
    }
    for (const [name, { dtype, shape }] of Object.entries(header)) {
      if (dtype === 'F8_E4M3') this.#scale(usualName(name), shape as [number, number]);
      if (/\.(?:qweight|weight_packed)$/.test(name)) this.#unpack(name, header);
      if (!name.endsWith('_blocks')) continue;
      const stack = name.slice(0, -'_blocks'.length);
      const scales = this.#tensors.get(`${stack}_scales`)!;
      this.#tensors.set(stack, mxfp4(this.#tensors.get(name)!, scales));
    }
  }

  /** The weight of a module in 4 bits. */
  #unpack(name: string, header: Readonly<Record<string, Header>>): void {
    const module = name.slice(0, name.lastIndexOf('.'));
    const of = (suffix: string) => this.#tensors.get(usualName(`${module}.${suffix}`));
    const { quant_method: method = '', checkpoint_format } = this.#config.quantization_config!;
    const isByRow = method === 'compressed-tensors';
    const [first, second] = header[`${module}.${isByRow ? 'weight_scale' : 'scales'}`]!.shape;
    const [outputs, groups] = isByRow ? [first!, second!] : [second!, first!];
    const codes = of(isByRow ? 'weight_packed' : 'qweight')!;
    const weight = int4(method, checkpoint_format === 'gptq_v2', {
      outputs,
      inputs: (codes.length * 8) / outputs,
      groups,
      codes,
      scales: of(isByRow ? 'weight_scale' : 'scales')!,
      zeros: of(isByRow ? 'weight_zero_point' : 'qzeros'),
    });
    this.#tensors.set(usualName(`${module}.weight`), weight);
  }

  /** Multiplies a weight by its scales: one, one for each output, or one for each block. */
  #scale(name: string, [outputs, inputs]: readonly [number, number]): void {
    const weight = this.#tensors.get(name)!;
    const scales = this.#tensors.get(`${name}_scale_inv`) ?? this.#tensors.get(`${name}_scale`)!;
    const { weight_block_size, config_groups } = this.#config.quantization_config!;
    const block = weight_block_size ?? config_groups?.group_0.weights.block_structure;
    const [rows, columns] = block ?? [scales.length === 1 ? outputs : 1, inputs];
    for (let i = 0; i < weight.length; i++) {
      const row = Math.floor(Math.floor(i / inputs) / rows!);
      const column = Math.floor((i % inputs) / columns!);
      weight[i]! *= scales[row * Math.ceil(inputs / columns!) + column]!;
    }
  }

  /** Whether some layer sends tokens to experts. */
  get hasRouter(): boolean {
    const { num_experts_per_tok, top_k_experts } = this.#config;
    return (num_experts_per_tok ?? top_k_experts) !== undefined;
  }

  /** Log-probabilities of the next token after each of `tokens`. */
  logprobs(tokens: readonly number[]): Vector[] {
    const head =
      this.#tensors.get('lm_head.weight') ?? this.#tensors.get('model.embed_tokens.weight')!;
    const { logits_scaling: scaling = 1, final_logit_softcapping: cap } = this.#config;
    const finish = (logit: number) => {
      const scaled = logit / scaling;
      return typeof cap === 'number' ? cap * Math.tanh(scaled / cap) : scaled;
    };
    return this.#hidden(tokens).map((state) => logSoftmax(multiply(head, state).map(finish)));
  }

  /** Whether the architecture's name begins so. */
  #is(...names: readonly string[]): boolean {
    return names.some((name) => this.#config.architectures[0]!.startsWith(name));
  }

  /** The last token's hidden state after the final norm, at length 1. */
  embedding(tokens: readonly number[]): Vector {
    const last = this.#hidden(tokens).at(-1)!;
    const length = Math.sqrt(dot(last, last));
    return last.map((value) => value / length);
  }

  /** Hidden states of each token after the final norm. */
  #hidden(tokens: readonly number[]): Vector[] {
    const { hidden_size: width, num_hidden_layers: layers } = this.#config;
    const table = this.#tensors.get('model.embed_tokens.weight')!;
    const { embedding_multiplier, residual_multiplier: share = 1 } = this.#config;
    const embedding = this.#is('Gemma') ? Math.sqrt(width) : (embedding_multiplier ?? 1);
    let states: Vector[] = tokens.map((token) =>
      table.slice(token * width, (token + 1) * width).map((value) => value * embedding),
    );
    const inputsOfLayers = tokens.map((token, i) => this.#inputsOfLayers(token, states[i]!));
    for (let layer = 0; layer < layers; layer++) {
      const name = `model.layers.${layer}`;
      const norms = this.#normsOf(name);
      const within = (norm: string | null, lines: readonly Vector[]) =>
        norm === null ? lines : lines.map((line) => this.#norm(`${name}.${norm}`, line));
      const join = (branch: readonly Vector[]) =>
        states.map((state, i) =>
          add(
            state,
            branch[i]!.map((value) => value * share),
          ),
        );
      const isNet = this.#tensors.has(`${name}.linear_attn.A_log`);
      const inputs = within(norms.before[0], states);
      const isLatent = this.#tensors.has(`${name}.self_attn.kv_b_proj.weight`);
      const mixed = isNet
        ? this.#deltaNet(name, inputs)
        : isLatent
          ? this.#latentAttention(`${name}.self_attn`, inputs)
          : this.#attention(name, layer, inputs);
      states = join(within(norms.after[0], mixed));
      const fed = within(norms.before[1], states).map((line, i) => {
        const dense = this.#feedForward(name, line, [layer, i]);
        const hasExperts = this.#tensors.has(`${name}.router.proj.weight`);
        return hasExperts ? this.#besideExperts(name, dense, states[i]!, [layer, i]) : dense;
      });
      states = join(within(norms.after[1], fed));
      states = states.map((state, i) =>
        inputsOfLayers[i] === undefined
          ? state
          : this.#gatedByLayer(layer, state, inputsOfLayers[i]),
      );
      const scalar = this.#tensors.get(`${name}.layer_scalar`)?.[0] ?? 1;
      states = states.map((state) => state.map((value) => value * scalar));
    }
    return states.map((state) => this.#norm('model.norm', state));
  }

  /** Of attention and of the feed-forward, as their families' papers and classes place them. */
  #normsOf(layer: string) {
    const [first, second] = ['post_attention_layernorm', 'post_feedforward_layernorm'] as const;
    if (!this.#tensors.has(`${layer}.input_layernorm.weight`)) {
      return { before: [null, null], after: [first, second] } as const;
    }
    if (!this.#tensors.has(`${layer}.pre_feedforward_layernorm.weight`)) {
      return { before: ['input_layernorm', first], after: [null, null] } as const;
    }
    return {
      before: ['input_layernorm', 'pre_feedforward_layernorm'],
      after: [first, second],
    } as const;
  }

  /** Gemma 4's small models: what all layers have of a token, one behind the other. */
  #inputsOfLayers(token: number, embedded: Vector): Vector | undefined {
    const { hidden_size_per_layer_input: width, hidden_size } = this.#config;
    const table = this.#tensors.get('model.embed_tokens_per_layer.weight');
    if (table === undefined || width === undefined) return undefined;
    const projected = this.#linear('model.per_layer_model_projection', embedded);
    const own = table.subarray(token * projected.length, (token + 1) * projected.length);
    const scaled = projected.map((value) => value / Math.sqrt(hidden_size));
    return projected.map((_, i) => {
      const layer = Math.floor(i / width);
      const part = scaled.slice(layer * width, (layer + 1) * width);
      const normed = this.#norm('model.per_layer_projection_norm', part)[i % width]!;
      return (normed + own[i]! * Math.sqrt(width)) / Math.SQRT2;
    });
  }

  #gatedByLayer(layer: number, state: Vector, inputs: Vector): Vector {
    const name = `model.layers.${layer}`;
    const gate = this.#linear(`${name}.per_layer_input_gate`, state);
    const gated = gate.map((value, i) => gelu(value) * inputs[layer * gate.length + i]!);
    const back = this.#linear(`${name}.per_layer_projection`, gated);
    return add(state, this.#norm(`${name}.post_per_layer_input_norm`, back));
  }

  #window(layer: number): number {
    const { sliding_window, layer_types: types } = this.#config;
    const isFull = types?.[layer] === 'full_attention';
    return isFull ? Number.POSITIVE_INFINITY : (sliding_window ?? Number.POSITIVE_INFINITY);
  }

  /** Gemma 4's layers with full attention have other heads than the rest. */
  #headsOf(layer: number) {
    const { num_key_value_heads: kvHeads, head_dim, layer_types: types } = this.#config;
    const { global_head_dim, num_global_key_value_heads } = this.#config;
    if (!this.#is('Gemma4') || types?.[layer] !== 'full_attention') return { kvHeads, head_dim };
    return { kvHeads: num_global_key_value_heads ?? kvHeads, head_dim: global_head_dim! };
  }

  /** Of each token and KV head, as layers at the end of a Gemma 4 take them from earlier ones. */
  readonly #shared = new Map<string, readonly [keys: Vector[][], values: Vector[]]>();

  #attention(layer: string, index: number, inputs: readonly Vector[]): Vector[] {
    const { num_attention_heads: heads } = this.#config;
    const { kvHeads, head_dim } = this.#headsOf(index);
    const name = `${layer}.self_attn`;
    const type = this.#config.layer_types?.[index];
    const rope = referenceRope(this.#config, type, head_dim);
    const { attention_multiplier, query_pre_attn_scalar } = this.#config;
    const usual = 1 / Math.sqrt(query_pre_attn_scalar ?? head_dim);
    const scale = this.#is('Gemma4') ? 1 : (attention_multiplier ?? usual);
    const isGated = this.#is('Qwen3Next', 'Qwen3_5');
    const rotates = this.#config.no_rope_layers?.[index] !== 0;
    // Where there is one matrix for the three, queries come first, then keys, then values.
    const projected = (which: 'q' | 'k' | 'v', input: Vector) => {
      if (!this.#tensors.has(`${name}.qkv_proj.weight`)) {
        const whole = this.#linear(`${name}.${which}_proj`, input);
        const norm = this.#tensors.get(`${name}.${which}_norm.weight`);
        // A norm as wide as all heads is over all of them.
        const isWide = norm !== undefined && norm.length > head_dim;
        if (isWide) return this.#norm(`${name}.${which}_norm`, whole);
        // With a gate, each head has its query and then its gate.
        return which === 'q' && isGated
          ? whole.filter((_, i) => i % (2 * head_dim) < head_dim)
          : whole;
      }
      const from = { q: 0, k: heads, v: heads + kvHeads }[which];
      const count = which === 'q' ? heads : kvHeads;
      const all = this.#linear(`${name}.qkv_proj`, input);
      return all.slice(from * head_dim, (from + count) * head_dim);
    };
    const project = (which: 'q' | 'k', count: number) =>
      inputs.map((input, position) => {
        const whole = projected(which, input);
        return Array.from({ length: count }, (_, head) => {
          const part = whole.slice(head * head_dim, (head + 1) * head_dim);
          const norm = this.#tensors.get(`${name}.${which}_norm.weight`);
          const isNormed = norm !== undefined && norm.length === head_dim;
          const turned = rotate(
            isNormed ? this.#norm(`${name}.${which}_norm`, part) : part,
            rotates ? rope : null,
            position,
          );
          const { beta, period } = rope.growth;
          const growth = which === 'q' ? 1 + beta * Math.log(1 + Math.floor(position / period)) : 1;
          return turned.map((value) => value * growth);
        });
      });
    const queries = project('q', heads);
    const ownKeys = () =>
      project('k', kvHeads).map((of) => of.map((key) => key.map(this.#roundKv)));
    // Without a matrix of their own values are keys before norm and rotation.
    const from = this.#is('Gemma4') && !this.#tensors.has(`${name}.v_proj.weight`) ? 'k' : 'v';
    const finish = (value: Vector) =>
      (this.#is('Gemma4') ? this.#unit(value, head_dim) : value).map(this.#roundKv);
    const ownValues = () => inputs.map((input) => finish(projected(from, input)));
    const { num_hidden_layers: layers, num_kv_shared_layers: shared = 0 } = this.#config;
    const isShared = index >= layers - shared;
    const [keys, values] = isShared ? this.#shared.get(type!)! : [ownKeys(), ownValues()];
    if (type !== undefined) this.#shared.set(type, [keys, values]);
    const window = this.#window(index);
    const sinks = this.#tensors.get(`${name}.sinks`);
    return inputs.map((input, position) => {
      const out = new Float64Array(heads * head_dim);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads);
        const first = Math.max(0, position - window + 1);
        // The sink, if there is one, is the last score.
        const scores = new Float64Array(position + 2).fill(Number.NEGATIVE_INFINITY);
        if (sinks !== undefined) scores[position + 1] = sinks[head]!;
        for (let at = first; at <= position; at++) {
          scores[at] = dot(queries[position]![head]!, keys[at]![kvHead]!) * scale;
        }
        const weights = logSoftmax(scores).map(Math.exp);
        for (let at = first; at <= position; at++) {
          const [weight, value] = [weights[at]!, values[at]!];
          for (let i = 0; i < head_dim; i++) {
            out[head * head_dim + i]! += weight * value[kvHead * head_dim + i]!;
          }
        }
      }
      if (!isGated) return this.#linear(`${name}.o_proj`, out);
      const gates = this.#linear(`${name}.q_proj`, input).filter(
        (_, i) => i % (2 * head_dim) >= head_dim,
      );
      return this.#linear(
        `${name}.o_proj`,
        out.map((value, i) => value * sigmoid(gates[i]!)),
      );
    });
  }

  /**
   * DeepSeek-V2's attention as its paper has it (arXiv 2405.04434, 2.1), with keys and values of
   * every head made from the token's vector.
   */
  #latentAttention(name: string, inputs: readonly Vector[]): Vector[] {
    const { num_attention_heads: heads } = this.#config;
    const [rank, keyDim] = [this.#config.kv_lora_rank!, this.#config.qk_nope_head_dim!];
    const [turning, valueDim] = [this.#config.qk_rope_head_dim!, this.#config.v_head_dim!];
    const rope = referenceRope(this.#config, '', turning);
    const scale = rope.magnitude ** 2 / Math.sqrt(keyDim + turning);
    const lines = inputs.map((input, position) => {
      const compressed = this.#linear(`${name}.kv_a_proj_with_mqa`, input);
      const latent = this.#latentNorm(`${name}.kv_a_layernorm`, compressed.slice(0, rank));
      const key = turnNeighbours(compressed.slice(rank), rope, position);
      const made = this.#linear(`${name}.kv_b_proj`, latent.map(this.#roundKv));
      const queries = this.#tensors.has(`${name}.q_a_proj.weight`)
        ? this.#linear(
            `${name}.q_b_proj`,
            this.#latentNorm(`${name}.q_a_layernorm`, this.#linear(`${name}.q_a_proj`, input)),
          )
        : this.#linear(`${name}.q_proj`, input);
      return { key: key.map(this.#roundKv), made, queries };
    });
    const sizeOf = keyDim + valueDim;
    return lines.map(({ queries }, position) => {
      const out = new Float64Array(heads * valueDim);
      for (let head = 0; head < heads; head++) {
        const query = queries.slice(head * (keyDim + turning), (head + 1) * (keyDim + turning));
        const turned = turnNeighbours(query.slice(keyDim), rope, position);
        const scores = Float64Array.from({ length: position + 1 }, (_, at) => {
          const { key, made } = lines[at]!;
          const own = made.subarray(head * sizeOf, head * sizeOf + keyDim);
          return (dot(own, query) + dot(turned, key)) * scale;
        });
        const weights = logSoftmax(scores).map(Math.exp);
        weights.forEach((weight, at) => {
          const from = head * sizeOf + keyDim;
          for (let i = 0; i < valueDim; i++) {
            out[head * valueDim + i]! += weight * lines[at]!.made[from + i]!;
          }
        });
      }
      return this.#linear(`${name}.o_proj`, out);
    });
  }

  /** Its class has an epsilon of its own. */
  #latentNorm(name: string, input: Vector): Vector {
    const weight = this.#tensors.get(`${name}.weight`)!;
    const scale = Math.sqrt(dot(input, input) / input.length + 1e-6);
    return input.map((value, i) => (value / scale) * weight[i]!);
  }

  /** Each head over its root mean square. */
  #unit(value: Vector, head_dim: number): Vector {
    const scales = Array.from({ length: value.length / head_dim }, (_, head) => {
      const part = value.subarray(head * head_dim, (head + 1) * head_dim);
      return 1 / Math.sqrt(dot(part, part) / head_dim + this.#config.rms_norm_eps);
    });
    return value.map((each, i) => each * scales[Math.floor(i / head_dim)]!);
  }

  /** The gated delta rule (arXiv 2412.06464), token by token and head by head. */
  #deltaNet(layer: string, inputs: readonly Vector[]): Vector[] {
    const name = `${layer}.linear_attn`;
    const keyHeads = this.#config.linear_num_key_heads!;
    const valueHeads = this.#config.linear_num_value_heads!;
    const keyDim = this.#config.linear_key_head_dim!;
    const valueDim = this.#config.linear_value_head_dim!;
    const ratio = valueHeads / keyHeads;
    const [rates, steps] = ['A_log', 'dt_bias'].map((of) => this.#tensors.get(`${name}.${of}`)!);
    const taps = this.#tensors.get(`${name}.conv1d.weight`)!;
    const norm = this.#tensors.get(`${name}.norm.weight`)!;
    const lines = inputs.map((input) => this.#netLine(name, input));
    const states = Array.from({ length: valueHeads }, () => new Float64Array(keyDim * valueDim));
    return lines.map(({ z, b, a }, token) => {
      const mixed = lines[0]!.qkv.map((_, channel) => {
        let sum = 0;
        for (let tap = 0; tap < 4; tap++) {
          sum += taps[4 * channel + tap]! * (lines[token - 3 + tap]?.qkv[channel] ?? 0);
        }
        return sum * sigmoid(sum);
      });
      const out = new Float64Array(valueHeads * valueDim);
      for (let head = 0; head < valueHeads; head++) {
        const at = Math.floor(head / ratio) * keyDim;
        const keys = keyHeads * keyDim;
        const query = unit(mixed.slice(at, at + keyDim)).map((x) => x / Math.sqrt(keyDim));
        const key = unit(mixed.slice(keys + at, keys + at + keyDim));
        const from = 2 * keys + head * valueDim;
        const value = mixed.slice(from, from + valueDim);
        const decay = Math.exp(
          -Math.exp(rates![head]!) * Math.log1p(Math.exp(a[head]! + steps![head]!)),
        );
        const state = states[head]!;
        for (let i = 0; i < state.length; i++) state[i]! *= decay;
        const column = (of: Vector, j: number) => {
          let sum = 0;
          for (let i = 0; i < keyDim; i++) sum += of[i]! * state[i * valueDim + j]!;
          return sum;
        };
        const change = value.map((x, j) => sigmoid(b[head]!) * (x - column(key, j)));
        for (let i = 0; i < state.length; i++) {
          state[i]! += key[Math.floor(i / valueDim)]! * change[i % valueDim]!;
        }
        const read = value.map((_, j) => column(query, j));
        const scale = Math.sqrt(dot(read, read) / valueDim + this.#config.rms_norm_eps);
        const gates = z.slice(head * valueDim, (head + 1) * valueDim);
        out.set(
          read.map((x, j) => (x / scale) * norm[j]! * gates[j]! * sigmoid(gates[j]!)),
          head * valueDim,
        );
      }
      return this.#linear(`${name}.out_proj`, out);
    });
  }

  /** What a delta net projects of a token: in four modules, or in two, key head by key head. */
  #netLine(name: string, input: Vector) {
    if (this.#tensors.has(`${name}.in_proj_qkv.weight`)) {
      const [qkv, z, b, a] = ['qkv', 'z', 'b', 'a'].map((which) =>
        this.#linear(`${name}.in_proj_${which}`, input),
      );
      return { qkv: qkv!, z: z!, b: b!, a: a! };
    }
    const keyHeads = this.#config.linear_num_key_heads!;
    const keyDim = this.#config.linear_key_head_dim!;
    const ratio = this.#config.linear_num_value_heads! / keyHeads;
    const values = ratio * this.#config.linear_value_head_dim!;
    const groups = (which: string, sizes: readonly number[]) => {
      const whole = [...this.#linear(`${name}.in_proj_${which}`, input)];
      const parts: number[][] = sizes.map(() => []);
      for (let head = 0; head < keyHeads; head++) {
        sizes.forEach((size, part) => {
          parts[part]!.push(...whole.splice(0, size));
        });
      }
      return parts.map((part) => Float64Array.from(part));
    };
    const [q, k, v, z] = groups('qkvz', [keyDim, keyDim, values, values]);
    const [b, a] = groups('ba', [ratio, ratio]);
    return { qkv: Float64Array.from([...q!, ...k!, ...v!]), z: z!, b: b!, a: a! };
  }

  #feedForward(layer: string, input: Vector, at: readonly [number, number]): Vector {
    const name = `${layer}.mlp`;
    if (this.#tensors.has(`${name}.router.weight`)) return this.#stackedExperts(name, input, at);
    if (this.#tensors.has(`${name}.gate.weight`)) return this.#experts(name, input, at);
    return this.#gated(name, input);
  }

  #gated(name: string, input: Vector): Vector {
    const isFused = this.#tensors.has(`${name}.gate_up_proj.weight`);
    const both = isFused ? this.#linear(`${name}.gate_up_proj`, input) : undefined;
    const gate = both?.slice(0, both.length / 2) ?? this.#linear(`${name}.gate_proj`, input);
    const up = both?.slice(both.length / 2) ?? this.#linear(`${name}.up_proj`, input);
    const activate = this.#is('Gemma') ? gelu : (x: number) => x * sigmoid(x);
    const product = gate.map((value, i) => activate(value) * up[i]!);
    return this.#linear(`${name}.down_proj`, product);
  }

  /** Router logits, best first, each with its expert; `scoreOf` says what is better. */
  #ranked(
    router: string,
    input: Vector,
    at: readonly [number, number],
    scoreOf = (logit: number, _expert: number) => logit,
  ) {
    const logits = this.#linear(router, input);
    const mean = logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
    const spread = Math.sqrt(
      logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / logits.length,
    );
    const error = this.#routerError * spread;
    return [...logits]
      .map((logit, expert) => ({ expert, logit: logit + error * noise(...at, expert) }))
      .sort((a, b) => scoreOf(b.logit, b.expert) - scoreOf(a.logit, a.expert));
  }

  #experts(name: string, input: Vector, at: readonly [number, number]): Vector {
    const isSigmoid = this.#tensors.has(`${name}.gate.e_score_correction_bias`);
    const routed = isSigmoid
      ? this.#sigmoidExperts(name, input, at)
      : this.#softmaxExperts(name, input, at);
    if (this.#tensors.has(`${name}.shared_experts.up_proj.weight`)) {
      return add(routed, this.#gated(`${name}.shared_experts`, input));
    }
    if (!this.#tensors.has(`${name}.shared_expert.up_proj.weight`)) return routed;
    const [share] = this.#linear(`${name}.shared_expert_gate`, input);
    const shared = this.#gated(`${name}.shared_expert`, input);
    return add(
      routed,
      shared.map((value) => value * sigmoid(share!)),
    );
  }

  /** DeepSeek-V3's router (arXiv 2412.19437, 2.1.2), as GLM-4.5 has it: a bias chooses only. */
  #sigmoidExperts(name: string, input: Vector, at: readonly [number, number]): Vector {
    const bias = this.#tensors.get(`${name}.gate.e_score_correction_bias`)!;
    const score = (logit: number, expert: number) => sigmoid(logit) + bias[expert]!;
    const all = this.#ranked(`${name}.gate`, input, at, score);
    const { n_group: groups = 1, topk_group: kept = 1 } = this.#config;
    const groupOf = (expert: number) => Math.floor((expert * groups) / all.length);
    // Of each group the best two, which come first among its own.
    const totals = Array.from({ length: groups }, (_, group) => {
      const own = all.filter(({ expert }) => groupOf(expert) === group).slice(0, 2);
      const total = own.reduce((sum, { logit, expert }) => sum + score(logit, expert), 0);
      return { group, total };
    });
    const chosen = totals.sort((a, b) => b.total - a.total).slice(0, kept);
    const ranked = all.filter(({ expert }) =>
      chosen.some(({ group }) => group === groupOf(expert)),
    );
    const best = ranked.slice(0, this.#config.num_experts_per_tok);
    const sum = best.reduce((total, { logit }) => total + sigmoid(logit), 0);
    const rest = this.#config.norm_topk_prob === false ? 1 : sum;
    const factor = (this.#config.routed_scaling_factor ?? 1) / rest;
    return best
      .map(({ expert, logit }) => {
        const product = this.#gated(`${name}.experts.${expert}`, input);
        return product.map((value) => value * sigmoid(logit) * factor);
      })
      .reduce<Vector>(add, new Float64Array(input.length));
  }

  /** One expert: modules of its own, or its part of a stack whose first half is the gate. */
  #expert(name: string, expert: number, input: Vector): Vector {
    const stack = this.#tensors.get(`${name}.gate_up_proj`);
    if (stack === undefined) return this.#gated(`${name}.${expert}`, input);
    const down = this.#tensors.get(`${name}.down_proj`)!;
    const inner = down.length / this.#config.num_experts! / input.length;
    const size = 2 * inner * input.length;
    const both = multiply(stack.subarray(expert * size, (expert + 1) * size), input);
    const activate = this.#is('Gemma') ? gelu : (x: number) => x * sigmoid(x);
    const product = both.slice(0, inner).map((x, i) => activate(x) * both[inner + i]!);
    const part = down.subarray((expert * size) / 2, ((expert + 1) * size) / 2);
    return multiply(part, product);
  }

  /** Qwen3-MoE: the softmax over all experts, of which the best are taken, and perhaps rescaled. */
  #softmaxExperts(name: string, input: Vector, at: readonly [number, number]): Vector {
    const ranked = this.#ranked(`${name}.gate`, input, at);
    const powers = ranked.map(({ logit }) => Math.exp(logit - ranked[0]!.logit));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const best = ranked.slice(0, this.#config.num_experts_per_tok);
    const chosen = powers.slice(0, best.length).map((power) => power / total);
    const isNormed = this.#config.norm_topk_prob === true || this.#is('Qwen3_5Moe');
    const rest = isNormed ? chosen.reduce((sum, part) => sum + part, 0) : 1;
    return best
      .map(({ expert }, i) => {
        const product = this.#expert(`${name}.experts`, expert, input);
        return product.map((value) => (value * chosen[i]!) / rest);
      })
      .reduce<Vector>(add, new Float64Array(input.length));
  }

  /** Gemma 4: two branches from the same state, each with a norm behind it. */
  #besideExperts(layer: string, dense: Vector, state: Vector, at: readonly [number, number]) {
    const router = `${layer}.router`;
    const scale = this.#tensors.get(`${router}.scale`)!;
    const root = Math.sqrt(state.length);
    const read = this.#unit(state, state.length).map((value, i) => (value * scale[i]!) / root);
    const best = this.#ranked(`${router}.proj`, read, at).slice(0, this.#config.top_k_experts);
    const powers = best.map(({ logit }) => Math.exp(logit - best[0]!.logit));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const own = this.#tensors.get(`${router}.per_expert_scale`)!;
    const input = this.#norm(`${layer}.pre_feedforward_layernorm_2`, state);
    const routed = best
      .map(({ expert }, i) => {
        const product = this.#expert(`${layer}.experts`, expert, input);
        return product.map((value) => (value * own[expert]! * powers[i]!) / total);
      })
      .reduce<Vector>(add, new Float64Array(input.length));
    return add(
      this.#norm(`${layer}.post_feedforward_layernorm_1`, dense),
      this.#norm(`${layer}.post_feedforward_layernorm_2`, routed),
    );
  }

  /** gpt-oss: the softmax over the best logits; gate and up alternate, and are clamped. */
  #stackedExperts(name: string, input: Vector, at: readonly [number, number]): Vector {
    const best = this.#ranked(`${name}.router`, input, at);
    best.length = this.#config.num_experts_per_tok!;
    const powers = best.map(({ logit }) => Math.exp(logit - best[0]!.logit));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const limit = this.#config.swiglu_limit!;
    const inner = this.#config.intermediate_size;
    const stacked = (which: string, expert: number, outputs: number, x: Vector) => {
      const part = (stack: Vector, size: number) =>
        stack.subarray(expert * size, (expert + 1) * size);
      const weight = this.#tensors.get(`${name}.experts.${which}`)!;
      const bias = this.#tensors.get(`${name}.experts.${which}_bias`)!;
      return add(multiply(part(weight, outputs * x.length), x), part(bias, outputs));
    };
    return best
      .map(({ expert }, i) => {
        const both = stacked('gate_up_proj', expert, 2 * inner, input);
        const product = new Float64Array(inner).map((_, unit) => {
          const gate = Math.min(both[2 * unit]!, limit);
          const up = Math.max(Math.min(both[2 * unit + 1]!, limit), -limit);
          return (gate / (1 + Math.exp(-1.702 * gate))) * (up + 1);
        });
        const down = stacked('down_proj', expert, input.length, product);
        return down.map((value) => (value * powers[i]!) / total);
      })
      .reduce<Vector>(add, new Float64Array(input.length));
  }

  #norm(name: string, input: Vector): Vector {
    const weight = this.#tensors.get(`${name}.weight`)!;
    const scale = Math.sqrt(dot(input, input) / input.length + this.#config.rms_norm_eps);
    // These families store how far weights are from one.
    const centre = this.#is('Gemma3', 'Qwen3Next', 'Qwen3_5') ? 1 : 0;
    return input.map((value, i) => (value / scale) * (centre + weight[i]!));
  }

  /** Not to be written to: one module may make queries, keys, values and gates of a token. */
  #linear(name: string, input: Vector): Vector {
    const made = this.#products.get(input) ?? new Map<string, Vector>();
    this.#products.set(input, made);
    let out = made.get(name);
    if (out !== undefined) return out;
    out = multiply(this.#tensors.get(`${name}.weight`)!, input);
    const bias = this.#tensors.get(`${name}.bias`);
    if (bias !== undefined) out = add(out, bias);
    made.set(name, out);
    return out;
  }
}

/** Turns the first 2 n dims, i with i + n, by position times the i-th of n frequencies. */
function rotate(head: Vector, rope: ReferenceRope | null, position: number): Vector {
  if (rope === null) return head;
  const { frequencies, amplitude } = rope;
  const half = frequencies.length;
  return head.map((value, i) => {
    if (i >= 2 * half) return value;
    const angle = position * frequencies[i % half]!;
    const partner = i < half ? -head[i + half]! : head[i - half]!;
    return amplitude * (value * Math.cos(angle) + partner * Math.sin(angle));
  });
}

/** Turns dims 2 i and 2 i + 1 together, by position times the i-th frequency. */
function turnNeighbours(head: Vector, rope: ReferenceRope, position: number): Vector {
  const { frequencies, amplitude } = rope;
  return head.map((value, i) => {
    const angle = position * frequencies[i >> 1]!;
    const partner = i % 2 === 0 ? -head[i + 1]! : head[i - 1]!;
    return amplitude * (value * Math.cos(angle) + partner * Math.sin(angle));
  });
}

const gelu = (x: number) =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** At length 1, as far as it has one. */
function unit(vector: Vector): Vector {
  const length = Math.sqrt(dot(vector, vector) + 1e-6);
  return vector.map((value) => value / length);
}

function dot(a: Vector, b: Vector): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function add(a: Vector, b: Vector): Vector {
  return a.map((value, i) => value + b[i]!);
}

/** Four rows together, so that their sums need not wait for one another. */
function multiply(matrix: Vector, input: Vector): Vector {
  const inputs = input.length;
  const out = new Float64Array(matrix.length / inputs);
  const whole = out.length & ~3;
  for (let row = 0; row < whole; row += 4) {
    const first = row * inputs;
    const [second, third, fourth] = [first + inputs, first + 2 * inputs, first + 3 * inputs];
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < inputs; i++) {
      const value = input[i]!;
      a += matrix[first + i]! * value;
      b += matrix[second + i]! * value;
      c += matrix[third + i]! * value;
      d += matrix[fourth + i]! * value;
    }
    out[row] = a;
    out[row + 1] = b;
    out[row + 2] = c;
    out[row + 3] = d;
  }
  for (let row = whole; row < out.length; row++) {
    out[row] = dot(matrix.subarray(row * inputs, (row + 1) * inputs), input);
  }
  return out;
}

function logSoftmax(values: Vector): Vector {
  const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0);
  return values.map((value) => value - most - Math.log(total));
}
