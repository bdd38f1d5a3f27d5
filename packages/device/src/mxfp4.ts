/** MXFP4 (OCP Microscaling Formats): 4-bit codes (E2M1) and a power of two for each 32 of them. */

/** The values of all 16 codes, exactly. */
export const E2M1_VALUES: Readonly<Float64Array> = Float64Array.of(
  ...[0, 0.5, 1, 1.5, 2, 3, 4, 6],
  ...[-0, -0.5, -1, -1.5, -2, -3, -4, -6],
);

/** The largest scale that is no NaN here: weights are then 12 at the most. */
const MAX_SCALE = 128;

/** What codes under this scale (E8M0) are multiplied by. */
export function e8m0Value(scale: number): number {
  return scale > MAX_SCALE ? Number.NaN : 2 ** (scale - 127);
}
