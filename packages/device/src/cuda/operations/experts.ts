import { invariant } from '@bridgekeeper/bridge';
import { DeviceError } from '../../errors.ts';
import {
  type ExpertGroups,
  type ExpertMatrix,
  expertDownWorkspace,
  MXFP4_BLOCK,
  type OpArgs,
  packedBytes,
  routeWorkspace,
} from '../../ops.ts';
import type { GpuTraits } from '../core.ts';
import { STREAM_LINES } from '../kernels/common-variants.ts';
import type { KernelDefines, KernelName } from '../kernels/kernel-source.ts';
import type { Launcher } from '../launch/launcher.ts';
import type { ParameterBlock } from '../launch/parameters.ts';
import { EXPERT_FORMAT, meanLines } from './expert-sizes.ts';
import { streamShape } from './experts-stream.ts';
import { launchLinear, lineThreads } from './linear-operations.ts';

const E = 2;
const WORD = 4;
const WARP = 32;

/** enum Weighing of route.cu. */
const WEIGHING = {
  'softmax-chosen': 0,
  'softmax-all': 1,
  sigmoid: 2,
  'sigmoid-normalised': 3,
} as const;

/** As route.cu has them. */
const CHOOSE_LINES = 8;
const GROUP_THREADS = 256;
const ADD_THREADS = 256;
const MAX_EXPERTS = 1024;

/** Assignments whose groups a warp works out for itself: one for each lane. */
const FEW = WARP;

/**
 * The logits first; few lines are normalised by who chooses, since the product does so itself. It
 * also adds the bias, which the library does not to f32.
 */
export function launchRoute(launcher: Launcher, args: OpArgs['route']): void {
  const { count, width, experts, allExperts, topK, epsilon, normOffset, weighing } = args;
  const { workspace, shares } = args;
  if (allExperts > MAX_EXPERTS || topK > WARP || topK > allExperts) {
    const limits = `at most ${MAX_EXPERTS} experts and ${WARP} of them for a token`;
    const what = `${topK} of ${allExperts} experts`;
    throw new DeviceError('unsupported', `${what} on this device: ${limits}`);
  }
  const { choiceGroups, keptGroups } = args;
  const isDivided = choiceGroups >= 1 && allExperts % choiceGroups === 0;
  if (!isDivided || choiceGroups > WARP || keptGroups < 1 || keptGroups > choiceGroups) {
    const message = `${keptGroups} of ${choiceGroups} groups of ${allExperts} experts`;
    throw new DeviceError('bad-argument', message);
  }
  const [from, to] = shares[0]!;
  if (from < 0 || from > to || to > allExperts || to - from > experts) {
    const message = `experts ${from} to ${to} of ${allExperts} where there is room for ${experts}`;
    throw new DeviceError('bad-argument', message);
  }
  if (count === 0) return;
  const places = routeWorkspace(args, E);
  const logits = { ...workspace, bytes: places.linear };
  const linear = {
    ...workspace,
    offsetBytes: workspace.offsetBytes + places.linear,
    bytes: workspace.bytes - places.linear,
  };
  const isStreamed = count <= STREAM_LINES.element;
  if (!isStreamed) normalise(launcher, args);
  launchLinear(launcher, {
    input: isStreamed ? args.input : args.normed,
    norm: isStreamed ? args.norm : null,
    normOffset,
    epsilon,
    activation: 'silu',
    weight: args.router,
    format: 'element',
    scales: null,
    blockOutputs: 1,
    blockInputs: 1,
    bias: null,
    epilogue: 'store',
    out: logits,
    outType: 'f32',
    count,
    inputs: width,
    outputs: allExperts,
    workspace: linear,
  });
  const assignments = count * topK;
  const isFew = count <= CHOOSE_LINES && assignments <= FEW;
  const at = groupAddresses(launcher, args);
  const block = launcher.parameters
    .pointers(
      isStreamed ? launcher.address('input of route', args.input, count * width * E) : 0n,
      launcher.address('norm of route', args.norm, width * E),
      launcher.address('normed of route', args.normed, count * width * E),
      launcher.address('logits of route', logits, count * allExperts * WORD),
      args.routerBias === null
        ? 0n
        : launcher.address('bias of route', args.routerBias, allExperts * E),
      args.choiceBias === null
        ? 0n
        : launcher.address('choiceBias of route', args.choiceBias, allExperts * WORD),
      args.expertScales === null
        ? 0n
        : launcher.address('expertScales of route', args.expertScales, allExperts * WORD),
      launcher.address('tokenRows of route', args.tokenRows, count * WORD),
      at.chosen,
      launcher.address('weights of route', args.weights, assignments * WORD),
      at.starts,
      at.order,
    )
    .ints(count, width, allExperts, from, to, experts, topK, WEIGHING[weighing])
    .floats(args.weightScale, args.logitScale, epsilon, normOffset)
    .ints(isFew ? 1 : 0, args.choiceGroups, args.keptGroups);
  const blocks = Math.ceil(count / CHOOSE_LINES) + (isStreamed ? count : 0);
  launcher.launch('choose_experts', { grid: [blocks], threads: CHOOSE_LINES * WARP }, block);
  if (isFew) return;
  const groups = launcher.parameters
    .pointers(at.chosen, at.starts, at.order)
    .ints(assignments, experts);
  launcher.launch('group_by_expert', { grid: [experts], threads: GROUP_THREADS }, groups);
}

