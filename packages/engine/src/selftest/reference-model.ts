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
};
const WIDTHS: Readonly<Record<string, number>> = { F32: 4, BF16: 2, F8_E4M3: 1 };

/**
 * A dense decoder in plain float64, written from the architectures' papers and sharing nothing with
 * the engine: no pages, no batches, no fused weights. Reads single safetensors files of float32 and
 * bfloat16, and of FP8 with scales. `roundKv` is applied to each key and value.
 */
export class ReferenceModel {
  readonly #config: Config;
  readonly #rope: ReferenceRope;
  readonly #tensors = new Map<string, Vector>();
  readonly #roundKv: (value: number) => number;

  constructor(folder: string, roundKv = (value: number) => value) {
    this.#roundKv = roundKv;
    this.#config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Config;
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
      this.#tensors.set(name, values);
    }
    for (const [name, { dtype, shape }] of Object.entries(header)) {
      if (dtype === 'F8_E4M3') this.#scale(name, shape as [number, number]);
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
      const attended = this.#attention(name, states);
      states = states.map((state, i) => add(state, attended[i]!));
      states = states.map((state) => add(state, this.#feedForward(name, state)));
    }
    return states.map((state) => this.#norm('model.norm', state));
  }

  #attention(layer: string, states: readonly Vector[]): Vector[] {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim } = this.#config;
    const name = `${layer}.self_attn`;
    const inputs = states.map((state) => this.#norm(`${layer}.input_layernorm`, state));
    const project = (which: 'q' | 'k', count: number) =>
      inputs.map((input, position) => {
        const whole = this.#linear(`${name}.${which}_proj`, input);
        return Array.from({ length: count }, (_, head) => {
          const part = whole.slice(head * head_dim, (head + 1) * head_dim);
          const isNormed = this.#tensors.has(`${name}.${which}_norm.weight`);
          return this.#rotate(
            isNormed ? this.#norm(`${name}.${which}_norm`, part) : part,
            position,
          );
        });
      });
    const queries = project('q', heads);
    const keys = project('k', kvHeads).map((of) => of.map((key) => key.map(this.#roundKv)));
    const values = inputs.map((input) => this.#linear(`${name}.v_proj`, input).map(this.#roundKv));
    const window = this.#config.sliding_window ?? Number.POSITIVE_INFINITY;
    return states.map((_, position) => {
      const out = new Float64Array(heads * head_dim);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads);
        const first = Math.max(0, position - window + 1);
        const scores = new Float64Array(position + 1).fill(Number.NEGATIVE_INFINITY);
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

  #feedForward(layer: string, state: Vector): Vector {
    const input = this.#norm(`${layer}.post_attention_layernorm`, state);
    const gate = this.#linear(`${layer}.mlp.gate_proj`, input);
    const up = this.#linear(`${layer}.mlp.up_proj`, input);
    const product = gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!);
    return this.#linear(`${layer}.mlp.down_proj`, product);
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
