import { bf16FromF32, type ElementType, f32FromBf16 } from '@bridgekeeper/device';
import type { StoredType } from '../models/spec.ts';

/** Element conversions between what checkpoints store and what devices hold. */

const HALF_VALUES = 0x10000;
let halfTable: Float32Array | undefined;

/** The value of one float16, exactly. */
function f32FromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Widens float16 bits to float32, exactly. */
export function f32FromF16(
  bits: Uint16Array,
  out: Float32Array = new Float32Array(bits.length),
): Float32Array {
  halfTable ??= Float32Array.from({ length: HALF_VALUES }, (_, value) => f32FromHalf(value));
  const table = halfTable;
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]!]!;
  return out;
}

export function storedBytes(type: StoredType): number {
  return type === 'f32' ? 4 : 2;
}

/**
 * Converts `elements` elements of `source` into `target`. Both must be aligned to their elements.
 * Rounds to nearest even where bits are lost; the identity is a copy.
 */
export function convertElements(
  source: Uint8Array,
  from: StoredType,
  target: Uint8Array,
  to: ElementType,
  elements: number,
): void {
  if (from === to) {
    target.set(source.subarray(0, elements * storedBytes(from)));
    return;
  }
  if (from === 'f32') {
    const values = new Float32Array(source.buffer, source.byteOffset, elements);
    bf16FromF32(values, new Uint16Array(target.buffer, target.byteOffset, elements));
    return;
  }
  const bits = new Uint16Array(source.buffer, source.byteOffset, elements);
  if (to === 'bf16') {
    bf16FromF32(f32FromF16(bits), new Uint16Array(target.buffer, target.byteOffset, elements));
    return;
  }
  const values = new Float32Array(target.buffer, target.byteOffset, elements);
  if (from === 'bf16') f32FromBf16(bits, values);
  else f32FromF16(bits, values);
}
