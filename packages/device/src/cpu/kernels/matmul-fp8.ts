import { E4M3_VALUES } from '../../fp8.ts';
import type { MatmulShape } from './matmul.ts';
import { multiplyWidened } from './matmul-widened.ts';
import type { Share } from './share.ts';

/** A weight [outputs, inputs] as E4M3 codes, and what each block is multiplied by. */
export interface Fp8Weight {
  readonly codes: Uint8Array;
  /** [ceil(outputs / blockOutputs), ceil(inputs / blockInputs)] */
  readonly scales: Float32Array;
  readonly blockOutputs: number;
  readonly blockInputs: number;
}

/** As kernels/matmul.ts, over a share of the outputs. */
export function matmulFp8(
  input: Float32Array,
  weight: Fp8Weight,
  bias: Float32Array | null,
  out: Float32Array,
  shape: MatmulShape,
  share: Share,
): void {
  const widenRow = (row: number, widened: Float64Array) =>
    widen(weight, row, shape.inputs, widened);
  multiplyWidened(input, widenRow, bias, out, shape, share);
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
