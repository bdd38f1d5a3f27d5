import type { ExpertGroups, ExpertMatrix } from '../../ops.ts';
import type { GpuTraits } from '../core.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';
import type { LaunchShape } from '../launch/launch-configuration.ts';
import { EXPERT_FORMAT, meanLines } from './expert-sizes.ts';

/** As experts-stream.cu has them. */
const WARP = 32;
const STRIP_ROWS = 16;
const STAGE_ROW_BYTES = 128;
const SCALE_BYTES = { element: 0, 'fp8-e4m3': 128, mxfp4: 256 } as const;
const STAGE_INPUTS = { element: 64, 'fp8-e4m3': 128, mxfp4: 256 } as const;
/** Rows are of whole products: inputs are a multiple of so many. */
const UNIT_INPUTS = { element: 32, 'fp8-e4m3': 32, mxfp4: 64 } as const;
/** What the kernel is made for: int4 takes experts.cu. */
type StreamFormat = keyof typeof STAGE_INPUTS;
/** Lines are this much apart beyond a multiple of 128 bytes. */
const LINE_SKEW_BYTES = 64;
/** What the kernel declares itself, and the system takes of each block's. */
const OTHER_BYTES = 1280;

const E = 2;

/** What of a product of experts decides how experts-stream.cu takes it. */
export type StreamSizes = Pick<ExpertGroups, 'count' | 'topK' | 'allExperts'> &
  Pick<ExpertMatrix, 'format' | 'blockInputs'> & {
    readonly inputs: number;
  };
type StreamGpu = Pick<GpuTraits, 'multiprocessors' | 'sharedBytesOfBlock' | 'launchesDependent'>;

/** What the kernel is compiled for, beside the format. */
interface Tile {
  readonly lines: 8 | 16;
  readonly warps: number;
  /** That a warp is ahead of itself. */
  readonly stages: number;
}

/** In the order in which they are preferred; the last of each have room for long lines. */
const TILES: readonly Tile[] = [
  { lines: 8, warps: 16, stages: 4 },
  { lines: 8, warps: 16, stages: 2 },
  { lines: 16, warps: 16, stages: 3 },
  { lines: 16, warps: 16, stages: 2 },
];

/** The launch of a product that experts-stream.cu takes; null: it does not. */
export interface StreamShape {
  readonly shape: LaunchShape;
  readonly defines: KernelDefines;
}

export function streamShape(sizes: StreamSizes, gpu: StreamGpu): StreamShape | null {
  const { format, inputs, blockInputs } = sizes;
  if (format === 'int4') return null;
  const stageInputs = STAGE_INPUTS[format];
  const hasWholeScales = blockInputs % (stageInputs / 2) === 0 || blockInputs >= inputs;
  if (!gpu.launchesDependent || inputs % UNIT_INPUTS[format] !== 0) return null;
  if (format === 'fp8-e4m3' && !hasWholeScales) return null;
  const lines = linesFor(sizes);
  const bytesOf = (tile: Tile) => sharedBytes(sizes, format, tile);
  const fits = (tile: Tile) => bytesOf(tile) + OTHER_BYTES <= gpu.sharedBytesOfBlock;
  const tile = TILES.find((tile) => tile.lines === lines && fits(tile));
  if (tile === undefined) return null;
  const shape = {
    grid: [gpu.multiprocessors],
    threads: tile.warps * WARP,
    sharedBytes: bytesOf(tile),
  } as const;
  return { shape, defines: tileDefines(format, tile) };
}

/** A tile that most experts' lines fit in, where there is one. */
function linesFor(sizes: StreamSizes): Tile['lines'] | null {
  const mean = meanLines(sizes);
  const wanted = mean + Math.sqrt(mean);
  return wanted <= 8 ? 8 : wanted <= 16 ? 16 : null;
}

function sharedBytes(
  { count, topK, inputs }: StreamSizes,
  format: StreamFormat,
  tile: Tile,
): number {
  const lines = Math.min(tile.lines, count * topK);
  const pitch = Math.floor((inputs * E) / 128) * 128 + LINE_SKEW_BYTES;
  const stageBytes = STRIP_ROWS * STAGE_ROW_BYTES + SCALE_BYTES[format];
  return tile.warps * tile.stages * stageBytes + lines * pitch;
}

function tileDefines(format: StreamFormat, tile: Tile): KernelDefines {
  return {
    FORMAT: EXPERT_FORMAT[format],
    LINE_TILE: tile.lines,
    WARPS: tile.warps,
    STAGES_AHEAD: tile.stages,
  };
}
