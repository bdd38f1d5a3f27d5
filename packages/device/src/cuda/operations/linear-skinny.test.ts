import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canBeSkinny, SKINNY_LINES, type SkinnySizes, skinnyShape } from './linear-skinny.ts';

/** An H100's. */
const MULTIPROCESSORS = 132;
const MULTIPROCESSOR_SHARED_BYTES = 233_472;
/** What the system takes of each block's. */
const SYSTEM_BYTES = 1024;
const REGISTERS = 65_536;

const QKV: SkinnySizes = {
  count: 8,
  inputs: 4096,
  outputs: 6144,
  epilogue: 'store',
  format: 'fp8-e4m3',
  blockInputs: 128,
  outType: 'bf16',
};
const GATE: SkinnySizes = { ...QKV, outputs: 24_576, epilogue: 'gate' };

const anySizes: fc.Arbitrary<SkinnySizes> = fc.record({
  count: fc.integer({ min: 1, max: SKINNY_LINES }),
  inputs: fc.integer({ min: 1, max: 1024 }).map((sixteens) => sixteens * 16),
  outputs: fc.integer({ min: 1, max: 80_000 }).map((pairs) => pairs * 2),
  epilogue: fc.constantFrom('store', 'add', 'gate'),
  format: fc.constantFrom('element', 'fp8-e4m3', 'int4'),
  blockInputs: fc.constantFrom(128, 100_000),
  outType: fc.constant('bf16' as const),
});

describe('linear-skinny', () => {
  it('takes what its limits allow', () => {
    expect(canBeSkinny(QKV)).toBe(true);
    expect(canBeSkinny({ ...QKV, count: SKINNY_LINES + 1 })).toBe(false);
    expect(canBeSkinny({ ...QKV, inputs: 4104 })).toBe(false);
    expect(canBeSkinny({ ...QKV, blockInputs: 64 })).toBe(false);
    expect(canBeSkinny({ ...QKV, inputs: 1040, blockInputs: 1040 })).toBe(true);
    expect(canBeSkinny({ ...QKV, outType: 'f32' })).toBe(true);
    expect(canBeSkinny({ ...QKV, format: 'int4' })).toBe(true);
    expect(canBeSkinny({ ...QKV, format: 'int4', inputs: 4112 })).toBe(false);
    expect(canBeSkinny({ ...QKV, format: 'int4', blockInputs: 256 })).toBe(false);
  });

  it('takes bf16 weights only where the library is no faster', () => {
    const element: SkinnySizes = { ...QKV, format: 'element' };
    expect(canBeSkinny(element)).toBe(true);
    expect(canBeSkinny({ ...element, count: 9 })).toBe(false);
    expect(canBeSkinny({ ...element, outType: 'f32' })).toBe(false);
  });

  it('splits the inputs until the multiprocessors are busy', () => {
    expect(skinnyShape(QKV, MULTIPROCESSORS).grid).toEqual([4, 1, 48]);
    expect(skinnyShape({ ...QKV, count: 32 }, MULTIPROCESSORS).grid).toEqual([3, 1, 32]);
    expect(skinnyShape({ ...QKV, count: 128 }, MULTIPROCESSORS).grid).toEqual([2, 2, 32]);
    expect(skinnyShape({ ...QKV, outputs: 151_936 }, MULTIPROCESSORS).grid).toEqual([1, 1, 1187]);
  });

  it('takes wide tiles where they need one wave of blocks and narrow ones more', () => {
    expect(skinnyShape(GATE, MULTIPROCESSORS)).toMatchObject({
      grid: [1, 1, 128],
      threads: 512,
      tile: { warpgroups: 3 },
    });
  });

  it('covers every output and line once, within what a multiprocessor has', () => {
    fc.assert(
      fc.property(anySizes, fc.integer({ min: 1, max: 200 }), (sizes, multiprocessors) => {
        const shape = skinnyShape(sizes, multiprocessors);
        const { tile, threads, sharedBytes = 0, clusterBlocks = 1 } = shape;
        const [splits, layers = 1, tiles = 1] = shape.grid;
        const isGate = sizes.epilogue === 'gate';
        const rows = (tile.warpgroups * 64) / (isGate ? 2 : 1);
        const outputs = isGate ? sizes.outputs / 2 : sizes.outputs;
        expect(tiles).toBe(Math.ceil(outputs / rows));
        expect(layers).toBe(Math.ceil(sizes.count / tile.lines));
        expect(clusterBlocks).toBe(splits);
        expect(splits).toBeLessThanOrEqual(8);
        const bytes = tile.minBlocks * (sharedBytes + SYSTEM_BYTES);
        expect(bytes).toBeLessThanOrEqual(MULTIPROCESSOR_SHARED_BYTES);
        // What the kernel is launched with: its warps share these out anew.
        const registers = Math.floor(512 / tile.minBlocks / (tile.warpgroups + 1) / 8) * 8;
        expect(tile.minBlocks * threads * registers).toBeLessThanOrEqual(REGISTERS);
      }),
    );
  });
});
