import { bf16FromF32, f32FromBf16 } from '../bf16.ts';
import { bytesPerElement, type ElementType } from '../device.ts';
import type { Activation, NormOffset, OpArgs } from '../ops.ts';
import { linearWorkspace } from '../ops.ts';
import { type ContractCase, expectClose, expectThat } from './case.ts';
import { filled } from './filled.ts';
import { referenceFp8, referenceLinear } from './reference.ts';
import { benchCase, type Workbench } from './workbench.ts';

type Epilogue = OpArgs['linear']['epilogue'];

/**
 * [count, inputs, outputs]: one line and a few, blocks of every path's tiles and their remainders,
 * many lines, long sums. Outputs are even, for gates.
 */
const SIZES = [
  [1, 256, 768],
  [1, 64, 18],
  [1, 4096, 24],
  [2, 128, 40],
  [3, 80, 34],
  [4, 2048, 130],
  [5, 64, 6],
  [8, 256, 96],
  [17, 96, 50],
  [64, 128, 128],
  [131, 160, 72],
  [2, 4096, 24],
] as const;

/**
 * The same for int4: rows of whole spans of 128 and of others, of one stage and of many, and more
 * lines than kernels widen weights for in registers.
 */
const INT4_SIZES = [
  [1, 4096, 24],
  [1, 1152, 272],
  [2, 896, 48],
  [3, 80, 34],
  [4, 2048, 34],
  [5, 64, 6],
  [8, 768, 66],
  [17, 96, 50],
  [20, 256, 200],
  [33, 640, 66],
  [100, 384, 34],
  [131, 256, 24],
] as const;

interface LinearCase {
  readonly size: readonly [count: number, inputs: number, outputs: number];
  readonly hasNorm: boolean;
  readonly hasBias: boolean;
  readonly epilogue: Epilogue;
  readonly outType: ElementType;
  /** Of FP8; null: elements, unless there is a group. */
  readonly block: readonly [blockOutputs: number, blockInputs: number] | null;
  /** Inputs that share a scale and a zero point: the weight is int4. */
  readonly group?: number;
  /** Of the inputs. */
  readonly scale: number;
  readonly normOffset?: NormOffset;
  readonly activation?: Activation;
}

/** A weight on the device as the operation takes it, and its values. */
async function matrix(bench: Workbench, { size: [, inputs, outputs], block, group }: LinearCase) {
  if (group !== undefined) return int4Matrix(bench, inputs, outputs, group);
  if (block === null) {
    const values = bench.once('matrix', () => bench.random(outputs * inputs));
    const element = { format: 'element', scales: null, blockOutputs: 1, blockInputs: 1 } as const;
    return { values: () => values, weight: await bench.upload(values), ...element };
  }
  const [blockOutputs, blockInputs] = block;
  // Every code but the two NaNs, subnormals among them.
  const codes = bench.once('codes', () =>
    filled(new Uint8Array(outputs * inputs), () => {
      const code = bench.dice.integer(0, 253);
      return code < 127 ? code : code + 1;
    }),
  );
  const columns = Math.ceil(inputs / blockInputs);
  const scales = filled(
    new Float32Array(Math.ceil(outputs / blockOutputs) * columns),
    () => 0.001 * (1 + bench.dice.uniform()),
  );
  return {
    values: () => referenceFp8(codes, scales, inputs, [blockOutputs, blockInputs]),
    weight: await bench.uploadBytes(codes),
    format: 'fp8-e4m3' as const,
    scales: await bench.upload(scales, 'f32'),
    blockOutputs,
    blockInputs,
  };
}

/** Every code under every zero point, and scales of both signs that bf16 holds. */
export async function int4Matrix(bench: Workbench, inputs: number, outputs: number, group: number) {
  // Four codes of a draw: there are many.
  let drawn = 0;
  const codes = bench.once('int4 codes', () =>
    filled(new Uint8Array(outputs * inputs), (i) => {
      drawn = i % 4 === 0 ? bench.dice.integer(0, 0xffff) : drawn >> 4;
      return drawn & 15;
    }),
  );
  const groups = inputs / group;
  const scales = bf16Values(bench.dice.values(outputs * groups, 0.01));
  const zeros = filled(new Uint8Array(outputs * groups), () => bench.dice.integer(0, 16));
  const values = () =>
    filled(new Float64Array(codes.length), (i) => {
      const at = Math.floor(i / inputs) * groups + Math.floor((i % inputs) / group);
      return (codes[i]! - zeros[at]!) * scales[at]!;
    });
  return { values, ...(await uploadInt4(bench, codes, scales, zeros)), blockInputs: group };
}

