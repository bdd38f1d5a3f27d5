/**
 * bfloat16 is the upper half of float32: these convert arrays, rounding to nearest even; NaN stays
 * NaN.
 */

/**
 * Rounds each of `values` to bf16 and stores its 16 bits in `out`, which is allocated unless given.
 */
export function bf16FromF32(
  values: Float32Array,
  out: Uint16Array = new Uint16Array(values.length),
): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    // A NaN whose payload lies in the lower half would round to infinity: keep it quiet instead.
    out[i] =
      (word & 0x7fffffff) > 0x7f800000
        ? (word >>> 16) | 0x40
        : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** Widens bf16 bits to float32, exactly; `out` is allocated unless given. */
export function f32FromBf16(
  bits: Uint16Array,
  out: Float32Array = new Float32Array(bits.length),
): Float32Array {
  const words = new Uint32Array(out.buffer, out.byteOffset, bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return out;
}
