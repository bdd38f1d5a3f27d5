import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The keys of config.json that the reference reads. */
interface Config {
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly intermediate_size: number;
  readonly vocab_size: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly sliding_window: number | null;
}

type Vector = Float64Array;

/**
 * A dense decoder in plain float64, written from the architectures' papers and sharing nothing with
 * the engine: no pages, no batches, no fused weights. Reads single float32 safetensors files.
 */
export class ReferenceModel {
  readonly #config: Config;
  readonly #tensors = new Map<string, Vector>();

  constructor(folder: string) {
    this.#config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Config;
    const file = readFileSync(join(folder, 'model.safetensors'));
    const headerBytes = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
      string,
      { readonly data_offsets: readonly [number, number] }
    >;
    for (const [name, entry] of Object.entries(header)) {
      if (name === '__metadata__') continue;
      const [from, to] = entry.data_offsets;
      const values = new Float64Array((to - from) / 4);
      for (let i = 0; i < values.length; i++) {
        values[i] = file.readFloatLE(8 + headerBytes + from + 4 * i);
      }
      this.#tensors.set(name, values);
    }
  }

  /** Log-probabilities of the next token after each of `tokens`. */
  logprobs(tokens: readonly number[]): Vector[] {
    const { hidden_size: width, num_hidden_layers: layers } = this.#config;
    const table = this.#tensors.get('model.embed_tokens.weight')!;
    let states: Vector[] = tokens.map((token) => table.slice(token * width, (token + 1) * width));
    for (let layer = 0; layer < layers; layer++) {
      const name = `model.layers.${layer}`;
      const attended = this.#attention(name, states);
      states = states.map((state, i) => add(state, attended[i]!));
      states = states.map((state) => add(state, this.#feedForward(name, state)));
    }
    const head = this.#tensors.get('lm_head.weight') ?? table;
    return states.map((state) => logSoftmax(multiply(head, this.#norm('model.norm', state))));
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
    const keys = project('k', kvHeads);
    const values = inputs.map((input) => this.#linear(`${name}.v_proj`, input));
    const window = this.#config.sliding_window ?? Number.POSITIVE_INFINITY;
    return states.map((_, position) => {
      const out = new Float64Array(heads * head_dim);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads);
        const scores = new Float64Array(position + 1).map((_, at) =>
          position - at < window
            ? dot(queries[position]![head]!, keys[at]![kvHead]!) / Math.sqrt(head_dim)
            : Number.NEGATIVE_INFINITY,
        );
        const weights = logSoftmax(scores).map(Math.exp);
        for (let at = 0; at <= position; at++) {
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

  /** Rotates dimension i with i + half by position * theta^(-i / half). */
  #rotate(head: Vector, position: number): Vector {
    const half = head.length / 2;
    return head.map((value, i) => {
      const angle = position * this.#config.rope_theta ** (-(i % half) / half);
      const partner = i < half ? -head[i + half]! : head[i - half]!;
      return value * Math.cos(angle) + partner * Math.sin(angle);
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
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

function add(a: Vector, b: Vector): Vector {
  return a.map((value, i) => value + b[i]!);
}

function multiply(matrix: Vector, input: Vector): Vector {
  return new Float64Array(matrix.length / input.length).map((_, row) =>
    dot(matrix.subarray(row * input.length, (row + 1) * input.length), input),
  );
}

function logSoftmax(values: Vector): Vector {
  const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0);
  return values.map((value) => value - most - Math.log(total));
}
