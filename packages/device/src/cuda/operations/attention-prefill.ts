import { LINE_KV_PARTS, type OpArgs } from '../../ops.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';
import type { Launcher } from '../launch/launcher.ts';
import {
  checkPages,
  headDefines,
  pagesParameters,
  queryAddress,
  ropePositions,
  rotaryDefine,
  rotationParameters,
  sinksAddress,
  valueDefine,
} from './kv-pages.ts';

const E = 2;
const WORD = 4;
const WARP = 32;
/** The softmax of the kernels works in powers of two. */
const LOG2_E = Math.LOG2E;
const ROPE_THREADS = 256;
/** Elements of each half of a head that a lane rotates at once, where a half has so many. */
const ROPE_PIECE = 8;

/** What both prefill kernels agree on. */
interface Run {
  readonly args: OpArgs['attention'];
  readonly defines: KernelDefines;
  /** Rows of the page table. */
  readonly tableRows: number;
  /** Which tile is next, for blocks that fetch their work: the rotation sets it to zero. */
  readonly counter: bigint;
}

/** Runs of tokens: rotation and the KV of all of them first, then their attention. */
export function launchPrefillAttention(launcher: Launcher, args: OpArgs['attention']): void {
  const { headDim, layerElement, pageElements } = args;
  // The kernel counts pages in lines of heads.
  const hasWholeLines = layerElement % headDim === 0 && pageElements % headDim === 0;
  const { hasWarpgroupProducts } = launcher.core.gpu;
  const isHopper = hasWarpgroupProducts && HOPPER_HEADS.includes(headDim) && hasWholeLines;
  const run: Run = {
    args,
    defines: headDefines(args),
    tableRows: checkPages(args),
    counter: isHopper ? launcher.scratch('prefill tiles', WORD) : 0n,
  };
  launchRope(launcher, run);
  if (isHopper) launchOnHopper(launcher, run);
  else launchAnywhere(launcher, run);
}

/** Rotates queries, and writes keys and values: what attention over pages alone goes on from. */
export function launchRope(launcher: Launcher, { args, defines, tableRows, counter }: Run): void {
  const { count, heads, kvHeads, headDim, epsilon } = args;
  const slots = heads + LINE_KV_PARTS[args.lineKv] * kvHeads;
  const block = rotationParameters(launcher, args).pointers(counter);
  pagesParameters(launcher, block, args)
    .ints(tableRows, count, heads, ropePositions(args))
    .floats(epsilon, args.normOffset);
  const half = headDim / 2;
  const isWhole = half % ROPE_PIECE === 0 && (args.rotaryDim / 2) % ROPE_PIECE === 0;
  const piece = isWhole ? ROPE_PIECE : 1;
  let lanes = 1;
  while (lanes < WARP && lanes * piece < half) lanes *= 2;
  const grid = [Math.ceil((count * slots * lanes) / ROPE_THREADS)] as const;
  const turning = { ...defines, ...rotaryDefine(args), ...valueDefine(args) };
  launcher.launch('rope_write_kv', { grid, threads: ROPE_THREADS }, block, turning);
}

/** Query lines of a tile of attention-prefill-hopper.cu, its threads, and its barriers' bytes. */
const HOPPER_LINES = 128;
const HOPPER_THREADS = 384;
const HOPPER_BARRIER_BYTES = 8328;
const HOPPER_HEADS: readonly number[] = [64, 80, 96, 128];

/** Products of warpgroups (wgmma), with blocks that stay and fetch one tile after the other. */
function launchOnHopper(launcher: Launcher, run: Run): void {
  const { count, heads, kvHeads, headDim, kvFormat } = run.args;
  const parts = Math.ceil(headDim / 64);
  const raw = kvFormat === 'element' ? 0 : 4096 * (headDim <= 64 ? 4 : 8);
  const tiles = Math.ceil((count * (heads / kvHeads)) / HOPPER_LINES) * kvHeads;
  const shape = {
    grid: [Math.min(launcher.core.gpu.multiprocessors, tiles)],
    threads: HOPPER_THREADS,
    sharedBytes: HOPPER_LINES * 640 * parts + raw + HOPPER_BARRIER_BYTES,
  } as const;
  const block = tileParameters(launcher, run, [run.counter]);
  launcher.launch('attention_prefill_hopper', shape, block, run.defines);
}

/** Query lines of a tile of attention-prefill.cu, and the warps that share them. */
const LINES = 64;
const WARPS = 4;

/** mma.sync: any GPU and any head size. */
function launchAnywhere(launcher: Launcher, run: Run): void {
  const { count, heads, kvHeads, headDim } = run.args;
  const tiles = Math.ceil((count * (heads / kvHeads)) / LINES);
  const splits = headDim > 256 ? 2 : 1;
  const depth = Math.ceil(headDim / (16 * splits)) * 16 * splits;
  const positions = depth > 128 ? 32 : 64;
  const exchanged = splits > 1 ? splits * LINES * positions * WORD : 0;
  const shape = {
    grid: [tiles, kvHeads],
    threads: WARPS * splits * WARP,
    sharedBytes: 2 * positions * (depth + 8) * E + exchanged,
  } as const;
  const block = tileParameters(launcher, run, []);
  launcher.launch('attention_prefill', shape, block, run.defines);
}

function tileParameters(launcher: Launcher, { args, tableRows }: Run, more: readonly bigint[]) {
  const { count, heads, kvHeads, headDim, window, scale } = args;
  const block = launcher.parameters.pointers(
    queryAddress(launcher, args),
    launcher.address('kv of attention', args.kv, 0),
    launcher.address('tokenRows of attention', args.tokenRows, count * WORD),
    launcher.address('positions of attention', args.positions, count * WORD),
    sinksAddress(launcher, args),
    launcher.address('out of attention', args.out, count * heads * headDim * E),
    ...more,
  );
  return pagesParameters(launcher, block, args)
    .ints(tableRows, count, heads, heads / kvHeads, window)
    .floats(scale * LOG2_E);
}
