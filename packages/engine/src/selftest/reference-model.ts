import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ReferenceRope, type RopeConfig, referenceRope } from './reference-rope.ts';

/** The keys of config.json that the reference reads. */
interface Config extends RopeConfig {
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
  readonly num_experts_per_tok?: number;
  readonly norm_topk_prob?: boolean;
  readonly swiglu_limit?: number;
  readonly quantization_config?: {
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

const READERS: Readonly<Record<string, (file: Buffer, at: number) => number>> = {
  F32: (file, at) => file.readFloatLE(at),
  BF16: (file, at) => Buffer.of(0, 0, file[at]!, file[at + 1]!).readFloatLE(0),
  F8_E4M3: (file, at) => e4m3(file[at]!),
  U8: (file, at) => file[at]!,
};
const WIDTHS: Readonly<Record<string, number>> = { F32: 4, BF16: 2, F8_E4M3: 1, U8: 1 };

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
 * bfloat16, of FP8 with scales, and of experts in MXFP4.
 */
export class ReferenceModel {
  readonly #config: Config;
  readonly #rope: ReferenceRope;
  readonly #tensors = new Map<string, Vector>();
  readonly #roundKv: (value: number) => number;
  readonly #routerError: number;

  constructor(folder: string, { roundKv, routerError }: ReferenceErrors = {}) {
    this.#roundKv = roundKv ?? ((value) => value);
    this.#routerError = routerError ?? 0;
    const { text_config: text, ...config } = JSON.parse(
      readFileSync(join(folder, 'config.json'), 'utf8'),
    ) as Config & { text_config?: Config };
    this.#config = { ...config, ...text };
    this.#rope = referenceRope(this.#config);
    const file = readFileSync(join(folder, 'model.safetensors'));
    const headerBytes = Number(file.readBigUInt64LE(0));
    const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as {
      [name: string]: Header;
    };
    for (const [name, { dtype, data_offsets: offsets }] of Object.entries(header)) {
      const [from, to] = offsets;
      const values = new Float64Array((to - from) / WIDTHS[dtype]!);
      for (let i = 0; i < values.length; i++) {
        values[i] = READERS[dtype]!(file, 8 + headerBytes + from + WIDTHS[dtype]! * i);
      }
      this.#tensors.set(name.replace(/^language_model\./, ''), values);
    }
    for (const [name, { dtype, shape }] of Object.entries(header)) {
      if (dtype === 'F8_E4M3') this.#scale(name, shape as [number, number]);
      if (!name.endsWith('_blocks')) continue;
      const stack = name.slice(0, -'_blocks'.length);
      const scales = this.#tensors.get(`${stack}_scales`)!;
      this.#tensors.set(stack, mxfp4(this.#tensors.get(name)!, scales));
    }
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
    return this.#config.num_experts_per_tok !== undefined;
  }

  /** Log-probabilities of the next token after each of `tokens`. */
  logprobs(tokens: readonly number[]): Vector[] {
    const head =
      this.#tensors.get('lm_head.weight') ?? this.#tensors.get('model.embed_tokens.weight')!;
    return this.#hidden(tokens).map((state) => logSoftmax(multiply(head, state)));
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
    let states: Vector[] = tokens.map((token) => table.slice(token * width, (token + 1) * width));
    for (let layer = 0; layer < layers; layer++) {
      const name = `model.layers.${layer}`;
      const attended = this.#attention(name, layer, states);
      states = states.map((state, i) => add(state, attended[i]!));
      states = states.map((state, i) => add(state, this.#feedForward(name, state, [layer, i])));
    }
    return states.map((state) => this.#norm('model.norm', state));
  }

  #window(layer: number): number {
    const { sliding_window, layer_types: types } = this.#config;
    const isFull = types?.[layer] === 'full_attention';
    return isFull ? Number.POSITIVE_INFINITY : (sliding_window ?? Number.POSITIVE_INFINITY);
  }

  #attention(layer: string, index: number, states: readonly Vector[]): Vector[] {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim } = this.#config;
    const name = `${layer}.self_attn`;
    const inputs = states.map((state) => this.#norm(`${layer}.input_layernorm`, state));
    const rotates = this.#config.no_rope_layers?.[index] !== 0;
    // Where there is one matrix for the three, queries come first, then keys, then values.
    const projected = (which: 'q' | 'k' | 'v', input: Vector) => {
      if (!this.#tensors.has(`${name}.qkv_proj.weight`)) {
        return this.#linear(`${name}.${which}_proj`, input);
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
          const isNormed = this.#tensors.has(`${name}.${which}_norm.weight`);
          return this.#rotate(
            isNormed ? this.#norm(`${name}.${which}_norm`, part) : part,
            rotates ? position : 0,
          );
        });
      });
    const queries = project('q', heads);
    const keys = project('k', kvHeads).map((of) => of.map((key) => key.map(this.#roundKv)));
    const values = inputs.map((input) => projected('v', input).map(this.#roundKv));
    const window = this.#window(index);
    const sinks = this.#tensors.get(`${name}.sinks`);
    return states.map((_, position) => {
      const out = new Float64Array(heads * head_dim);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads);
        const first = Math.max(0, position - window + 1);
        // The sink, if there is one, is the last score.
        const scores = new Float64Array(position + 2).fill(Number.NEGATIVE_INFINITY);
        if (sinks !== undefined) scores[position + 1] = sinks[head]!;
        for (let at = first; at <= position; at++) {
          scores[at] = dot(queries[position]![head]!, keys[at]![kvHead]!) / Math.sqrt(head_dim);
        }
        const weights = logSoftmax(scores).map(Math.exp);
        for (let at = first; at <= position; at++) {
          for (let i = 0; i < head_dim; i++) {
            out[head * head_dim + i]! += weights[at]! * values[at]![kvHead * head_dim + i]!;
          }
        }
      }
      return this.#linear(`${name}.o_proj`, out);
    });
  }

  #feedForward(layer: string, state: Vector, at: readonly [number, number]): Vector {
    const input = this.#norm(`${layer}.post_attention_layernorm`, state);
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
    const product = gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!);
    return this.#linear(`${name}.down_proj`, product);
  }

  /** Router logits, best first, each with its expert. */
  #ranked(router: string, input: Vector, at: readonly [number, number]) {
    const logits = this.#linear(router, input);
    const mean = logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
    const spread = Math.sqrt(
      logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / logits.length,
    );
    const error = this.#routerError * spread;
    return [...logits]
      .map((logit, expert) => ({ expert, logit: logit + error * noise(...at, expert) }))
      .sort((a, b) => b.logit - a.logit);
  }

  /** Qwen3-MoE: the softmax over all experts, of which the best are taken, and perhaps rescaled. */
  #experts(name: string, input: Vector, at: readonly [number, number]): Vector {
    const ranked = this.#ranked(`${name}.gate`, input, at);
    const powers = ranked.map(({ logit }) => Math.exp(logit - ranked[0]!.logit));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const best = ranked.slice(0, this.#config.num_experts_per_tok);
    const chosen = powers.slice(0, best.length).map((power) => power / total);
    const rest = this.#config.norm_topk_prob ? chosen.reduce((sum, part) => sum + part, 0) : 1;
    return best
      .map(({ expert }, i) => {
        const product = this.#gated(`${name}.experts.${expert}`, input);
        return product.map((value) => (value * chosen[i]!) / rest);
      })
      .reduce<Vector>(add, new Float64Array(input.length));
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

  /** Rotates dimension i with i + half by position * frequency i. */
  #rotate(head: Vector, position: number): Vector {
    const half = head.length / 2;
    const { frequencies, amplitude } = this.#rope;
    return head.map((value, i) => {
      const angle = position * frequencies[i % half]!;
      const partner = i < half ? -head[i + half]! : head[i - half]!;
      return amplitude * (value * Math.cos(angle) + partner * Math.sin(angle));
    });
  }

  #norm(name: string, input: Vector): Vector {
    const weight = this.#tensors.get(`${name}.weight`)!;
    const scale = Math.sqrt(dot(input, input) / input.length + this.#config.rms_norm_eps);
    return input.map((value, i) => (value / scale) * weight[i]!);
  }

  #linear(name: string, input: Vector): Vector {
    const out = multiply(this.#tensors.get(`${name}.weight`)!, input);
    const bias = this.#tensors.get(`${name}.bias`);
    return bias === undefined ? out : add(out, bias);
  }
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
    const at = row * inputs;
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < inputs; i++) {
      const value = input[i]!;
      a += matrix[at + i]! * value;
      b += matrix[at + inputs + i]! * value;
      c += matrix[at + 2 * inputs + i]! * value;
      d += matrix[at + 3 * inputs + i]! * value;
    }
    out.set([a, b, c, d], row);
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
