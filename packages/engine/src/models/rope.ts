import type { ModelSpec, RopeScaling } from './spec.ts';

type Llama3 = Extract<RopeScaling, { type: 'llama3' }>;
type Yarn = Extract<RopeScaling, { type: 'yarn' }>;

/** The unscaled frequencies theta^(-2i / headDim), in radians a position. */
function baseFrequencies(theta: number, headDim: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
}

/** Meta's scheme for Llama 3.1: by how many waves fit into the original context. */
function llama3Frequency(frequency: number, scaling: Llama3): number {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
  const waves = (scaling.originalMaxPositions * frequency) / (2 * Math.PI);
  if (waves > high) return frequency;
  if (waves < low) return frequency / factor;
  const smooth = (waves - low) / (high - low);
  return (1 - smooth) * (frequency / factor) + smooth * frequency;
}

/**
 * YaRN's "NTK by parts": dimensions that turn often keep their frequency, slow ones are
 * interpolated.
 */
function yarnFrequencies(frequencies: readonly number[], theta: number, scaling: Yarn): number[] {
  const headDim = frequencies.length * 2;
  /** The dimension that turns `rotations` times within the original context. */
  const dimensionOf = (rotations: number) =>
    (headDim * Math.log(scaling.originalMaxPositions / (rotations * 2 * Math.PI))) /
    (2 * Math.log(theta));
  const first = dimensionOf(scaling.betaFast);
  const last = dimensionOf(scaling.betaSlow);
  const low = Math.max(scaling.truncate ? Math.floor(first) : first, 0);
  const end = Math.min(scaling.truncate ? Math.ceil(last) : last, headDim - 1);
  // The published code keeps the ramp from dividing by zero in the same way.
  const high = end === low ? end + 0.001 : end;
  return frequencies.map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / scaling.factor) * ramp + frequency * (1 - ramp);
  });
}

/** The `headDim / 2` frequencies of `spec`, in radians a position. */
export function ropeFrequencies(spec: ModelSpec): number[] {
  const { theta, scaling } = spec.rope;
  const base = baseFrequencies(theta, spec.headDim);
  switch (scaling.type) {
    case 'none':
      return base;
    case 'linear':
      return base.map((frequency) => frequency / scaling.factor);
    case 'llama3':
      return base.map((frequency) => llama3Frequency(frequency, scaling));
    case 'yarn':
      return yarnFrequencies(base, theta, scaling);
  }
}

/**
 * What the `rope-write-kv` operation reads: float32 [positions, headDim / 2, (cos, sin)], yarn's
 * attention factor included. Angles are computed in float64 and rounded once, so long contexts lose
 * nothing to float32 products.
 */
export function ropeTable(spec: ModelSpec, positions: number): Float32Array {
  const frequencies = ropeFrequencies(spec);
  const { scaling } = spec.rope;
  const amplitude = scaling.type === 'yarn' ? scaling.attentionFactor : 1;
  const table = new Float32Array(positions * spec.headDim);
  let at = 0;
  for (let position = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      const angle = position * frequency;
      table[at++] = Math.cos(angle) * amplitude;
      table[at++] = Math.sin(angle) * amplitude;
    }
  }
  return table;
}

/** The table of layers that do not rotate. */
export function restingTable(spec: ModelSpec, positions: number): Float32Array {
  return new Float32Array(positions * spec.headDim).map((_, i) => (i % 2 === 0 ? 1 : 0));
}
