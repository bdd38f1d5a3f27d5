import type { Rope, RopeScaling } from './spec.ts';

type Llama3 = Extract<RopeScaling, { type: 'llama3' }>;
type Yarn = Extract<RopeScaling, { type: 'yarn' }>;

/** The unscaled frequencies theta^(-2i / dims), in radians a position. */
function baseFrequencies(theta: number, dims: number): number[] {
  return Array.from({ length: dims / 2 }, (_, i) => theta ** ((-2 * i) / dims));
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

/** The frequencies of `rope`, of its first pairs of dims that turn, in radians a position. */
export function ropeFrequencies({ theta, scaling, rotaryDim }: Rope): number[] {
  const base = baseFrequencies(theta, rotaryDim);
  switch (scaling.type) {
    case 'none':
      return base;
    case 'linear':
      return base.map((frequency) => frequency / scaling.factor);
    case 'llama3':
      return base.map((frequency) => llama3Frequency(frequency, scaling));
    case 'yarn':
      return yarnFrequencies(base, theta, scaling);
    case 'proportional':
      return base.slice(0, scaling.turning).map((frequency) => frequency / scaling.factor);
  }
}

/**
 * What the attention operation reads: float32 [positions, headDim / 2, (cos, sin)], yarn's
 * attention factor included; pairs that do not rotate, and all of them where `rope` is null, have
 * (1, 0). Angles are computed in float64 and rounded once, so long contexts lose nothing to float32
 * products.
 */
export function ropeTable(rope: Rope | null, headDim: number, positions: number): Float32Array {
  const frequencies = rope === null ? [] : ropeFrequencies(rope);
  const amplitude = rope?.scaling.type === 'yarn' ? rope.scaling.attentionFactor : 1;
  const table = new Float32Array(positions * headDim);
  for (let position = 0; position < positions; position++) {
    let at = position * headDim;
    for (const frequency of frequencies) {
      const angle = position * frequency;
      table[at++] = Math.cos(angle) * amplitude;
      table[at++] = Math.sin(angle) * amplitude;
    }
    for (; at < (position + 1) * headDim; at += 2) table[at] = 1;
  }
  return table;
}
