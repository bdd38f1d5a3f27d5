/**
 * FP8 in its E4M3 variant (OCP 8-bit floating point specification; PyTorch's float8_e4m3fn): a
 * sign, 4 bits of exponent with bias 7, 3 of fraction; no infinities, 0x7f and 0xff are NaN.
 */

/** The largest finite value. */
export const E4M3_MAX = 448;

const MAX_CODE = 0x7e;
const NAN_CODE = 0x7f;
const F32_INFINITY = 0x7f800000;
/** The smallest normal value, 2^-6, as float32 bits. */
const SMALLEST_NORMAL = 121 << 23;
/** Between the exponents' biases, where E4M3's exponent stands. */
const REBIAS = (127 - 7) << 3;
/** Adding 2^52 leaves no bits for fractions: the sum is rounded to nearest even. */
const ROUNDER = 2 ** 52;

function decode(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const exponent = (code >> 3) & 0xf;
  const fraction = code & 0x7;
  if ((code & 0x7f) === NAN_CODE) return Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -9;
  return sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}

/** The values of all 256 codes, exactly. */
export const E4M3_VALUES: Readonly<Float32Array> = Float32Array.from({ length: 256 }, (_, code) =>
  decode(code),
);

/**
 * Rounds each of `values` to the nearest E4M3 value, ties to even, and stores its code in `out`,
 * which is allocated unless given. What is larger than 448 becomes 448; NaN stays NaN.
 */
export function e4m3FromF32(
  values: Float32Array,
  out: Uint8Array = new Uint8Array(values.length),
): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    const sign = (word >>> 24) & 0x80;
    const size = word & 0x7fffffff;
    if (size > F32_INFINITY) {
      out[i] = sign | NAN_CODE;
    } else if (size < SMALLEST_NORMAL) {
      out[i] = sign | (Math.abs(values[i]!) * 512 + ROUNDER - ROUNDER);
    } else {
      const rounded = (size + 0x7ffff + ((size >>> 20) & 1)) >>> 20;
      out[i] = sign | Math.min(rounded - REBIAS, MAX_CODE);
    }
  }
  return out;
}

/** Widens E4M3 codes to float32, exactly; `out` is allocated unless given. */
export function f32FromE4m3(
  codes: Uint8Array,
  out: Float32Array = new Float32Array(codes.length),
): Float32Array {
  for (let i = 0; i < codes.length; i++) out[i] = E4M3_VALUES[codes[i]!]!;
  return out;
}
