import type { MatmulShape } from './matmul.ts';
import { rangeOf, Scratch, type Share } from './share.ts';

const widenedScratch = new Scratch();

/**
 * As kernels/matmul.ts over a packed weight, of which `widenRow` gives a line: each is widened
 * once, for all lines of the input. A line's results do not depend on the lines beside it.
 */
export function multiplyWidened(
  input: Float32Array,
  widenRow: (row: number, widened: Float64Array) => void,
  bias: Float32Array | null,
  out: Float32Array,
  { count, inputs, outputs }: MatmulShape,
  share: Share,
): void {
  const [from, to] = rangeOf(share, outputs);
  const widened = widenedScratch.take(inputs);
  for (let column = from; column < to; column++) {
    widenRow(column, widened);
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