const bf16Values = (values: Float32Array) => f32FromBf16(bf16FromF32(values));

/** Codes one by one, packed by the rule of `int4`. */
export async function uploadInt4(
  bench: Workbench,
  codes: Uint8Array,
  scales: Float32Array,
  zeros: Uint8Array,
) {
  const packed = filled(
    new Uint8Array(codes.length / 2),
    (i) => codes[2 * i]! + 16 * codes[2 * i + 1]!,
  );
  const words = new Uint32Array(new Float32Array(scales).buffer).map(
    (bits, i) => bits - (bits % 32) + zeros[i]!,
  );
  return {
    weight: await bench.uploadBytes(packed),
    format: 'int4' as const,
    scales: await bench.uploadWords(words),
    blockOutputs: 1,
  };
}

/**
 * Every code in every place of a word, under every zero point, by lines that each pick one input:
 * values must come out as they are, or rounded once where weights are widened.
 */
async function checkEveryInt4(bench: Workbench, inputs: number, count: number): Promise<void> {
  const outputs = 17 * 16;
  // Output o has zero point o / 16, and its code of input i is o + i.
  const codes = filled(
    new Uint8Array(outputs * inputs),
    (i) => (Math.floor(i / inputs) + (i % inputs)) % 16,
  );
  const groups = inputs / 128;
  const zeros = filled(new Uint8Array(outputs * groups), (i) => Math.floor(i / groups / 16));
  const scales = bf16Values(bench.dice.values(outputs * groups, 3));
  const weight = await uploadInt4(bench, codes, scales, zeros);
  const sizes = { count, inputs, outputs, epilogue: 'store' } as const;
  const workspace = linearWorkspace(
    { ...sizes, format: 'int4', hasNorm: false },
    bytesPerElement(bench.element),
  );
  for (let first = 0; first < inputs; first += count) {
    const lines = new Float32Array(count * inputs);
    for (let line = 0; line < count; line++) lines[line * inputs + first + line] = 1;
    const out = await bench.output(count * outputs, 'f32');
    bench.launch('linear', {
      ...PLAIN_LINE,
      ...sizes,
      ...weight,
      blockInputs: 128,
      input: await bench.upload(lines),
      out,
      outType: 'f32',
      workspace: await bench.poisoned(workspace.bytes, 'contract workspace'),
    });
    const actual = await bench.download(out, 'f32');
    for (let i = 0; i < actual.length; i++) {
      const [line, output] = [Math.floor(i / outputs), i % outputs];
      const input = first + line;
      const scale = scales[output * groups + Math.floor(input / 128)]!;
      const expected = (((output + input) % 16) - Math.floor(output / 16)) * scale;
      const gap = Math.abs(actual[i]! - expected);
      const most = bench.element === 'f32' ? 0 : Math.abs(expected) * 2 ** -8;
      const what = `int4 value of output ${output} and input ${input} by ${count} lines`;
      expectThat(gap <= most, `${what} is ${actual[i]}, expected ${expected}`);
    }
  }
}

const PLAIN_LINE = {
  norm: null,
  normOffset: 0,
  epsilon: 1e-5,
  activation: 'silu',
  bias: null,
} as const;

async function checkLinear(bench: Workbench, test: LinearCase): Promise<void> {
  const { hasNorm, hasBias, epilogue, outType, normOffset = 0, activation = 'silu' } = test;
  const [count, inputs, outputs] = test.size;
  const { values, ...weight } = await matrix(bench, test);
  const input = bench.random(count * inputs, test.scale);
  const norm = hasNorm ? bench.random(inputs) : null;
  const bias = hasBias ? bench.random(outputs, 10) : null;
  const before = epilogue === 'add' ? bench.random(count * outputs, 5) : new Float32Array();
  const width = epilogue === 'gate' ? outputs / 2 : outputs;
  const out =
    epilogue === 'add' ? await bench.upload(before) : await bench.output(count * width, outType);
  const sizes = { count, inputs, outputs, epilogue };
  const workspace = linearWorkspace(
    { ...sizes, format: weight.format, hasNorm },
    bytesPerElement(bench.element),
  );
  const epsilon = 1e-5;
  bench.launch('linear', {
    ...weight,
    ...sizes,
    input: await bench.upload(input),
    norm: norm && (await bench.upload(norm)),
    normOffset,
    epsilon,
    activation,
    bias: bias && (await bench.upload(bias)),
    out,
    outType,
    workspace: await bench.poisoned(workspace.bytes, 'contract workspace'),
  });
  const asked = { ...sizes, normOffset, activation, epsilon };
  const what = describe(test);
  const expected = bench.once(what, () =>
    referenceLinear({ ...asked, input, norm, weight: values(), bias, out: before }),
  );
  expectClose(what, await bench.download(out, outType), expected, bench.tolerance);
}

