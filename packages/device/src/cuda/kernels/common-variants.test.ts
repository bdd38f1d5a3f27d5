import { describe, expect, it } from 'vitest';
import {
  canBeSkinny,
  type SkinnySizes,
  skinnyShape,
  tileDefines,
} from '../operations/linear-skinny.ts';
import { commonVariants, STREAM_LINES } from './common-variants.ts';
import type { KernelDefines, KernelUnit } from './kernel-source.ts';

const variants = (unit: KernelUnit) =>
  commonVariants()
    .filter((variant) => variant.unit === unit)
    .map(({ defines }) => defines);

describe('what is compiled ahead', () => {
  it('has every variant once', () => {
    const names = commonVariants().map(({ unit, defines }) => `${unit} ${JSON.stringify(defines)}`);
    expect(new Set(names).size).toBe(names.length);
  });

  it('has every tile that products of any size ask for', () => {
    const wanted = new Map<string, KernelDefines>();
    for (const multiprocessors of [78, 114, 132]) {
      for (const format of ['element', 'fp8-e4m3', 'int4'] as const) {
        for (let count = 1; count <= 128; count++) {
          for (let outputs = 512; outputs <= 65_536; outputs += 512) {
            const sizes: SkinnySizes = {
              count,
              inputs: 4096,
              outputs,
              epilogue: 'store',
              format,
              blockInputs: 128,
              outType: 'bf16',
            };
            if (!canBeSkinny(sizes)) continue;
            const { tile } = skinnyShape(sizes, multiprocessors);
            const defines = tileDefines(format, tile);
            wanted.set(JSON.stringify(defines), defines);
          }
        }
      }
    }
    expect(variants('linear-skinny')).toEqual(expect.arrayContaining([...wanted.values()]));
    expect(variants('linear-skinny')).toHaveLength(wanted.size);
  });

  it('has a kernel for every number of lines that weights are streamed past', () => {
    expect(variants('linear')).toHaveLength(4 + 4 + 8);
    expect(variants('linear')).toContainEqual({ LINE_COUNT: STREAM_LINES.int4, FORMAT: 2 });
  });
});
