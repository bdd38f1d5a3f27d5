import { describe, expect, test } from 'vitest';
import { blockShape } from './experts.ts';

const H200 = { sharedBytesOfBlock: 232_448 };
const RTX_PRO_6000 = { sharedBytesOfBlock: 101_376 };
/** One assignment, few for each expert, and many. */
const COUNTS = [1, 40, 400];

const sizes = (count: number, inputs: number) => ({ count, topK: 8, allExperts: 128, inputs });

describe('a block of experts.cu', () => {
  test.each([
    ['element', 128, 1],
    ['fp8-e4m3', 256, 128],
    ['mxfp4', 512, 32],
    ['int4', 512, 128],
    ['int4', 512, 64],
  ] as const)('has its share of shared memory: %s', (format, step, blockInputs) => {
    for (const gpu of [H200, RTX_PRO_6000]) {
      for (const count of COUNTS) {
        for (const inputs of [768, 4096]) {
          const shape = blockShape({ ...sizes(count, inputs), format, blockInputs }, gpu);
          expect(shape.sharedBytes).toBeLessThan(gpu.sharedBytesOfBlock - 1024);
          expect(shape.chunkInputs % step).toBe(0);
          expect(shape.chunkInputs).toBeGreaterThan(0);
        }
      }
    }
  });

  test('is a smaller one where the scales of its rows leave no room for lines', () => {
    const kimi = { ...sizes(400, 7168), format: 'int4', blockInputs: 32 } as const;
    const linesOn = (gpu: typeof H200) => blockShape(kimi, gpu).tile.lines;
    expect([H200, RTX_PRO_6000].map(linesOn)).toEqual([32, 8]);
    const wide = { ...kimi, inputs: 4 * 7168 };
    expect(() => blockShape(wide, RTX_PRO_6000)).toThrow(/28672 inputs in int4.*shared memory/);
  });
});