function describe(test: LinearCase): string {
  const { size, hasNorm, hasBias, epilogue, outType, block, group, activation } = test;
  const fp8 = block && `fp8 ${block.join(' x ')}`;
  const format = group === undefined ? fp8 : `int4 in groups of ${group}`;
  const parts = [hasNorm && 'norm', hasBias && 'bias', format, activation];
  const extras = parts.filter((part) => typeof part === 'string').join(', ');
  return `linear ${size.join(' x ')} ${epilogue} ${outType} (${extras})`;
}

const PLAIN = { hasNorm: false, hasBias: false, block: null, scale: 1 } as const;

export const linearCases: readonly ContractCase[] = [
  benchCase('linear', 'arithmetic', async (bench) => {
    const common = { ...PLAIN, epilogue: 'store', outType: bench.element } as const;
    for (const size of SIZES) {
      await checkLinear(bench, { ...common, size });
      await checkLinear(bench, { ...common, size, hasBias: true });
      await checkLinear(bench, { ...common, size, outType: 'f32' });
      await checkLinear(bench, { ...common, size, hasNorm: true, outType: 'f32', scale: 30 });
    }
  }),
  benchCase('linear adds to its output', 'arithmetic', async (bench) => {
    const common = { ...PLAIN, epilogue: 'add', outType: bench.element } as const;
    for (const size of SIZES) {
      await checkLinear(bench, { ...common, size });
      await checkLinear(bench, { ...common, size, hasBias: true, hasNorm: true });
    }
  }),
  benchCase('linear gates', 'arithmetic', async (bench) => {
    const common = { ...PLAIN, epilogue: 'gate', outType: bench.element, scale: 0.2 } as const;
    for (const size of SIZES) {
      await checkLinear(bench, { ...common, size });
      await checkLinear(bench, { ...common, size, hasBias: true, hasNorm: true });
    }
  }),
  benchCase(
    'linear gates by gelu, under norms that are centred at zero',
    'arithmetic',
    async (bench) => {
      const other = { activation: 'gelu-tanh', normOffset: 1, hasNorm: true } as const;
      const common = { ...PLAIN, ...other, epilogue: 'gate', outType: bench.element } as const;
      for (const size of SIZES) {
        await checkLinear(bench, { ...common, size, scale: 0.2 });
        const block = [128, 128] as const;
        await checkLinear(bench, { ...common, size, scale: 0.2, hasBias: true, block });
      }
    },
  ),
  benchCase('linear with FP8 weights', 'arithmetic', async (bench) => {
    const common = { ...PLAIN, outType: bench.element };
    for (const size of SIZES) {
      const [, inputs, outputs] = size;
      const blocks = [
        [outputs, inputs],
        [128, 128],
        [2, inputs],
      ] as const;
      for (const block of blocks) {
        await checkLinear(bench, { ...common, size, block, epilogue: 'store' });
        await checkLinear(bench, { ...common, size, block, epilogue: 'gate', hasNorm: true });
        await checkLinear(bench, { ...common, size, block, epilogue: 'add', hasBias: true });
      }
    }
  }),
  benchCase('linear with int4 weights', 'arithmetic', async (bench) => {
    const common = { ...PLAIN, outType: bench.element };
    for (const size of INT4_SIZES) {
      const [, inputs] = size;
      const groups = [32, 128, 256].filter((group) => inputs % group === 0);
      for (const group of new Set([...groups, inputs])) {
        await checkLinear(bench, { ...common, size, group, epilogue: 'gate', hasNorm: true });
        // What comes after a product does not depend on groups.
        if (group !== (groups.includes(128) ? 128 : inputs)) continue;
        await checkLinear(bench, { ...common, size, group, epilogue: 'store' });
        await checkLinear(bench, { ...common, size, group, epilogue: 'add', hasBias: true });
      }
    }
  }),
  benchCase('linear with every int4 weight', 'arithmetic', async (bench) => {
    for (const count of [1, 4, 8, 16, 32, 64, 128]) await checkEveryInt4(bench, 128, count);
    await checkEveryInt4(bench, 384, 192);
  }),
  benchCase('linear of lines near zero', 'arithmetic', async (bench) => {
    const size = [2, 128, 32] as const;
    const test = { ...PLAIN, epilogue: 'store', outType: 'f32', hasNorm: true, size } as const;
    await checkLinear(bench, { ...test, scale: 1e-4 });
    await checkLinear(bench, { ...test, scale: 0 });
  }),
];
