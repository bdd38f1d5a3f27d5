/**
 * The kernels' random numbers: counter-based, so that a row's n-th draw is the same on every
 * device, under every policy and in every batch. 32-bit arithmetic only; kernels/common.cuh has the
 * same functions.
 */

/** Finaliser "lowbias32" of Chris Wellons' hash-prospector: a bijection with good avalanche. */
export function mix32(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** 32 random bits for draw `counter` of the stream `seed`. */
export function hash32(seedLo: number, seedHi: number, counter: number): number {
  const high = mix32((seedHi + 0x9e3779b9) | 0);
  const low = mix32((seedLo ^ high) | 0);
  return mix32((Math.imul(counter, 0x9e3779b9) + low) | 0) ^ 0;
}

/** In [0, 1), a multiple of 2^-24, exact in float32. */
export function sampleUniform(seedLo: number, seedHi: number, counter: number): number {
  return (hash32(seedLo, seedHi, counter) >>> 8) / 0x1000000;
}

/** The same for filling memory: `index` may exceed 32 bits. */
export function hashUniform(seed: number, index: number): number {
  return sampleUniform(seed, Math.floor(index / 0x100000000), (index % 0x100000000) | 0);
}
