import { f32FromBf16 } from '../../bf16.ts';
import { f32FromF16 } from '../../f16.ts';
import { AWQ_OUTPUTS, INT4_MIDDLE, int4Word, zeroShift } from '../../int4.ts';
import type { OpArgs } from '../../ops.ts';
import { rangeOf, type Share } from './share.ts';

type Codes = Pick<OpArgs['order-int4-codes'], 'order' | 'inputs' | 'outputs'>;
type Scales = Pick<
  OpArgs['join-int4-scales'],
  'scaleType' | 'zeroOffset' | 'order' | 'outputs' | 'groups'
>;

/** `order-int4-codes` over a share of the outputs; words of eight codes. */
export function orderInt4Codes(
  input: Uint32Array,
  out: Uint32Array,
  { order, inputs, outputs }: Codes,
  share: Share,
): void {
  const words = inputs / 8;
  const [from, to] = rangeOf(share, outputs);
  for (let output = from; output < to; output++) {
    const shift = 4 * AWQ_OUTPUTS.indexOf((output % 8) as 0);
    const column = output >> 3;
    for (let word = 0; word < words; word++) {
      let codes = 0;
      if (order === 'gptq') {
        codes = input[word * outputs + output]!;
      } else {
        for (let k = 0; k < 8; k++) {
          const stored = input[(word * 8 + k) * (outputs / 8) + column]!;
          codes |= ((stored >>> shift) & 15) << (4 * k);
        }
      }
      out[output * words + word] = codes;
    }
  }
}

/** `join-int4-scales` over a share of the outputs. */
export function joinInt4Scales(
  scales: Uint16Array,
  zeros: Uint32Array | null,
  out: Uint32Array,
  { scaleType, zeroOffset, order, outputs, groups }: Scales,
  share: Share,
): void {
  const [from, to] = rangeOf(share, outputs);
  const isByRow = order === 'rows';
  const bits = new Uint16Array(groups);
  const values = new Float32Array(groups);
  for (let output = from; output < to; output++) {
    for (let group = 0; group < groups; group++) {
      bits[group] = scales[isByRow ? output * groups + group : group * outputs + output]!;
    }
    if (scaleType === 'bf16') f32FromBf16(bits, values);
    else f32FromF16(bits, values);
    const shift = zeroShift(order, output);
    const column = output >> 3;
    for (let group = 0; group < groups; group++) {
      const at = isByRow ? column * groups + group : group * (outputs / 8) + column;
      const zero = zeros === null ? INT4_MIDDLE : ((zeros[at]! >>> shift) & 15) + zeroOffset;
      out[output * groups + group] = int4Word(values[group]!, zero);
    }
  }
}
