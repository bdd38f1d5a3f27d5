import { E4M3_VALUES } from '../../fp8.ts';
import type { MatmulShape } from './matmul.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

/** A weight [outputs, inputs] as E4M3 codes, and what each block is multiplied by. */
export interface Fp8Weight {
  readonly codes: Uint8Array;
  /** [ceil(outputs / blockOutputs), ceil(inputs / blockInputs)] */
  readonly scales: Float32Array;
  readonly blockOutputs: number;
  readonly blockInputs: number;
}

const widenedScratch = new Scratch();

/**
 * As kernels/matmul.ts, over a share of the outputs: each line of the weight is widened once, for
 * all lines of the input. A line's results do not depend on the lines beside it.
 */
export function matmulFp8(
  input: Float32Array,
  weight: Fp8Weight,
  bias: Float32Array | null,
  out: Float32Array,
  { count, inputs, outputs }: MatmulShape,
  share: Share,
): void {
  const [from, to] = rangeOf(share, outputs);
  const widened = widenedScratch.take(inputs);
  for (let column = from; column < to; column++) {
    widen(weight, column, inputs, widened);
    const added = bias === null ? 0 : bias[column]!;
    let line = 0;
    for (; line + 4 <= count; line += 4) {
      fourLines(
        input,
        line * inputs,
        widened,
        inputs,
        added,
        out,
        line * outputs + column,
        outputs,
      );
    }
    for (; line < count; line++) {
      let sum = 0;
      const start = line * inputs;
      for (let k = 0; k < inputs; k++) sum += input[start + k]! * widened[k]!;
      out[line * outputs + column] = sum + added;
    }
  }
}

/** One line of the weight, block by block. */
function widen(
  { codes, scales, blockOutputs, blockInputs }: Fp8Weight,
  column: number,
  inputs: number,
  widened: Float64Array,
): void {
  const start = column * inputs;
  let block = Math.floor(column / blockOutputs) * Math.ceil(inputs / blockInputs);
  for (let first = 0; first < inputs; first += blockInputs, block++) {
    const scale = scales[block]!;
    const end = Math.min(first + blockInputs, inputs);
    for (let k = first; k < end; k++) widened[k] = E4M3_VALUES[codes[start + k]!]! * scale;
  }
}

/** One output of four lines. */
function fourLines(
  input: Float32Array,
  start: number,
  widened: Float64Array,
  inputs: number,
  added: number,
  out: Float32Array,
  at: number,
  outputs: number,
): void {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const x1 = start + inputs;
  const x2 = x1 + inputs;
  const x3 = x2 + inputs;
  for (let k = 0; k < inputs; k++) {
    const value = widened[k]!;
    s0 += input[start + k]! * value;
    s1 += input[x1 + k]! * value;
    s2 += input[x2 + k]! * value;
    s3 += input[x3 + k]! * value;
  }
  out[at] = s0 + added;
  out[at + outputs] = s1 + added;
  out[at + 2 * outputs] = s2 + added;
  out[at + 3 * outputs] = s3 + added;
}
