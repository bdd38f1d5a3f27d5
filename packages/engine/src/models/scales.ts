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
}

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
  const { rows, columns, blockOutputs, sources } = planned;
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