function normalise(launcher: Launcher, args: OpArgs['route']): void {
  const { count, width, epsilon, normOffset } = args;
  const block = launcher.parameters
    .pointers(
      launcher.address('input of route', args.input, count * width * E),
      launcher.address('norm of route', args.norm, width * E),
      launcher.address('normed of route', args.normed, count * width * E),
    )
    .ints(width)
    .floats(epsilon, normOffset);
  launcher.launch('rms_norm', { grid: [count], threads: lineThreads(width) }, block);
}

function groupAddresses(launcher: Launcher, { chosen, starts, order, ...sizes }: ExpertGroups) {
  const bytes = sizes.count * sizes.topK * WORD;
  return {
    chosen: launcher.address('chosen experts', chosen, bytes),
    starts: launcher.address('starts of experts', starts, (sizes.experts + 1) * WORD),
    order: launcher.address('order of experts', order, bytes),
  };
}

/** What experts.cu is compiled for, beside the format. */
interface Tile {
  readonly lines: number;
  readonly warps: number;
  readonly depth: number;
}

/** Fewer blocks have more on their way. */
const FEW_TILE: Tile = { lines: 8, warps: 4, depth: 8 };
const TILES: readonly Tile[] = [
  { lines: 8, warps: 4, depth: 4 },
  { lines: 16, warps: 8, depth: 4 },
  { lines: 32, warps: 8, depth: 4 },
];

/**
 * The tile for lines that are spread evenly, one that most experts' lines fit in, since each
 * further tile reads the weights again; then smaller ones, the largest first.
 */
function tilesFor(groups: Parameters<typeof meanLines>[0]): readonly Tile[] {
  const mean = meanLines(groups);
  const wanted = mean + Math.sqrt(mean);
  const best = TILES.findIndex(({ lines }) => lines >= wanted);
  return TILES.slice(0, best < 0 ? TILES.length : best + 1).toReversed();
}

/** Inputs of which a lane of experts.cu reads 16 bytes. */
const LANE_INPUTS = { element: 8, 'fp8-e4m3': 16, mxfp4: 32, int4: 32 } as const;
/** Lines that are in shared memory at once take no more than this, so that three blocks fit. */
const LINES_BYTES = 68 * 1024;
/** A chunk of inputs is a multiple of so many tiles, whose scales are asked for together. */
const CHUNK_TILES = 4;
/** What it declares itself, and the system takes of each block's. */
const OTHER_BYTES = 1536;
/** As experts.cu has them; lines are at most this much apart beyond their inputs. */
const LANE_BYTES = 16;
const WARP_ROWS = 16;
const LINE_SKEW_BYTES = 64;

/** Whose groups are there before their lines are: see `isBehindGate` of experts.cuh. */
const BEHIND_GATE: ReadonlySet<KernelName | null> = new Set(['expert_gate', 'expert_gate_stream']);
/** No sigmoid's alpha: experts.cuh takes it for gelu. */
const GELU = 0;

export function launchExpertGate(launcher: Launcher, args: OpArgs['expert-gate']): void {
  const { count, topK, inputs, inner, experts, isInterleaved, limit, alpha, shift } = args;
  launchProduct(launcher, 'expert_gate', args, {
    input: launcher.address('input of expert-gate', args.input, count * inputs * E),
    bias: biasAddress(launcher, args.bias, experts * 2 * inner),
    weights: 0n,
    out: launcher.address('out of expert-gate', args.out, count * topK * inner * E),
    outputs: inner,
    rows: experts * 2 * inner,
    isInterleaved,
    isBehindGate: false,
    gate: { limit, alpha: alpha === 'gelu-tanh' ? GELU : alpha, shift },
  });
}

