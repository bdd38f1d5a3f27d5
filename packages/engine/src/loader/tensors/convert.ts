import { bf16FromF32, type ElementType, f32FromBf16, f32FromF16 } from '@bridgekeeper/device';
import type { StoredType } from '../../models/spec.ts';

/** Element conversions between what checkpoints store and what devices hold. */

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
