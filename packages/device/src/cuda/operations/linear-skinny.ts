import type { OpArgs } from '../../ops.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';
import type { LaunchShape } from '../launch/launch-configuration.ts';
import type { Launcher } from '../launch/launcher.ts';
import { activationDefine } from './activation.ts';
import type { LinearOperands } from './linear-operations.ts';
import { hasSpans, WEIGHT_FORMAT } from './linear-stream.ts';

/**
 * Lines up to which packed weights go to the kernel that widens them in registers. At 128 lines the
 * library's bf16 product is faster, but not by what widening the weights for it would take.
 */
export const SKINNY_LINES = 128;
/** The same for bf16 weights: so far the library is no faster, and the gate comes for free. */
const ELEMENT_LINES = 8;

/** As linear-skinny.cu has them. */
const WARPGROUP = 128;
const WARPGROUP_ROWS = 64;
const STAGE_ROW_BYTES = 128;
/** Of a row of int4, and its word of a span. */
const SPAN_BYTES = 64;
const WORD_BYTES = 4;
const BARRIER_BYTES = 16;
const FINISH = { store: 0, storeF32: 1, add: 2, gate: 3 } as const;

const E = 2;
const MAX_SPLITS = 8;

/** What of a linear operation decides how linear-skinny.cu takes it. */
export type SkinnySizes = Pick<
  OpArgs['linear'],
  'count' | 'inputs' | 'outputs' | 'epilogue' | 'format' | 'blockInputs' | 'outType'
>;

/** Whether linear-skinny.cu takes an operation: by its limits, and by where it is fast. */
export function canBeSkinny(sizes: SkinnySizes): boolean {
  const { count, inputs, format, outType } = sizes;
  if (inputs % (format === 'int4' ? 32 : 16) !== 0) return false;
  if (format === 'element') return count <= ELEMENT_LINES && outType === 'bf16';
  return count <= SKINNY_LINES && hasSpans(sizes);
}

/** What the kernel is compiled for. */
interface Tile {
  readonly lines: number;
  /** Each multiplies 64 rows of the weight. */
  readonly warpgroups: number;
  readonly stages: number;
  /** Blocks for which a multiprocessor has room. */
  readonly minBlocks: number;
  /** Spans of 128 inputs in a stage, of int4. */
  readonly spans?: 1 | 2;
}

/** Tiles of 128 rows, two to a multiprocessor: what was fastest for few lines. */
const NARROW: readonly Tile[] = [
  { lines: 8, warpgroups: 2, stages: 4, minBlocks: 2 },
  { lines: 16, warpgroups: 2, stages: 5, minBlocks: 2 },
];
/** Tiles of 192 rows, with as many stages as fit: the lines are read once for more rows. */
const WIDE: readonly Tile[] = [
  { lines: 8, warpgroups: 3, stages: 6, minBlocks: 1 },
  { lines: 32, warpgroups: 3, stages: 6, minBlocks: 1 },
  { lines: 64, warpgroups: 3, stages: 5, minBlocks: 1 },
];

/** Of int4: stages of two spans take more registers, and were slower. */
const INT4_NARROW: readonly Tile[] = [
  { lines: 8, warpgroups: 2, stages: 8, minBlocks: 2, spans: 1 },
  { lines: 16, warpgroups: 2, stages: 6, minBlocks: 2, spans: 1 },
];
const INT4_WIDE: readonly Tile[] = [
  { lines: 8, warpgroups: 3, stages: 12, minBlocks: 1, spans: 1 },
  { lines: 32, warpgroups: 3, stages: 9, minBlocks: 1, spans: 1 },
  { lines: 64, warpgroups: 3, stages: 7, minBlocks: 1, spans: 1 },
];

/** Wide tiles also where they need one wave of blocks and narrow ones more. */
function tileFor(sizes: SkinnySizes, multiprocessors: number): Tile {
  const fits = ({ lines }: Tile) => lines >= sizes.count;
  const [narrowTiles, wideTiles] =
    sizes.format === 'int4' ? [INT4_NARROW, INT4_WIDE] : [NARROW, WIDE];
  const wide = wideTiles.find(fits) ?? wideTiles.at(-1)!;
  const narrow = narrowTiles.find(fits);
  if (narrow === undefined) return wide;
  const isUneven =
    rowTiles(sizes, narrow) > multiprocessors && rowTiles(sizes, wide) <= multiprocessors;
  if (isUneven) return wide;
  return sizes.format === 'element' ? { ...narrow, stages: 6 } : narrow;
}

