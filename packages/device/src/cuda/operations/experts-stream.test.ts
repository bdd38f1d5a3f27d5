import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commonVariants } from '../kernels/common-variants.ts';
import { type StreamSizes, streamShape } from './experts-stream.ts';

/** An H200's. */
const GPU = { multiprocessors: 132, sharedBytesOfBlock: 232_448, launchesDependent: true };
const REGISTERS = 65_536;

const GPT_OSS: StreamSizes = {
  count: 8,
  topK: 4,
  allExperts: 128,
  format: 'mxfp4',
  blockInputs: 32,
  inputs: 2880,
};
const QWEN: StreamSizes = {
  count: 1,
  topK: 8,
  allExperts: 128,
  format: 'fp8-e4m3',
  blockInputs: 128,
  inputs: 768,
};

const anySizes: fc.Arbitrary<StreamSizes> = fc.record({
  count: fc.integer({ min: 1, max: 300 }),
  topK: fc.integer({ min: 1, max: 8 }),
  allExperts: fc.integer({ min: 8, max: 300 }),
  format: fc.constantFrom('element', 'fp8-e4m3', 'mxfp4'),
  blockInputs: fc.constantFrom(32, 64, 128, 100_000),
  inputs: fc.integer({ min: 1, max: 512 }).map((blocks) => blocks * 32),
});

describe('experts-stream', () => {
  it('takes what its limits allow', () => {
    expect(streamShape(GPT_OSS, GPU)).not.toBeNull();
    expect(streamShape({ ...GPT_OSS, inputs: 2880 + 32 }, GPU)).toBeNull();
    expect(streamShape({ ...GPT_OSS, inputs: 20_480 }, GPU)).toBeNull();
    expect(streamShape(GPT_OSS, { ...GPU, launchesDependent: false })).toBeNull();
    expect(streamShape({ ...QWEN, blockInputs: 32 }, GPU)).toBeNull();
    expect(streamShape({ ...QWEN, blockInputs: 768 }, GPU)).not.toBeNull();
  });

  it('leaves many lines of an expert to others', () => {
    const tile = (count: number) => streamShape({ ...GPT_OSS, count }, GPU)?.defines.LINE_TILE;
    expect([1, 128, 192, 256, 320, 512].map(tile)).toEqual([8, 8, 16, 16, 16, undefined]);
  });

  it('asks for no more than a multiprocessor has', () => {
    const ahead = commonVariants().filter(({ unit }) => unit === 'experts-stream');
    const variants = new Set(ahead.map(({ defines }) => JSON.stringify(defines)));
    fc.assert(
      fc.property(anySizes, (sizes) => {
        const found = streamShape(sizes, GPU);
        if (found === null) return;
        const { shape, defines } = found;
        expect(shape.sharedBytes).toBeLessThan(GPU.sharedBytesOfBlock);
        expect(shape.threads * 128).toBeLessThanOrEqual(REGISTERS);
        expect(variants).toContain(JSON.stringify(defines));
      }),
    );
  });
});
