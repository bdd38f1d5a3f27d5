import type { Int4Order, OpArgs } from '../ops.ts';
import { type ContractCase, expectDeviceError, expectSame } from './case.ts';
import { filled } from './filled.ts';
import { benchCase, bytesOf, type Dice, type Workbench } from './workbench.ts';

// Weights as the tools that make them pack them, by their own rules: AutoAWQ's WQLinear_GEMM,
// AutoGPTQ's QuantLinear, and pack_to_int32 of compressed-tensors.

/** [outputs, inputs]: one word, words that fill no block, and many blocks of either. */
const SIZES = [
  [8, 8],
  [24, 264],
  [136, 72],
  [600, 1024],
] as const;

type Matrix = (row: number, column: number) => number;

const AWQ_NIBBLES = [0, 2, 4, 6, 1, 3, 5, 7];

/** Words [rows, columns / 8]: nibble n of a word is of column 8 c + n, or in AWQ's order. */
function packColumns(rows: number, columns: number, value: Matrix, isAwq: boolean): Uint32Array {
  const words = new Uint32Array((rows * columns) / 8);
  for (let i = 0; i < words.length; i++) {
    const [row, first] = [Math.floor(i / (columns / 8)), (i % (columns / 8)) * 8];
    for (let n = 7; n >= 0; n--) {
      words[i] = words[i]! * 16 + value(row, first + (isAwq ? AWQ_NIBBLES[n]! : n));
    }
  }
  return words;
}

/** Words [rows / 8, columns]: nibble n of a word is of row 8 r + n. */
function packRows(rows: number, columns: number, value: Matrix): Uint32Array {
  const words = new Uint32Array((rows * columns) / 8);
  for (let i = 0; i < words.length; i++) {
    const [first, column] = [Math.floor(i / columns) * 8, i % columns];
    for (let n = 7; n >= 0; n--) words[i] = words[i]! * 16 + value(first + n, column);
  }
  return words;
}

const nibbles = (dice: Dice, count: number) =>
  filled(new Uint8Array(count), () => dice.integer(0, 15));

async function checkCodes(
  bench: Workbench,
  order: OpArgs['order-int4-codes']['order'],
  [outputs, inputs]: readonly [number, number],
): Promise<void> {
  const codes = nibbles(bench.dice, outputs * inputs);
  const byInput: Matrix = (input, output) => codes[output * inputs + input]!;
  const stored =
    order === 'awq'
      ? packColumns(inputs, outputs, byInput, true)
      : packRows(inputs, outputs, byInput);
  const out = await bench.poisoned(codes.length / 2);
  const input = await bench.uploadBytes(bytesOf(stored));
  bench.launch('order-int4-codes', { input, out, order, inputs, outputs });
  const pairs = filled(
    new Uint8Array(codes.length / 2),
    (i) => codes[2 * i]! + 16 * codes[2 * i + 1]!,
  );
  expectSame(`${order} codes ${outputs} x ${inputs}`, await bench.downloadBytes(out), pairs);
}

/** float16 bits as those of a float32, digit by digit; no NaN. */
function f32BitsOfHalf(bits: number): number {
  const sign = bits >>> 15 === 1 ? 0x80000000 : 0;
  let exponent = (bits >>> 10) & 31;
  let fraction = bits & 1023;
  if (exponent === 31) return sign + 0x7f800000;
  if (exponent === 0 && fraction === 0) return sign;
  if (exponent === 0) {
    for (exponent = 1; fraction < 1024; exponent--) fraction *= 2;
    fraction -= 1024;
  }
  return sign + (exponent + 112) * 2 ** 23 + fraction * 2 ** 13;
}

interface ScaleCase {
  readonly order: Int4Order;
  readonly scaleType: 'bf16' | 'f16';
  readonly zeroOffset: 0 | 1;
  readonly hasZeros: boolean;
}

/** All scales of 16 bits at once, but for NaN. */
async function checkScales(bench: Workbench, test: ScaleCase): Promise<void> {
  const { order, scaleType, zeroOffset, hasZeros } = test;
  const [outputs, groups] = [1048, 65];
  const infinity = scaleType === 'f16' ? 0x7c00 : 0x7f80;
  const scales = filled(new Uint16Array(outputs * groups), (i) =>
    (i & 0x7fff) > infinity ? 0 : i & 0xffff,
  );
  const zeros = nibbles(bench.dice, outputs * groups);
  const at: Matrix = (output, group) => output * groups + group;
  const byGroup: Matrix = (group, output) => zeros[at(output, group)]!;
  const stored = filled(new Uint16Array(outputs * groups), (i) => {
    if (order === 'rows') return scales[i]!;
    return scales[at(i % outputs, Math.floor(i / outputs))]!;
  });
  const packed =
    order === 'rows'
      ? packRows(outputs, groups, (output, group) => zeros[at(output, group)]!)
      : packColumns(groups, outputs, byGroup, order === 'awq');
  const out = await bench.poisoned(outputs * groups * 4);
  bench.launch('join-int4-scales', {
    scales: await bench.uploadBytes(bytesOf(stored)),
    scaleType,
    zeros: hasZeros ? await bench.uploadBytes(bytesOf(packed)) : null,
    zeroOffset,
    order,
    out,
    outputs,
    groups,
  });
  const expected = filled(new Uint32Array(outputs * groups), (i) => {
    const bits = scaleType === 'f16' ? f32BitsOfHalf(scales[i]!) : scales[i]! * 2 ** 16;
    return bits + (hasZeros ? zeros[i]! + zeroOffset : 8);
  });
  const words = new Uint32Array((await bench.downloadBytes(out)).buffer);
  expectSame(`${order} scales of ${scaleType}, zeros + ${zeroOffset}`, words, expected);
}

const ORDERS = ['rows', 'gptq', 'awq'] as const;

export const int4Cases: readonly ContractCase[] = [
  benchCase('order-int4-codes', 'arithmetic', async (bench) => {
    for (const size of SIZES) {
      await checkCodes(bench, 'awq', size);
      await checkCodes(bench, 'gptq', size);
    }
  }),
  benchCase('join-int4-scales', 'arithmetic', async (bench) => {
    for (const order of ORDERS) {
      for (const scaleType of ['bf16', 'f16'] as const) {
        await checkScales(bench, { order, scaleType, zeroOffset: 0, hasZeros: true });
        await checkScales(bench, { order, scaleType, zeroOffset: 1, hasZeros: true });
      }
      await checkScales(bench, { order, scaleType: 'bf16', zeroOffset: 0, hasZeros: false });
    }
  }),
  benchCase('int4 codes that fill no words are refused', 'arithmetic', async (bench) => {
    const [input, out] = [await bench.poisoned(1024), await bench.poisoned(1024)];
    const codes = { input, out, order: 'awq' } as const;
    const scales = { scales: input, scaleType: 'f16', zeros: null, zeroOffset: 0, out } as const;
    const refuse = (launch: () => void) =>
      expectDeviceError('sizes of int4', 'bad-argument', launch);
    for (const size of [0, 4, 12, 16.5]) {
      await refuse(() => bench.launch('order-int4-codes', { ...codes, inputs: size, outputs: 8 }));
      await refuse(() => bench.launch('order-int4-codes', { ...codes, inputs: 8, outputs: size }));
      await refuse(() =>
        bench.launch('join-int4-scales', { ...scales, order: 'rows', outputs: size, groups: 1 }),
      );
    }
  }),
];
