import { int4Scale, int4Zero } from '../../int4.ts';
import type { MatmulShape } from './matmul.ts';
import { multiplyWidened } from './matmul-widened.ts';
import type { Share } from './share.ts';

/** A weight [outputs, inputs] as 4-bit codes, and a word for each group of inputs (int4.ts). */
export interface Int4Weight {
  readonly codes: Uint8Array;
  /** [outputs, inputs / blockInputs] */
  readonly scales: Uint32Array;
  readonly blockInputs: number;
}

/** As kernels/matmul.ts, over a share of the outputs. */
export function matmulInt4(
  input: Float32Array,
  weight: Int4Weight,
  bias: Float32Array | null,
  out: Float32Array,
  shape: MatmulShape,
  share: Share,
): void {
  const widenRow = (row: number, widened: Float64Array) =>
    widen(weight, row, shape.inputs, widened);
  multiplyWidened(input, widenRow, bias, out, shape, share);
}

/** One line of the weight, group by group. */
function widen(
  { codes, scales, blockInputs }: Int4Weight,
  row: number,
  inputs: number,
  widened: Float64Array,
): void {
  const start = row * inputs;
  let group = row * (inputs / blockInputs);
  for (let first = 0; first < inputs; first += blockInputs, group++) {
    const word = scales[group]!;
    const scale = int4Scale(word);
    const zero = int4Zero(word);
    for (let k = first; k < first + blockInputs; k += 2) {
      const pair = codes[(start + k) / 2]!;
      widened[k] = ((pair & 15) - zero) * scale;
      widened[k + 1] = ((pair >> 4) - zero) * scale;
    }
  }
}
