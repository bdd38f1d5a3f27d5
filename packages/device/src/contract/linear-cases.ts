import { bytesPerElement, type ElementType } from '../device.ts';
import type { Activation, NormOffset, OpArgs } from '../ops.ts';
import { linearWorkspace } from '../ops.ts';
import { type ContractCase, expectClose } from './case.ts';
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

interface LinearCase {
  readonly size: readonly [count: number, inputs: number, outputs: number];
  readonly hasNorm: boolean;
  readonly hasBias: boolean;
  readonly epilogue: Epilogue;
  readonly outType: ElementType;
  /** null: elements. */
  readonly block: readonly [blockOutputs: number, blockInputs: number] | null;
  /** Of the inputs. */
  readonly scale: number;
  readonly normOffset?: NormOffset;
  readonly activation?: Activation;
}

/** A weight on the device as the operation takes it, and its values. */
async function matrix(bench: Workbench, { size: [, inputs, outputs], block }: LinearCase) {
  if (block === null) {
    const values = bench.random(outputs * inputs);
    const element = { format: 'element', scales: null, blockOutputs: 1, blockInputs: 1 } as const;
    return { values: () => values, weight: await bench.upload(values), ...element };
  }
  const [blockOutputs, blockInputs] = block;
  // Every code but the two NaNs, subnormals among them.
  const codes = filled(new Uint8Array(outputs * inputs), () => {
    const code = bench.dice.integer(0, 253);
    return code < 127 ? code : code + 1;
  });
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
  const expected = bench.reference(what, () =>
    referenceLinear({ ...asked, input, norm, weight: values(), bias, out: before }),
  );
  expectClose(what, await bench.download(out, outType), expected, bench.tolerance);
}

function describe(test: LinearCase): string {
  const { size, hasNorm, hasBias, epilogue, outType, block, activation } = test;
  const format = block && `fp8 ${block.join(' x ')}`;
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
  benchCase('linear of lines near zero', 'arithmetic', async (bench) => {
    const size = [2, 128, 32] as const;
    const test = { ...PLAIN, epilogue: 'store', outType: 'f32', hasNorm: true, size } as const;
    await checkLinear(bench, { ...test, scale: 1e-4 });
    await checkLinear(bench, { ...test, scale: 0 });
  }),
];