function rowTiles({ outputs, epilogue }: SkinnySizes, { warpgroups }: Tile): number {
  const rows = warpgroups * WARPGROUP_ROWS;
  return epilogue === 'gate' ? Math.ceil(outputs / 2 / (rows / 2)) : Math.ceil(outputs / rows);
}

/**
 * Blocks that share a tile's inputs: as many as run at once. Of narrow tiles, half of the
 * multiprocessors have two; of wide ones, clusters of three and more were slow on an H100 where
 * they had to fill nearly every multiprocessor.
 */
function splitsFor(tiles: number, stages: number, tile: Tile, multiprocessors: number): number {
  const isNarrow = tile.minBlocks > 1;
  const isGood = (splits: number) => {
    if (splits === 1) return true;
    const share = isNarrow ? 1.5 : splits === 2 ? 1 : 0.85;
    const minStages = isNarrow ? 4 : 2;
    return tiles * splits <= multiprocessors * share && stages >= minStages * splits;
  };
  const choices = isNarrow ? [1, 2, 4, 6] : [1, 2, 3, 4, 6, MAX_SPLITS];
  return choices.filter(isGood).at(-1)!;
}

/** Grid, cluster and shared memory for an operation that `canBeSkinny`, and its tile. */
export function skinnyShape(
  sizes: SkinnySizes,
  multiprocessors: number,
): LaunchShape & { readonly tile: Tile } {
  const tile = tileFor(sizes, multiprocessors);
  const { lines, warpgroups, stages } = tile;
  const tiles = rowTiles(sizes, tile);
  const layers = Math.ceil(sizes.count / lines);
  const { spans = 0 } = tile;
  const stageRowBytes = spans === 0 ? STAGE_ROW_BYTES : spans * SPAN_BYTES;
  const stageInputs = (stageRowBytes * 8) / WEIGHT_FORMAT[sizes.format].bits;
  const inputStages = Math.ceil(sizes.inputs / stageInputs);
  const splits = splitsFor(tiles * layers, inputStages, tile, multiprocessors);
  const rowBytes = warpgroups * WARPGROUP_ROWS * (stageRowBytes + spans * WORD_BYTES);
  return {
    tile,
    grid: [splits, layers, tiles],
    threads: (warpgroups + 1) * WARPGROUP,
    sharedBytes: stages * (rowBytes + lines * stageInputs * E + BARRIER_BYTES),
    clusterBlocks: splits,
  };
}

/** What linear-skinny.cu is compiled for. */
export function tileDefines(format: SkinnySizes['format'], tile: Tile): KernelDefines {
  return {
    FORMAT: WEIGHT_FORMAT[format].code,
    LINE_TILE: tile.lines,
    WARPGROUPS: tile.warpgroups,
    RING_STAGES: tile.stages,
    MIN_BLOCKS: tile.minBlocks,
    ...(tile.spans === undefined ? {} : { STAGE_SPANS: tile.spans }),
  };
}

export function launchSkinny(
  launcher: Launcher,
  args: OpArgs['linear'],
  { input, weight, scales, bias, out }: LinearOperands,
): void {
  const { count, inputs, outputs, blockInputs, blockOutputs, epilogue, outType, format } = args;
  const finish = epilogue === 'store' && outType === 'f32' ? 'storeF32' : epilogue;
  const block = launcher.parameters
    .pointers(input, weight, scales, bias, out)
    .ints(count, inputs, outputs, blockInputs, blockOutputs, FINISH[finish]);
  const { tile, ...shape } = skinnyShape(args, launcher.core.gpu.multiprocessors);
  const defines = {
    ...tileDefines(format, tile),
    ...activationDefine(args),
  };
  launcher.launch('linear_skinny', shape, block, defines);
}
