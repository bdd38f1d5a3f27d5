import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Dice } from '../../contract/workbench.ts';
import { type MatmulShape, matmul } from '../kernels/matmul.ts';
import { WHOLE } from '../testing/share.ts';
import { allocateForSimd, SIMD_INPUTS_MAX, SimdMatmul } from './simd-matmul.ts';
import { wasm } from './wasm.ts';
import { FunctionWriter, f32, f32x4, i32, i32x4, writeModule } from './wasm-writer.ts';

const THREADS = 3;

interface Case {
  readonly shape: MatmulShape;
  readonly input: Float32Array;
  readonly weight: Float32Array;
  readonly bias: Float32Array | null;
  readonly parts: number;
}

function caseOf(shape: MatmulShape, hasBias: boolean, parts: number, seed: number): Case {
  const { count, inputs, outputs } = shape;
  const dice = new Dice(seed);
  return {
    shape,
    input: dice.values(count * inputs),
    weight: dice.values(outputs * inputs),
    bias: hasBias ? dice.values(outputs) : null,
    parts,
  };
}

/** The product by SIMD, in a memory that holds nothing but NaN beside the weights. */
function simdProduct({ shape, input, weight, bias, parts }: Case): Float32Array {
  const offsetBytes = 16;
  const bytes = offsetBytes + weight.byteLength;
  const memory = allocateForSimd(bytes, THREADS)!;
  new Float32Array(memory.buffer).fill(Number.NaN);
  new Float32Array(memory.buffer, offsetBytes).set(weight);
  const simd = new SimdMatmul(memory, bytes);
  const out = new Float32Array(shape.count * shape.outputs).fill(Number.NaN);
  for (let part = 0; part < parts; part++) {
    simd.run(input, offsetBytes, bias, out, shape, { part, parts });
  }
  return out;
}

function expectSameBits(one: Case): void {
  const { count, inputs, outputs } = one.shape;
  const out = simdProduct(one);
  for (let line = 0; line < count; line++) {
    const input = one.input.subarray(line * inputs, (line + 1) * inputs);
    const alone = simdProduct({ ...one, shape: { ...one.shape, count: 1 }, input, parts: 1 });
    expect(out.subarray(line * outputs, (line + 1) * outputs)).toEqual(alone);
  }
}

function expectClose(one: Case): void {
  const { count, inputs, outputs } = one.shape;
  const expected = new Float32Array(count * outputs);
  matmul(one.input, one.weight, one.bias, expected, one.shape, WHOLE);
  const out = simdProduct(one);
  // Factors are below 1: rounding errors grow with the number of terms, and not faster.
  const tolerance = (inputs + 1) * 2 ** -23;
  const worst = out.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
  expect(worst).toBeLessThanOrEqual(tolerance);
}

const cases = fc
  .record({
    count: fc.integer({ min: 1, max: 21 }),
    inputs: fc.integer({ min: 1, max: 70 }),
    outputs: fc.integer({ min: 1, max: 37 }),
    hasBias: fc.boolean(),
    parts: fc.integer({ min: 1, max: THREADS }),
    seed: fc.nat(),
  })
  .map(({ hasBias, parts, seed, ...shape }) => caseOf(shape, hasBias, parts, seed));

/** More lines, inputs and outputs than fit the scratch room at once. */
const LARGE = [
  caseOf({ count: 3, inputs: 17_001, outputs: 10 }, true, 2, 1),
  caseOf({ count: 18, inputs: 6, outputs: 2_500 }, true, 1, 2),
  caseOf({ count: 1, inputs: SIMD_INPUTS_MAX, outputs: 9 }, false, 1, 3),
];

describe('the product by SIMD', () => {
  it('is that of the plain kernel', () => {
    fc.assert(fc.property(cases, expectClose), { numRuns: 60 });
    for (const one of LARGE) expectClose(one);
  });

  it('has the same bits whatever lines and workers are beside a line', () => {
    fc.assert(fc.property(cases, expectSameBits), { numRuns: 30 });
    for (const one of LARGE) expectSameBits(one);
  });
});

describe('memory for SIMD', () => {
  it('is not to be had beyond 32-bit addresses', () => {
    expect(allocateForSimd(2 ** 32, 1)).toBeNull();
    expect(allocateForSimd(2 ** 53, 1)).toBeNull();
  });
});

describe('the assembler', () => {
  it('writes constants of any size', () => {
    const memory = new wasm!.Memory({ shared: true, initial: 1, maximum: 1 });
    const words = new Int32Array(memory.buffer);
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 0, max: 16_000 }), (value, index) => {
        const writer = new FunctionWriter('store');
        const lanes = i32x4.splat(i32.const(value));
        writer.add(f32.store(i32.const(0), 4 * index, f32x4.extractLane(3, lanes)));
        const module = new wasm!.Module(writeModule([writer]));
        const { store } = new wasm!.Instance(module, { host: { memory } }).exports;
        (store as () => void)();
        expect(words[index]).toBe(value);
      }),
    );
  });
});
