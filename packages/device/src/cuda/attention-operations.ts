import { DeviceError } from '../errors.ts';
import type { KvGeometry, OpArgs } from '../ops.ts';
import type { Launcher } from './launcher.ts';
import type { ParameterBlock } from './parameters.ts';

const E = 2;
const WORD = 4;
/** The softmax of the kernels works in powers of two. */
const LOG2_E = Math.LOG2E;
const ROPE_THREADS = 256;
const WARP = 32;
const COMBINE_THREADS = 128;
/** Warps of a decode block: as many as its registers allow, which grow with the heads it serves. */
const decodeWarps = (group: number) => (group <= 4 ? 8 : 4);
/** Query heads that one block of the decode kernel serves: more would not fit its registers. */
const MAX_GROUP = 8;
/** Contexts are split until there are about so many blocks for each multiprocessor: two waves. */
const DECODE_BLOCKS = 4;
const MAX_SPLITS = 32;
/** Positions that are worth a split of their own. */
const SPLIT_POSITIONS = 128;
const PREFILL_THREADS = 128;
/** Query lines of a prefill tile: ROWS of attention-prefill.cu. */
const PREFILL_LINES = 64;

interface PageCounts {
  readonly tableRows: number;
  readonly pages: number;
}

/** Checks what both kernels assume of pages, and counts what the slices hold. */
function pageCounts(geometry: KvGeometry): PageCounts {
  const { layers, kvHeads, headDim, pageTokens, pagesPerRow, layer } = geometry;
  if (headDim % 8 !== 0 || headDim < 8 || headDim > 256) {
    const message = `heads of ${headDim}: the cuda device takes multiples of 8 up to 256`;
    throw new DeviceError('unsupported', message);
  }
  if (layer < 0 || layer >= layers) {
    throw new DeviceError('bad-argument', `layer ${layer} of ${layers}`);
  }
  const pageBytes = layers * 2 * kvHeads * pageTokens * headDim * E;
  return {
    tableRows: Math.floor(geometry.pageTable.bytes / (pagesPerRow * WORD)),
    pages: Math.floor(geometry.kv.bytes / pageBytes),
  };
}

/** struct KvPages of common.cuh. */
function pagesParameters(
  block: ParameterBlock,
  pageTable: bigint,
  geometry: KvGeometry,
  pages: number,
): ParameterBlock {
  const { layer, layers, kvHeads, pageTokens, pagesPerRow } = geometry;
  // A struct that holds a pointer is padded to a multiple of 8 bytes: six ints are.
  return block.pointers(pageTable).ints(layer, layers, kvHeads, pageTokens, pagesPerRow, pages);
}

export function launchRope(launcher: Launcher, args: OpArgs['rope-write-kv']): void {
  const { count, heads, kvHeads, headDim, epsilon } = args;
  const { tableRows, pages } = pageCounts(args);
  const slots = heads + 2 * kvHeads;
  const norm = (what: string, slice: typeof args.queryNorm) =>
    slice === null ? 0n : launcher.address(what, slice, headDim * E);
  const block = launcher.parameters.pointers(
    launcher.address('qkv of rope-write-kv', args.qkv, count * slots * headDim * E),
    norm('queryNorm of rope-write-kv', args.queryNorm),
    norm('keyNorm of rope-write-kv', args.keyNorm),
    launcher.address('rope of rope-write-kv', args.rope, 0),
    launcher.address('kv of rope-write-kv', args.kv, 0),
    launcher.address('tokenRows of rope-write-kv', args.tokenRows, count * WORD),
    launcher.address('positions of rope-write-kv', args.positions, count * WORD),
  );
  const pageTable = launcher.address('pageTable of rope-write-kv', args.pageTable, 0);
  const maxPositions = Math.floor(args.rope.bytes / (headDim * WORD));
  pagesParameters(block, pageTable, args, pages)
    .ints(tableRows, count, heads, headDim, maxPositions)
    .floats(epsilon);
  const blocks = Math.ceil((count * slots * WARP) / ROPE_THREADS);
  launcher.launch('rope_write_kv', { grid: [blocks], threads: ROPE_THREADS }, block);
}

