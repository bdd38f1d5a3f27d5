import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { STREAM_LINES } from '../kernels/common-variants.ts';
import { canStream, type StreamSizes, streamShape } from './linear-stream.ts';

const HOPPER = { multiprocessors: 132, sharedBytesOfBlock: 232_448, launchesDependent: true };
/** An RTX PRO 6000: compute capability 12.0. */
const WORKSTATION = { ...HOPPER, multiprocessors: 188, sharedBytesOfBlock: 101_376 };
/** What the kernel declares of a block's shared memory at the most. */
const DECLARED_BYTES = { element: 8_704, 'fp8-e4m3': 8_704, int4: 17_408 };

const product = (changes: Partial<StreamSizes> = {}): StreamSizes => ({
  count: 1,
  inputs: 4096,
  outputs: 6144,
  epilogue: 'store',
  format: 'element',
  blockInputs: 128,
  ...changes,
});

const products = fc.record({
  count: fc.integer({ min: 1, max: STREAM_LINES.int4 }),
  inputs: fc.integer({ min: 1, max: 2048 }).map((pieces) => pieces * 16),
  outputs: fc.integer({ min: 1, max: 100_000 }).map((pairs) => pairs * 2),
  epilogue: fc.constantFrom('store' as const, 'add' as const, 'gate' as const),
  format: fc.constantFrom('element' as const, 'fp8-e4m3' as const, 'int4' as const),
  blockInputs: fc.constantFrom(128, 256, 1 << 30),
});

describe('canStream', () => {
  it('takes the products of a decoder layer, a line or four at a time', () => {
    for (const count of [1, 4]) {
      for (const format of ['element', 'fp8-e4m3', 'int4'] as const) {
        for (const inputs of [2048, 4096, 8192, 12_288]) {
          expect(canStream(product({ count, format, inputs }), HOPPER)).toBe(true);
        }
      }
    }
  });

  it('leaves what the kernel cannot read to others', () => {
    expect(canStream(product({ count: 5 }), HOPPER)).toBe(false);
    expect(canStream(product({ count: 8, format: 'int4' }), HOPPER)).toBe(true);
    expect(canStream(product({ count: 9, format: 'int4' }), HOPPER)).toBe(false);
    expect(canStream(product({ inputs: 4100 }), HOPPER)).toBe(false);
    expect(canStream(product({ inputs: 4104 }), HOPPER)).toBe(true);
    expect(canStream(product({ inputs: 4104, format: 'fp8-e4m3' }), HOPPER)).toBe(false);
    expect(canStream(product({ blockInputs: 64, format: 'fp8-e4m3' }), HOPPER)).toBe(false);
    expect(canStream(product({ blockInputs: 4096, format: 'fp8-e4m3' }), HOPPER)).toBe(true);
    expect(canStream(product({ count: 4, inputs: 65_536 }), HOPPER)).toBe(false);
    expect(canStream(product({ inputs: 4112, format: 'int4' }), HOPPER)).toBe(false);
    expect(canStream(product({ blockInputs: 64, format: 'int4' }), HOPPER)).toBe(false);
    expect(canStream(product({ blockInputs: 256, format: 'int4' }), HOPPER)).toBe(false);
    expect(canStream(product({ blockInputs: 4096, format: 'int4' }), HOPPER)).toBe(true);
  });
});

describe('on a GPU with less memory for a block', () => {
  it('takes the lines for which two stages are left', () => {
    const sizes = product({ inputs: 12_288 });
    expect(canStream(sizes, WORKSTATION)).toBe(true);
    expect(streamShape(sizes, WORKSTATION).stages).toBe(2);
    expect(canStream({ ...sizes, count: 4 }, WORKSTATION)).toBe(false);
  });

  it('takes nothing where a kernel cannot start before the one before it ends', () => {
    expect(canStream(product(), { ...HOPPER, launchesDependent: false })).toBe(false);
  });
});

describe('streamShape', () => {
  it('gives a long product a ring that fills most of a multiprocessor', () => {
    expect(streamShape(product({ outputs: 151_936 }), HOPPER)).toEqual({
      grid: [HOPPER.multiprocessors],
      threads: 288,
      sharedBytes: 4 * 33_792 + 8_256,
      stages: 4,
    });
  });

  it('gives a short product no more stages than it has steps', () => {
    const { grid, stages } = streamShape(product({ inputs: 64, outputs: 16 }), HOPPER);
    expect({ grid, stages }).toEqual({ grid: [1], stages: 1 });
  });

  it('stays within the memory, the multiprocessors and the barriers for whatever it takes', () => {
    fc.assert(
      fc.property(products, fc.constantFrom(HOPPER, WORKSTATION), (sizes, gpu) => {
        fc.pre(canStream(sizes, gpu));
        const { grid, sharedBytes, stages } = streamShape(sizes, gpu);
        expect(sharedBytes).toBeLessThanOrEqual(
          gpu.sharedBytesOfBlock - DECLARED_BYTES[sizes.format],
        );
        expect(grid[0]).toBeGreaterThanOrEqual(1);
        expect(grid[0]).toBeLessThanOrEqual(gpu.multiprocessors);
        expect(stages).toBeGreaterThanOrEqual(1);
        expect(stages).toBeLessThanOrEqual(16);
        expect(Number.isInteger(sharedBytes)).toBe(true);
      }),
    );
  });
});