export function launchExpertDown(launcher: Launcher, args: OpArgs['expert-down']): void {
  const { count, topK, inputs, outputs, experts } = args;
  const assignments = count * topK;
  const workspaceBytes = expertDownWorkspace(args);
  const sums = launcher.address('workspace of expert-down', args.workspace, workspaceBytes);
  const out = launcher.address('out of expert-down', args.out, count * outputs * E);
  launchProduct(launcher, 'expert_down', args, {
    input: launcher.address('input of expert-down', args.input, assignments * inputs * E),
    bias: biasAddress(launcher, args.bias, experts * outputs),
    weights: launcher.address('weights of expert-down', args.weights, assignments * WORD),
    out: sums,
    outputs,
    rows: experts * outputs,
    isInterleaved: false,
    isBehindGate: BEHIND_GATE.has(launcher.previous),
    gate: { limit: 0, alpha: 0, shift: 0 },
  });
  if (count === 0) return;
  const { chosen } = groupAddresses(launcher, args);
  const adds = args.epilogue === 'add' ? 1 : 0;
  const block = launcher.parameters.pointers(sums, chosen, out).ints(outputs, topK, experts, adds);
  const grid = [count, Math.ceil(outputs / ADD_THREADS)] as const;
  launcher.launch('add_experts', { grid, threads: ADD_THREADS }, block);
}

function biasAddress(launcher: Launcher, bias: OpArgs['expert-gate']['bias'], elements: number) {
  return bias === null ? 0n : launcher.address('bias of experts', bias, elements * E);
}

/** Where a product's parts are, and what gate and down do not have in common. */
interface Operands {
  readonly input: bigint;
  readonly bias: bigint;
  readonly weights: bigint;
  readonly out: bigint;
  readonly outputs: number;
  /** Of the whole weight. */
  readonly rows: number;
  readonly isInterleaved: boolean;
  readonly isBehindGate: boolean;
  /** As struct Problem has it. */
  readonly gate: { readonly limit: number; readonly alpha: number; readonly shift: number };
}

function launchProduct(
  launcher: Launcher,
  kernel: 'expert_gate' | 'expert_down',
  args: ExpertGroups & ExpertMatrix & { readonly inputs: number },
  operands: Operands,
): void {
  const { count, topK, experts, inputs, format, blockInputs, blockOutputs } = args;
  checkMatrix(launcher, args);
  if (count === 0) return;
  const { outputs, rows, gate } = operands;
  const weightBytes = packedBytes(format, rows * inputs, E);
  const blocks = Math.ceil(rows / blockOutputs) * Math.ceil(inputs / blockInputs);
  const scaleBytes = blocks * (format === 'mxfp4' ? 1 : WORD);
  const at = groupAddresses(launcher, args);
  const assignments = count * topK;
  const isFew = isForFew(args);
  const manyTile = manyTileFor(launcher, args);
  const lineCount = kernel === 'expert_gate' ? count : assignments;
  const isOrdered = manyTile !== null && isForHopper(launcher, args);
  const input = isOrdered
    ? orderInputs(launcher, inputs, lineCount, operands.input, manyTile)
    : operands.input;
  const { gpu } = launcher.core;
  const stream = manyTile === null ? streamShape(args, gpu) : null;
  const own = manyTile === null && stream === null ? blockShape(args, gpu) : null;
  const block = launcher.parameters
    .pointers(
      input,
      launcher.address('weight of experts', args.weight, weightBytes),
      args.scales === null ? 0n : launcher.address('scales of experts', args.scales, scaleBytes),
      operands.bias,
      operands.weights,
      at.chosen,
      at.starts,
      at.order,
      operands.out,
    )
    .ints(assignments, topK, experts, inputs, outputs, blockInputs, blockOutputs)
    .ints(own?.chunkInputs ?? 0)
    .ints(operands.isInterleaved ? 1 : 0, operands.isBehindGate ? 1 : 0)
    .floats(gate.limit, gate.alpha, gate.shift)
    .longs(scaleBytes);
  if (manyTile !== null) {
    launchTiles(launcher, kernel, args, { outputs, block, lines: manyTile });
    return;
  }
  if (stream !== null) {
    launcher.launch(`${kernel}_stream`, stream.shape, block, stream.defines);
    return;
  }
  invariant(own !== null, 'a product that nothing else takes is for experts.cu');
  const { tile, sharedBytes } = own;
  const tileRows = tile.warps * (kernel === 'expert_gate' ? WARP_ROWS / 2 : WARP_ROWS);
  const defines: KernelDefines = {
    FORMAT: EXPERT_FORMAT[format],
    LINE_TILE: tile.lines,
    WARPS: tile.warps,
    TILES_AHEAD: tile.depth,
    IS_FEW: isFew ? 1 : 0,
  };
  const shape = {
    grid: [Math.ceil(outputs / tileRows), isFew ? assignments : experts],
    threads: tile.warps * WARP,
    sharedBytes,
  } as const;
  launcher.launch(kernel, shape, block, defines);
}

