import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ScaleGrid } from './quantization.ts';
import { stackScales, weightScales } from './scales.ts';

const modulesOf = (outputs: readonly number[]) =>
  outputs.map((count, i) => ({ name: `module ${i}`, outputs: count }));

const blocks = (outputs: number, inputs = 128): ScaleGrid => ({ type: 'block', outputs, inputs });

describe('scales of stacked modules', () => {
  test.each<[string, ScaleGrid, number[], number, number[]]>([
    ['blocks that line up', blocks(128), [4096, 1024, 1024], 4096, [128, 128, 48, 32]],
    ['blocks that do not', blocks(128), [192, 64, 64], 256, [64, 128, 5, 2]],
    ['modules smaller than a block', blocks(128), [96, 96], 256, [96, 128, 2, 2]],
    ['one module with a partial block', blocks(128), [300], 200, [128, 128, 3, 2]],
    ['one scale a tensor', { type: 'tensor' }, [4096, 1024, 1024], 4096, [1024, 4096, 6, 1]],
    ['one scale for one module', { type: 'tensor' }, [300], 200, [300, 200, 1, 1]],
    ['one scale an output', { type: 'channel' }, [96, 32, 32], 64, [1, 64, 160, 1]],
  ])('%s', (_, grid, outputs, inputs, [blockOutputs, blockInputs, rows, columns]) => {
    const planned = weightScales(grid, modulesOf(outputs), inputs);
    expect(planned).toMatchObject({ blockOutputs, blockInputs, rows, columns });
  });

  test('every output keeps the scales of its own module', () => {
    const size = fc.integer({ min: 1, max: 40 });
    const grid = fc.oneof(
      fc.constantFrom<ScaleGrid>({ type: 'tensor' }, { type: 'channel' }),
      fc.tuple(size, size).map(([outputs, inputs]) => blocks(outputs, inputs)),
    );
    fc.assert(
      fc.property(
        grid,
        fc.array(size, { minLength: 1, maxLength: 3 }),
        size,
        (of, parts, inputs) => {
          const planned = weightScales(of, modulesOf(parts), inputs);
          const { columns, blockOutputs } = planned;
          // Each scale is a number of its own.
          const grids = planned.sources.map(({ outputs, blockOutputs: block }, part) => {
            const length = Math.ceil(outputs / block) * columns;
            return Float32Array.from({ length }, (_, i) => part * 10_000 + i);
          });
          const stacked = stackScales(planned, grids);
          expect(stacked).toHaveLength(planned.rows * columns);
          let first = 0;
          for (const [part, outputs] of parts.entries()) {
            for (let output = 0; output < outputs; output++) {
              const own = Math.floor(output / planned.sources[part]!.blockOutputs) * columns;
              const at = Math.floor((first + output) / blockOutputs) * columns;
              expect(stacked.subarray(at, at + columns)).toEqual(
                grids[part]!.subarray(own, own + columns),
              );
            }
            first += outputs;
          }
        },
      ),
    );
  });
});
