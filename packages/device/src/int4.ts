import { DeviceError } from './errors.ts';
import type { Int4Order, OpArgs } from './ops.ts';

/**
 * Weights as integers of 4 bits, with a scale and a zero point for each group of inputs. A group's
 * word is its scale as f32, whose lowest five bits are the zero point instead, 0 to 16: scales come
 * as bf16 or f16, of which no bit is lost by that.
 */

const ZERO_BITS = 31;
/** Where codes are signed and have no zero points of their own. */
export const INT4_MIDDLE = 8;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The word of a group, of a scale that bf16 or f16 holds. */
export function int4Word(scale: number, zero: number): number {
  float[0] = scale;
  return ((bits[0]! & ~ZERO_BITS) | zero) >>> 0;
}

export function int4Scale(word: number): number {
  bits[0] = word & ~ZERO_BITS;
  return float[0]!;
}

export function int4Zero(word: number): number {
  return word & ZERO_BITS;
}

/** Which of eight outputs has each four bits of a word, from the lowest on. */
export const AWQ_OUTPUTS = [0, 2, 4, 6, 1, 3, 5, 7] as const;

/** Where an output's four bits begin in a word that holds eight outputs' zero points. */
export function zeroShift(order: Int4Order, output: number): number {
  const place = output % 8;
  return 4 * (order === 'awq' ? AWQ_OUTPUTS.indexOf(place as 0) : place);
}

/** Throws DeviceError `bad-argument` for sizes that do not fill words. */
export function checkInt4(args: OpArgs['order-int4-codes'] | OpArgs['join-int4-scales']): void {
  const { outputs } = args;
  const sizes = 'inputs' in args ? { outputs, inputs: args.inputs } : { outputs };
  for (const [name, value] of Object.entries(sizes)) {
    if (Number.isSafeInteger(value) && value > 0 && value % 8 === 0) continue;
    const message = `int4 codes of ${value} ${name}: they must be a multiple of 8`;
    throw new DeviceError('bad-argument', message);
  }
}