/**
 * From so many lines for each expert on, what counts is how fast they are multiplied: MXFP4 by
 * experts-hopper.cu where there is Hopper, all else by experts-tile.cu.
 */
const MANY_LINES = { ordered: 10, others: 32 } as const;
/** Lines of a tile there. */
type ManyTile = 32 | 64 | 128;
/** Up to so many lines for each expert a tile wastes less than the next larger one gains. */
const MANY_TILES = {
  ordered: [
    { lines: 32, most: 20 },
    { lines: 64, most: 48 },
  ],
  others: [{ lines: 64, most: 56 }],
} as const;
/** As both have them: rows of a tile, and bytes of a line of the swizzle. */
const TILE_ROWS = 128;
const SWIZZLE_LINE_BYTES = 128;
/** Which tile a block has found. */
const FOUND_BYTES = 3 * WORD;
/** Of experts-hopper.cu: inputs of a step and its stages, by tile. */
const HOPPER = {
  32: { step: 128, stages: 3 },
  64: { step: 128, stages: 3 },
  128: { step: 64, stages: 4 },
} as const;
const HOPPER_THREADS = 256;

function manyTileFor(launcher: Launcher, args: ExpertGroups & ExpertMatrix): ManyTile | null {
  if (isForFew(args)) return null;
  const way = isForHopper(launcher, args) ? 'ordered' : 'others';
  const mean = meanLines(args);
  if (mean < MANY_LINES[way]) return null;
  if (!launcher.core.gpu.hasWarpgroupProducts) return 64;
  return MANY_TILES[way].find(({ most }) => mean <= most)?.lines ?? 128;
}

/** Whether warps work out the groups themselves, where experts-stream.cu does not take them. */
function isForFew({ count, topK }: Pick<ExpertGroups, 'count' | 'topK'>): boolean {
  return count * topK <= FEW;
}

function isForHopper(launcher: Launcher, { format }: ExpertMatrix): boolean {
  return format === 'mxfp4' && launcher.core.gpu.hasWarpgroupProducts;
}

/** Lines with their inputs in the order in which experts-hopper.cu takes them: their address. */
function orderInputs(
  launcher: Launcher,
  inputs: number,
  lines: number,
  input: bigint,
  tile: ManyTile,
): bigint {
  const { step } = HOPPER[tile];
  const pitch = Math.ceil(inputs / step) * step;
  const ordered = launcher.scratch('ordered lines', lines * pitch * E);
  const block = launcher.parameters.pointers(input, ordered).ints(inputs);
  const shape = { grid: [lines], threads: HOPPER_THREADS } as const;
  launcher.launch('order_inputs', shape, block, { LINE_TILE: tile });
  return ordered;
}

/** The grid has room for any routing: an expert's last tile may have a single line. */
function launchTiles(
  launcher: Launcher,
  kernel: 'expert_gate' | 'expert_down',
  args: ExpertGroups & ExpertMatrix,
  { outputs, block, lines }: { outputs: number; block: ParameterBlock; lines: ManyTile },
): void {
  const { count, topK, experts, format } = args;
  const assignments = count * topK;
  const begun = Math.min(experts, assignments);
  const tileOutputs = kernel === 'expert_gate' ? TILE_ROWS / 2 : TILE_ROWS;
  const grid = [
    Math.ceil(outputs / tileOutputs),
    Math.floor((assignments + (lines - 1) * begun) / lines),
  ] as const;
  if (isForHopper(launcher, args)) {
    const { step, stages } = HOPPER[lines];
    const sharedBytes = stages * lines * step * E + FOUND_BYTES + lines * WORD;
    const shape = { grid, threads: HOPPER_THREADS, sharedBytes };
    launcher.launch(`${kernel}_hopper`, shape, block, { LINE_TILE: lines });
    return;
  }
  const rowStages = format === 'element' ? 3 : 2;
  const tileBytes = (3 * lines + rowStages * TILE_ROWS) * SWIZZLE_LINE_BYTES;
  const sharedBytes = tileBytes + FOUND_BYTES + lines * WORD;
  const WGMMA = launcher.core.gpu.hasWarpgroupProducts ? 1 : 0;
  const defines: KernelDefines = { FORMAT: EXPERT_FORMAT[format], LINE_TILE: lines, WGMMA };
  launcher.launch(`${kernel}_tile`, { grid, threads: 2 * lines, sharedBytes }, block, defines);
}

