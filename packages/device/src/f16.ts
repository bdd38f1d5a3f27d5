/** float16 (IEEE 754 binary16): a sign, 5 bits of exponent with bias 15, 10 of fraction. */

const CODES = 0x10000;

function decode(code: number): number {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >>> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The values of all codes, made when they are first wanted. */
let values: Float32Array | undefined;

/** Widens float16 bits to float32, exactly; `out` is allocated unless given. */
export function f32FromF16(
  bits: Uint16Array,
  out: Float32Array = new Float32Array(bits.length),
): Float32Array {
  values ??= Float32Array.from({ length: CODES }, (_, code) => decode(code));
  const table = values;
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]!]!;
  return out;
}