export function launchAttention(launcher: Launcher, args: OpArgs['attention']): void {
  const { heads, kvHeads } = args;
  if (heads % kvHeads !== 0) {
    throw new DeviceError('bad-argument', `${heads} heads cannot share ${kvHeads} KV heads evenly`);
  }
  if (args.phase === 'decode') launchDecode(launcher, args);
  else launchPrefill(launcher, args);
}

function queryAddress(launcher: Launcher, args: OpArgs['attention']): bigint {
  const width = (args.heads + 2 * args.kvHeads) * args.headDim;
  return launcher.address('qkv of attention', args.qkv, args.count * width * E);
}

/**
 * In how many parts the contexts of a batch are split. It must not depend on what only the device
 * knows.
 */
function splitsOf(args: OpArgs['attention'], blocks: number, multiprocessors: number): number {
  // Rounded down: a few blocks past a full wave would take as long as another wave.
  const wanted = Math.floor((DECODE_BLOCKS * multiprocessors) / Math.max(blocks, 1));
  const positions = args.pagesPerRow * args.pageTokens;
  const reach = args.window > 0 ? Math.min(args.window, positions) : positions;
  return Math.max(1, Math.min(wanted, MAX_SPLITS, Math.ceil(reach / SPLIT_POSITIONS)));
}

function launchDecode(launcher: Launcher, args: OpArgs['attention']): void {
  const { count, heads, kvHeads, headDim, window, scale } = args;
  const { tableRows, pages } = pageCounts(args);
  const group = Math.min(heads / kvHeads, MAX_GROUP);
  const chunks = Math.ceil(heads / kvHeads / group);
  const splits = splitsOf(args, count * kvHeads * chunks, launcher.core.multiprocessors);
  const warps = decodeWarps(group);
  const defines = { HEAD_DIM: headDim, GROUP: group, DECODE_WARPS: warps };
  const out = launcher.address('out of attention', args.out, count * heads * headDim * E);
  const tokenRows = launcher.address('tokenRows of attention', args.tokenRows, count * WORD);
  const partialBytes = count * heads * splits * (headDim + 2) * WORD;
  const partials = splits > 1 ? launcher.scratch('attention', partialBytes) : 0n;
  const block = launcher.parameters.pointers(
    queryAddress(launcher, args),
    launcher.address('kv of attention', args.kv, 0),
    tokenRows,
    launcher.address('positions of attention', args.positions, count * WORD),
    out,
    partials,
  );
  const pageTable = launcher.address('pageTable of attention', args.pageTable, 0);
  pagesParameters(block, pageTable, args, pages)
    .ints(tableRows, heads, chunks, window, splits)
    .floats(scale * LOG2_E);
  const grid = [count, kvHeads * chunks, splits] as const;
  launcher.launch('attention_decode', { grid, threads: warps * WARP }, block, defines);
  if (splits === 1) return;
  const merge = launcher.parameters
    .pointers(partials, tokenRows, out)
    .ints(tableRows, heads, splits);
  const combine = { grid: [count, heads], threads: COMBINE_THREADS } as const;
  launcher.launch('attention_combine', combine, merge, defines);
}

function launchPrefill(launcher: Launcher, args: OpArgs['attention']): void {
  const { count, heads, kvHeads, headDim, window, scale } = args;
  const { tableRows, pages } = pageCounts(args);
  const group = heads / kvHeads;
  const block = launcher.parameters.pointers(
    queryAddress(launcher, args),
    launcher.address('kv of attention', args.kv, 0),
    launcher.address('tokenRows of attention', args.tokenRows, count * WORD),
    launcher.address('positions of attention', args.positions, count * WORD),
    launcher.address('out of attention', args.out, count * heads * headDim * E),
  );
  const pageTable = launcher.address('pageTable of attention', args.pageTable, 0);
  pagesParameters(block, pageTable, args, pages)
    .ints(tableRows, count, heads, group, window)
    .floats(scale * LOG2_E);
  const tiles = Math.ceil((count * group) / PREFILL_LINES);
  const shape = { grid: [tiles, kvHeads], threads: PREFILL_THREADS } as const;
  launcher.launch('attention_prefill', shape, block, { HEAD_DIM: headDim });
}