type BlockSizes = Pick<ExpertGroups, 'count' | 'topK' | 'allExperts'> &
  Pick<ExpertMatrix, 'format' | 'blockInputs'> & { readonly inputs: number };

/** How experts.cu takes a product. */
interface BlockShape {
  readonly tile: Tile;
  /** Of lines that are in shared memory at once. */
  readonly chunkInputs: number;
  readonly sharedBytes: number;
}

/**
 * The tile for these lines, or a smaller one where a block has too little shared memory for it.
 * Throws DeviceError `unsupported` where it has too little for any.
 */
export function blockShape(
  sizes: BlockSizes,
  { sharedBytesOfBlock }: Pick<GpuTraits, 'sharedBytesOfBlock'>,
): BlockShape {
  const { count, topK, format, inputs } = sizes;
  const step = CHUNK_TILES * 4 * LANE_INPUTS[format];
  for (const tile of isForFew(sizes) ? [FEW_TILE] : tilesFor(sizes)) {
    const lines = Math.min(tile.lines, count * topK);
    const taken = ringBytes(sizes, tile) + lines * LINE_SKEW_BYTES;
    const room = Math.min(LINES_BYTES, sharedBytesOfBlock - OTHER_BYTES - taken);
    const fitting = Math.floor(room / tile.lines / E / step) * step;
    if (fitting < step) continue;
    const chunkInputs = Math.min(Math.ceil(inputs / step) * step, fitting);
    return { tile, chunkInputs, sharedBytes: taken + lines * chunkInputs * E };
  }
  const what = `experts of ${inputs} inputs in ${format}, blocks of ${sizes.blockInputs}`;
  throw new DeviceError('unsupported', `${what}: this device has too little shared memory`);
}

/** What experts.cu has in shared memory before the lines. */
function ringBytes({ format, inputs, blockInputs }: BlockSizes, { warps, depth }: Tile): number {
  const laneBytes = warps * WARP * LANE_BYTES;
  const tiles = depth * 2 * laneBytes;
  if (format === 'element') return tiles;
  if (format === 'mxfp4') return tiles + (depth / CHUNK_TILES + 1) * laneBytes;
  return tiles + warps * WARP_ROWS * Math.ceil(inputs / blockInputs) * WORD;
}

function checkMatrix(
  launcher: Launcher,
  { format, scales, inputs, blockInputs, blockOutputs }: ExpertMatrix & { inputs: number },
): void {
  if ((format === 'element') !== (scales === null)) {
    const has = scales === null ? 'without' : 'with';
    throw new DeviceError('bad-argument', `experts in ${format} ${has} scales`);
  }
  const lane = LANE_INPUTS[format];
  if (inputs % lane !== 0) {
    const what = `experts of ${inputs} inputs in ${format}`;
    throw new DeviceError('unsupported', `${what}: this device takes multiples of ${lane}`);
  }
  if (format === 'mxfp4' && (blockInputs !== MXFP4_BLOCK || blockOutputs !== 1)) {
    throw new DeviceError('bad-argument', `MXFP4 in blocks of ${blockOutputs} x ${blockInputs}`);
  }
  if (
    format === 'int4' &&
    (blockOutputs !== 1 || blockInputs % lane !== 0 || inputs % blockInputs !== 0)
  ) {
    const message = `experts in int4 of ${inputs} inputs in groups of ${blockInputs}`;
    throw new DeviceError(
      'bad-argument',
      `${message}: they must divide them and be multiples of ${lane}`,
    );
  }
  if (format !== 'fp8-e4m3') return;
  const isWhole = blockInputs % (4 * lane) === 0 || blockInputs >= inputs;
  if (launcher.core.gpu.readsFp8 && isWhole) return;
  const message = `FP8 experts in blocks of ${blockInputs} inputs: this device takes multiples of`;
  const needs = 'and needs compute capability 8.9';
  throw new DeviceError('unsupported', `${message} ${4 * lane}, or whole rows, ${needs}`);
}
