import { DeviceError } from '../../errors.ts';
import { type OpArgs, packedBytes } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import type { ParameterBlock } from '../launch/parameters.ts';

const E = 2;
const WORD = 4;
const WARP = 32;
const LOG2_E = Math.LOG2E;

/** As latent.cuh and latent-attention.cu have them. */
const HEADS = 64;
const POSITIONS = 32;
const STAGES = 3;
const THREADS = 256;
const PADDING = 8;
const HEADS_OF_BLOCK = 16;
const WRITE_THREADS = 256;
const JOIN_THREADS = 128;
/** Blocks that may share a context. */
const MOST_SPLITS = 64;
/** What a block may have of shared memory beside what the kernel declares. */
const MOST_SHARED_BYTES = 220 * 1024;
/** As latent-attention-hopper.cu has them: tiles of queries and of positions, and the rest. */
const HOPPER_TILES = 3;
const HOPPER_TILE_BYTES = 64 * 128;
const HOPPER_THREADS = 384;
const HOPPER_BESIDE_BYTES = 8 * 1024 + 512 + 5 * 8;

/**
 * Lines of pages and turned queries first; then a block for each token and 64 of its heads, or
 * several where that would leave the GPU idle, and what these have of a context is put together.
 */
export function launchLatentAttention(launcher: Launcher, args: OpArgs['latent-attention']): void {
  const { count, heads, rank, rotaryDim, epsilon } = args;
  const tableRows = checkLatents(args);
  if (count === 0) return;
  const defines = { LATENT_RANK: rank, LATENT_ROTARY: rotaryDim };
  const groups = Math.ceil(heads / HEADS);
  const { multiprocessors } = launcher.core.gpu;
  const wanted = Math.floor(multiprocessors / (count * groups));
  const splits = Math.min(Math.max(wanted, 1), MOST_SPLITS);
  const width = rank + rotaryDim;
  const address = launcher.address.bind(launcher);
  const at = {
    queries: address('queries of latent-attention', args.queries, count * heads * width * E),
    kv: address('kv of latent-attention', args.kv, 0),
    tokenRows: address('tokenRows of latent-attention', args.tokenRows, count * WORD),
    positions: address('positions of latent-attention', args.positions, count * WORD),
    out: address('out of latent-attention', args.out, count * heads * rank * E),
  };
  const shapeOf = (block: ParameterBlock) =>
    shapeParameters(launcher, block, args, {
      tableRows,
      splits,
    });
  const projected = count * heads * args.projectedStride * E;
  const writing = launcher.parameters.pointers(
    address('projected of latent-attention', args.projected, projected),
    at.queries,
    address('latents of latent-attention', args.latents, count * width * E),
    address('norm of latent-attention', args.norm, rank * E),
    address('rope of latent-attention', args.rope, 0),
    at.kv,
    at.tokenRows,
    at.positions,
  );
  shapeOf(writing).ints(args.projectedStride, args.turnedFrom).floats(epsilon);
  const blocks = 1 + Math.ceil(heads / HEADS_OF_BLOCK);
  const writers = { grid: [blocks, count], threads: WRITE_THREADS } as const;
  launcher.launch('write_latents', writers, writing, defines);

  const slots = splits === 1 ? 0 : count * heads * splits;
  const output = [
    at.out,
    slots === 0 ? 0n : launcher.scratch('latent partials', slots * rank * WORD),
    slots === 0 ? 0n : launcher.scratch('latent sums', slots * 2 * WORD),
  ] as const;
  const attending = launcher.parameters.pointers(
    ...[at.queries, at.kv, at.tokenRows, at.positions, ...output],
  );
  const isHopper = launcher.core.gpu.hasWarpgroupProducts && fitsHopper(args);
  const { name, threads, sharedBytes } = isHopper ? onHopper(width) : anywhere(width);
  const attenders = { grid: [groups * splits, count], threads, sharedBytes } as const;
  launcher.launch(name, attenders, shapeOf(attending), defines);
  if (splits === 1) return;
  const joining = launcher.parameters.pointers(...output, at.tokenRows, at.positions);
  const joiners = { grid: [heads, count], threads: JOIN_THREADS } as const;
  launcher.launch('join_latents', joiners, shapeOf(joining), defines);
}

/** Whether lines are whole columns of swizzled tiles, and values whole products of warpgroups. */
function fitsHopper({ rank, rotaryDim }: OpArgs['latent-attention']): boolean {
  const { sharedBytes } = onHopper(rank + rotaryDim);
  return rank % 256 === 0 && rotaryDim % 64 === 0 && rank <= 512 && sharedBytes <= 227 * 1024;
}

function onHopper(width: number) {
  const tiles = HOPPER_TILES * Math.ceil(width / 64) * HOPPER_TILE_BYTES;
  const sharedBytes = tiles + HOPPER_BESIDE_BYTES;
  return { name: 'latent_attention_hopper', threads: HOPPER_THREADS, sharedBytes } as const;
}

function anywhere(width: number) {
  const sharedBytes = (HEADS + STAGES * POSITIONS) * (width + PADDING) * E;
  return { name: 'latent_attention', threads: THREADS, sharedBytes } as const;
}

