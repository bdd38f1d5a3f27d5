import { ModelError } from './errors.ts';
import type { ScaleGrid } from './quantization.ts';

/** One module's scales as the checkpoint has them: a grid of rows over its outputs. */
export interface ScaleSource {
  readonly module: string;
  /** The first of the stacked outputs that are the module's, and how many. */
  readonly firstOutput: number;
  readonly outputs: number;
  /** The first of them, among the module's own. */
  readonly from: number;
  /** Outputs that share a row; the last row may have fewer. */
  readonly blockOutputs: number;
  /** Shapes that the checkpoint's tensor may have. */
  readonly shapes: readonly (readonly number[])[];
}

/** The scales of an FP8 matrix as a linear operation takes them. */
export interface WeightScales {
  readonly blockOutputs: number;
  readonly blockInputs: number;
  /** ceil(outputs / blockOutputs) */
  readonly rows: number;
  /** ceil(inputs / blockInputs) */
  readonly columns: number;
  readonly sources: readonly ScaleSource[];
  /** Where these are a part of others: which rows and columns of those. */
  readonly part?: {
    readonly of: WeightScales;
    readonly rows: readonly number[];
    readonly columns: Range;
  };
}

/** From and to. */
export type Range = readonly [number, number];

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/**
 * Stacks the scales of modules over their `inputs`. Blocks of outputs are as large as can be while
 * none reaches over a block of its module or into the next module: the checkpoint's own where every
 * module is a whole number of them.
 */
export function weightScales(
  grid: ScaleGrid,
  modules: readonly {
    readonly name: string;
    readonly outputs: number;
    readonly part?: { readonly from: number; readonly of: number };
  }[],
  inputs: number,
): WeightScales {
  const blockInputs = grid.type === 'block' ? Math.min(grid.inputs, inputs) : inputs;
  const columns = Math.ceil(inputs / blockInputs);
  const sources: ScaleSource[] = [];
  let total = 0;
  for (const { name: module, outputs, part = { from: 0, of: outputs } } of modules) {
    const blockOutputs = Math.min(part.of, outputsOfBlock(grid));
    const rows = Math.ceil(part.of / blockOutputs);
    const shapes = shapesOf(grid, rows, columns);
    const { from } = part;
    sources.push({ module, firstOutput: total, outputs, from, blockOutputs, shapes });
    total += outputs;
  }
  const blockOutputs =
    sources.length === 1
      ? sources[0]!.blockOutputs
      : sources
          .flatMap((source) => [source.blockOutputs, source.outputs, source.from])
          .filter((size) => size > 0)
          .reduce(greatestCommonDivisor);
  return { blockOutputs, blockInputs, rows: Math.ceil(total / blockOutputs), columns, sources };
}

function outputsOfBlock(grid: ScaleGrid): number {
  if (grid.type === 'block') return grid.outputs;
  return grid.type === 'channel' ? 1 : Number.POSITIVE_INFINITY;
}

function shapesOf(grid: ScaleGrid, rows: number, columns: number): number[][] {
  if (grid.type === 'tensor') return [[], [1], [1, 1]];
  return grid.type === 'channel' ? [[rows, 1], [rows]] : [[rows, columns]];
}

/**
 * The stacked grid [rows, columns] of `planned`, from each source's own grid in the order of the
 * sources.
 */
export function stackScales(planned: WeightScales, grids: readonly Float32Array[]): Float32Array {
  const { rows, columns, blockOutputs, sources, part } = planned;
  if (part !== undefined) return partOf(part, stackScales(part.of, grids));
  const stacked = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const output = row * blockOutputs;
    const index = sources.findLastIndex((source) => source.firstOutput <= output);
    const source = sources[index]!;
    const own = output - source.firstOutput + source.from;
    const from = Math.floor(own / source.blockOutputs) * columns;
    stacked.set(grids[index]!.subarray(from, from + columns), row * columns);
  }
  return stacked;
}

function partOf(
  { of, rows, columns: [from, to] }: NonNullable<WeightScales['part']>,
  all: Float32Array,
): Float32Array {
  const columns = of.columns;
  const picked = new Float32Array(rows.length * (to - from));
  for (const [index, row] of rows.entries()) {
    picked.set(all.subarray(row * columns + from, row * columns + to), index * (to - from));
  }
  return picked;
}

/**
 * The scales of the stacked outputs `ranges`, one behind the other, over some of the inputs. Blocks
 * of outputs become as small as the ranges need. Throws ModelError `unsupported` where inputs would
 * begin within a block.
 */
export function sliceScales(
  scales: WeightScales,
  ranges: readonly Range[],
  [from, to]: Range,
  label: string,
): WeightScales {
  const { blockInputs } = scales;
  const isWithin = Math.floor(from / blockInputs) === Math.floor((to - 1) / blockInputs);
  if (from % blockInputs !== 0 && !isWithin) {
    const message =
      `${label}: FP8 blocks of ${blockInputs} inputs cannot be cut at input ${from}; take fewer ` +
      'ranks';
    throw new ModelError('unsupported', message);
  }
  const columns: Range = [Math.floor(from / blockInputs), Math.ceil(to / blockInputs)];
  const blockOutputs = [scales.blockOutputs, ...ranges.flat()].reduce(greatestCommonDivisor);
  const rows = ranges.flatMap(([first, end]) =>
    Array.from({ length: Math.ceil((end - first) / blockOutputs) }, (_, block) =>
      Math.floor((first + block * blockOutputs) / scales.blockOutputs),
    ),
  );
  return {
    blockOutputs,
    blockInputs: Math.min(blockInputs, to - from),
    rows: rows.length,
    columns: columns[1] - columns[0],
    sources: scales.sources,
    part: { of: scales, rows, columns },
  };
}
