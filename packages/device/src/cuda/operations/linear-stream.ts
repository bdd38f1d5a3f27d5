import type { ElementType } from '../../device.ts';
import type { OpArgs } from '../../ops.ts';
import type { GpuTraits } from '../core.ts';
import { STREAM_LINES } from '../kernels/common-variants.ts';
import type { KernelName } from '../kernels/kernel-source.ts';
import type { LaunchShape } from '../launch/launch-configuration.ts';
import type { Launcher } from '../launch/launcher.ts';
import { activationDefine } from './activation.ts';
import type { LinearOperands } from './linear-operations.ts';

const E = 2;
/** As linear.cu has them. */
const CHUNK_BYTES = 2048;
const GROUP_ROWS = 16;
/** Inputs that share a scale. */
const SPAN = 128;
const LINE_PADDING_BYTES = 64;
/** Of which a lane reads a row at once. */
const PIECE_BITS = 128;
const COPIERS = 32;
const MIN_STAGES = 2;
/**
 * Threads that multiply, shared memory that the kernel declares, and stages that are worth a
 * multiprocessor that no block of the next kernel fits into.
 */
const KERNEL = {
  element: { consumers: 256, declaredBytes: 8_704, goodStages: MIN_STAGES },
  'fp8-e4m3': { consumers: 256, declaredBytes: 8_704, goodStages: MIN_STAGES },
  int4: { consumers: 512, declaredBytes: 17_408, goodStages: 3 },
} as const;

const MAX_STAGES = 16;
/** So many stages before a block's last one the next kernel may start. */
const STEPS_LEFT = 3;
/** What a block takes where it need not take more: blocks of two kernels fit a multiprocessor. */
const SHARED_GOAL_BYTES = 150 * 1024;

/** What of a linear operation decides how it is streamed. */
export type StreamSizes = Pick<
  OpArgs['linear'],
  'count' | 'inputs' | 'outputs' | 'epilogue' | 'format' | 'blockInputs'
>;

type StreamGpu = Pick<GpuTraits, 'multiprocessors' | 'sharedBytesOfBlock' | 'launchesDependent'>;

/** Of a weight: FORMAT of linear.cu and linear-skinny.cu, and bits. */
export const WEIGHT_FORMAT = {
  element: { code: 0, bits: 16 },
  'fp8-e4m3': { code: 1, bits: 8 },
  int4: { code: 2, bits: 4 },
} as const;

/** Whether those kernels can read weights with such blocks. */
export function hasSpans({
  inputs,
  format,
  blockInputs,
}: Pick<StreamSizes, 'inputs' | 'format' | 'blockInputs'>): boolean {
  if (format === 'element') return true;
  if (blockInputs >= inputs) return true;
  return format === 'int4' ? blockInputs === SPAN : blockInputs % SPAN === 0;
}

/** Whether linear.cu takes an operation on a GPU, by the limits that it names. */
export function canStream(sizes: StreamSizes, gpu: StreamGpu): boolean {
  const { count, inputs, format } = sizes;
  const isAligned = inputs % (PIECE_BITS / WEIGHT_FORMAT[format].bits) === 0;
  if (!gpu.launchesDependent) return false;
  if (count > STREAM_LINES[format] || !isAligned || !hasSpans(sizes)) return false;
  const { declaredBytes } = KERNEL[format];
  const leastBytes = declaredBytes + inputBytes(sizes) + MIN_STAGES * stageBytes(sizes);
  return leastBytes <= gpu.sharedBytesOfBlock;
}

/** Grid, shared memory and depth of the ring for an operation that `canStream`. */
export function streamShape(
  sizes: StreamSizes,
  { multiprocessors, sharedBytesOfBlock }: StreamGpu,
): LaunchShape & { readonly stages: number } {
  const { outputs, epilogue, format } = sizes;
  const { consumers, declaredBytes, goodStages } = KERNEL[format];
  const units = epilogue === 'gate' ? outputs / 2 : outputs;
  const groupUnits = epilogue === 'gate' ? GROUP_ROWS / 2 : GROUP_ROWS;
  const blocks = Math.min(multiprocessors, Math.ceil(units / groupUnits));
  const steps = Math.ceil(Math.ceil(units / blocks) / groupUnits) * chunksOf(sizes);
  const held = inputBytes(sizes);
  const stage = stageBytes(sizes);
  const roomFor = (bytes: number) => Math.floor((bytes - declaredBytes - held) / stage);
  const most = roomFor(sharedBytesOfBlock);
  const fitting = Math.min(Math.max(roomFor(SHARED_GOAL_BYTES), goodStages), most);
  const stages = Math.min(steps, fitting, MAX_STAGES);
  const threads = consumers + COPIERS;
  return { grid: [blocks], threads, sharedBytes: stages * stage + held, stages };
}

/** Inputs of a row in a stage. */
const chunkInputs = (format: StreamSizes['format']) =>
  (CHUNK_BYTES * 8) / WEIGHT_FORMAT[format].bits;

/** Of int4 a row's words come with it. */
function stageBytes({ format }: StreamSizes): number {
  const words = format === 'int4' ? (chunkInputs(format) / SPAN) * 4 : 0;
  return GROUP_ROWS * (CHUNK_BYTES + words + 64);
}

function chunksOf({ inputs, format }: StreamSizes): number {
  return Math.ceil(inputs / chunkInputs(format));
}

/** The input lines, padded to whole chunks; beside packed weights with a factor for each span. */
function inputBytes(sizes: StreamSizes): number {
  const isPacked = sizes.format !== 'element';
  const padded = chunksOf(sizes) * chunkInputs(sizes.format);
  const line = Math.ceil((padded * E + (isPacked ? padded / 32 : 0)) / 128) * 128;
  return sizes.count * (line + LINE_PADDING_BYTES);
}

export function launchStreamed(
  launcher: Launcher,
  args: OpArgs['linear'],
  { input, weight, scales, bias, norm, out }: LinearOperands,
): void {
  const { count, inputs, outputs, blockInputs, blockOutputs, epsilon, normOffset } = args;
  const shape = streamShape(args, launcher.core.gpu);
  const block = launcher.parameters
    .pointers(input, weight, scales, bias, norm, out)
    .ints(inputs, outputs, blockInputs, blockOutputs)
    .floats(epsilon, normOffset)
    .ints(shape.stages, STEPS_LEFT);
  const defines = {
    LINE_COUNT: count,
    FORMAT: WEIGHT_FORMAT[args.format].code,
    ...activationDefine(args),
  };
  launcher.launch(kernelOf(args.epilogue, args.outType), shape, block, defines);
}

function kernelOf(epilogue: OpArgs['linear']['epilogue'], outType: ElementType): KernelName {
  if (epilogue === 'add') return 'linear_add';
  if (epilogue === 'gate') return 'linear_gate';
  return outType === 'f32' ? 'linear_store_f32' : 'linear_store';
}