/** Rows of the page table. Throws DeviceError unless the kernels can work with the sizes. */
function checkLatents(args: OpArgs['latent-attention']): number {
  const { rank, rotaryDim, heads, pageTokens, pageElements, layerElement: from } = args;
  const width = rank + rotaryDim;
  const { sharedBytes: shared } = anywhere(width);
  if (rank % 16 !== 0 || rotaryDim % 16 !== 0 || rotaryDim < 16 || shared > MOST_SHARED_BYTES) {
    const message = `latent vectors of ${rank} and ${rotaryDim} dims: the cuda device takes`;
    throw new DeviceError('unsupported', `${message} multiples of 16, up to 640 together`);
  }
  if (args.projectedStride % 2 !== 0 || args.turnedFrom % 2 !== 0 || heads < 1) {
    const what = `${heads} heads of ${args.projectedStride} elements that turn from`;
    throw new DeviceError('bad-argument', `${what} ${args.turnedFrom} on: they must be even`);
  }
  const to = from + pageTokens * width;
  if (from < 0 || from % 8 !== 0 || pageElements % 8 !== 0 || to > pageElements) {
    const message = `a layer in elements ${from} to ${to} of pages of ${pageElements}`;
    throw new DeviceError('bad-argument', message);
  }
  if (pageElements > 0x7fffffff) {
    throw new DeviceError('unsupported', `pages of ${pageElements} elements: take smaller pages`);
  }
  return Math.floor(args.pageTable.bytes / (args.pagesPerRow * WORD));
}

/** Appends struct LatentShape of latent-attention.cu. */
function shapeParameters(
  launcher: Launcher,
  block: ParameterBlock,
  args: OpArgs['latent-attention'],
  { tableRows, splits }: { readonly tableRows: number; readonly splits: number },
): ParameterBlock {
  const { layerElement, pageElements, pageTokens, pagesPerRow, kv, rope, rotaryDim } = args;
  const pageTable = launcher.address('pageTable of latent-attention', args.pageTable, 0);
  const pages = Math.floor(kv.bytes / (pageElements * E));
  const maxPositions = Math.floor(rope.bytes / (rotaryDim * WORD));
  return block
    .pointers(pageTable)
    .ints(layerElement, pageElements, 1, pageTokens, pagesPerRow, pages)
    .ints(tableRows, args.count, args.heads, maxPositions, splits)
    .floats(args.scale * LOG2_E);
}

/** As head-linear.cu has them. */
const OUTPUTS = 64;
const LINEAR_THREADS = 4 * WARP;
/** Lines up to which a block has few of them. */
const FEW_LINES = 16;

export function launchHeadLinear(launcher: Launcher, args: OpArgs['head-linear']): void {
  const { count, heads, headRows, firstRow, rows, columns, isTransposed, format } = args;
  const { inputStride, outStride, blockOutputs, blockInputs, scales } = args;
  const sizes = [rows, columns, inputStride, outStride];
  if (sizes.some((size) => size % 8 !== 0) || blockInputs % 8 !== (format === 'element' ? 1 : 0)) {
    const message = `${rows} x ${columns} of heads, ${inputStride} and ${outStride} apart`;
    throw new DeviceError('unsupported', `${message}: the cuda device takes multiples of 8`);
  }
  if (firstRow < 0 || firstRow + rows > headRows) {
    const message = `rows ${firstRow} to ${firstRow + rows} of ${headRows} of a head`;
    throw new DeviceError('bad-argument', message);
  }
  if (format !== 'element' && !launcher.core.gpu.readsFp8) {
    const message = 'weights in FP8 need a GPU of compute capability 8.9 (Ada) or newer';
    throw new DeviceError('unsupported', message);
  }
  if ((format === 'element') !== (scales === null)) {
    const message = `${format} weights ${scales ? 'with' : 'without'} scales`;
    throw new DeviceError('bad-argument', message);
  }
  if (count === 0) return;
  const [inputs, outputs] = isTransposed ? [rows, columns] : [columns, rows];
  const all = heads * headRows;
  const blocks = Math.ceil(all / blockOutputs) * Math.ceil(columns / blockInputs) * WORD;
  const reach = (stride: number, width: number) => ((count * heads - 1) * stride + width) * E;
  const address = launcher.address.bind(launcher);
  const block = launcher.parameters
    .pointers(
      address('input of head-linear', args.input, reach(inputStride, inputs)),
      address('weight of head-linear', args.weight, packedBytes(format, all * columns, E)),
      scales === null ? 0n : address('scales of head-linear', scales, blocks),
      address('out of head-linear', args.out, reach(outStride, outputs)),
    )
    .ints(count, heads, headRows, firstRow, rows, columns, inputStride, outStride)
    .ints(blockOutputs, blockInputs);
  const lineTile = count <= FEW_LINES ? 16 : 64;
  const grid = [Math.ceil(outputs / OUTPUTS), heads, Math.ceil(count / lineTile)] as const;
  launcher.launch('head_linear', { grid, threads: LINEAR_THREADS }, block, {
    FORMAT: format === 'element' ? 0 : 1,
    IS_TRANSPOSED: isTransposed ? 1 : 0,
    LINE_TILE: lineTile,
  });
}
