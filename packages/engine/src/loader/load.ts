import { type CrossingRecord, invariant } from '@bridgekeeper/bridge';
import {
  bytesPerElement,
  type Device,
  type DeviceBuffer,
  E4M3_MAX,
  type ElementType,
  elementMatrix,
  type Lane,
  type Slice,
  slice,
} from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';
import {
  type Destination,
  type LayerWeights,
  type PlannedTensor,
  type WeightMatrix,
  type Weights,
  weightPlan,
} from '../models/weights.ts';
import { checkAgainstPlan } from './check-plan.ts';
import type { Checkpoint, UnmappedTensor } from './checkpoint.ts';
import { type Layout, layOut, type Placement } from './layout.ts';
import { readScales } from './scales.ts';
import { streamCheckpoint } from './stream.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
/** Large enough for few crossings, small enough for one array buffer of the runtimes we support. */
const ARENA_LIMIT_BYTES = GIB;
const STAGING_BYTES = 16 * MIB;
/**
 * Half the width of a uniform distribution with standard deviation 0.02, transformers'
 * initialisation.
 */
const DUMMY_SPREAD = 0.02 * Math.sqrt(3);

/**
 * How far a load is, and where its time went. Reading, converting and crossing overlap: they do not
 * add up.
 */
export interface LoadProgress {
  /** Device bytes filled, and to fill. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly readSeconds: number;
  readonly convertSeconds: number;
  /** Crossings' own time on their channels. */
  readonly crossSeconds: number;
  readonly totalSeconds: number;
}

export interface LoadOptions {
  readonly spec: ModelSpec;
  /** An open checkpoint, or random weights made on the device. */
  readonly source: Checkpoint | 'dummy';
  readonly device: Device;
  /** One or more; windows of the weights go to them in turn. */
  readonly lanes: readonly Lane[];
  /** Told of every crossing, for the ledger. */
  readonly onCrossing: (record: CrossingRecord) => void;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /**
   * Bytes of one crossing, a multiple of 256. Each lane needs this much pinned host memory, plus
   * one to fill.
   */
  readonly stagingBytes?: number | undefined;
}

export interface LoadedWeights {
  readonly weights: Weights;
  /** What holds them: free these to unload the model. */
  readonly buffers: readonly DeviceBuffer[];
  readonly progress: LoadProgress;
  /** Tensors of the checkpoint that the architecture does not use. */
  readonly unusedTensors: readonly string[];
  /** Tensors that lie in a shard but that the index does not map there. */
  readonly unmappedTensors: readonly UnmappedTensor[];
}

/** Tensors in the order their first sources have in the files. */
function inFileOrder(plan: readonly PlannedTensor[], checkpoint: Checkpoint): PlannedTensor[] {
  const first = (tensor: PlannedTensor) => checkpoint.tensors.get(tensor.sources[0]!.name)!;
  return plan.toSorted((a, b) => {
    const [left, right] = [first(a), first(b)];
    return left.file - right.file || left.offsetBytes - right.offsetBytes;
  });
}

function allocateArenas(device: Device, layout: Layout): DeviceBuffer[] {
  const buffers: DeviceBuffer[] = [];
  try {
    for (const [arena, bytes] of layout.arenaBytes.entries()) {
      buffers.push(device.allocate(bytes, `weights ${arena}`));
    }
  } catch (error) {
    for (const buffer of buffers) device.free(buffer);
    throw error;
  }
  return buffers;
}

/** Random matrices, norms of one and biases of zero, made where they are used: nothing crosses. */
async function fillDummy(device: Device, layout: Layout, buffers: readonly DeviceBuffer[]) {
  const stream = device.createStream('dummy weights');
  for (const [seed, { tensor, part, arena, offsetBytes, bytes }] of layout.placements.entries()) {
    const out = slice(buffers[arena]!, offsetBytes, bytes);
    stream.launch('fill-uniform', { out, seed, ...dummyOf(tensor, part, device.info.element) });
  }
  await stream.synchronize();
}

/** FP8 codes use their whole range, and one scale brings them to the spread of other matrices. */
function dummyOf(tensor: PlannedTensor, part: Placement['part'], element: ElementType) {
  const { elements, kind, format, scales } = tensor;
  if (part === 'scales') {
    const count = scales!.rows * scales!.columns;
    return { elements: count, type: 'f32', mean: DUMMY_SPREAD / E4M3_MAX, spread: 0 } as const;
  }
  if (format === 'fp8-e4m3') return { elements, type: format, mean: 0, spread: E4M3_MAX } as const;
  const spread = kind === 'matrix' ? DUMMY_SPREAD : 0;
  return { elements, type: element, mean: kind === 'norm' ? 1 : 0, spread };
}

const OPTIONAL_ROLES = {
  qkvBias: null,
  queryNorm: null,
  keyNorm: null,
  outputBias: null,
  gateUpBias: null,
  downBias: null,
} as const;

/** A tensor's values and scales on the device. */
interface Placed {
  readonly values: Slice;
  readonly scales: Slice | null;
}

function placedOf(
  layout: Layout,
  buffers: readonly DeviceBuffer[],
): ReadonlyMap<PlannedTensor, Placed> {
  const all = new Map<PlannedTensor, Placed>();
  for (const { tensor, part, arena, offsetBytes, bytes } of layout.placements) {
    const place = slice(buffers[arena]!, offsetBytes, bytes);
    // Scales follow their values.
    if (part === 'values') all.set(tensor, { values: place, scales: null });
    else all.set(tensor, { values: all.get(tensor)!.values, scales: place });
  }
  return all;
}

function matrixOf({ shape, format, scales: grid }: PlannedTensor, placed: Placed): WeightMatrix {
  const sizes = { outputs: shape[0]!, inputs: shape[1]! };
  const { values: weight, scales } = placed;
  if (grid === null) return { ...elementMatrix(weight), ...sizes };
  const { blockOutputs, blockInputs } = grid;
  return { weight, format, scales, blockOutputs, blockInputs, ...sizes };
}

/** Puts each placed tensor where its destination says. */
function assemble(spec: ModelSpec, layout: Layout, buffers: readonly DeviceBuffer[]): Weights {
  const model = new Map<Destination['role'], Slice>();
  const layers = Array.from({ length: spec.layers }, () => ({}) as Record<string, unknown>);
  for (const [tensor, placed] of placedOf(layout, buffers)) {
    const { destination, kind } = tensor;
    if ('layer' in destination) {
      const weight = kind === 'matrix' ? matrixOf(tensor, placed) : placed.values;
      layers[destination.layer]![destination.role] = weight;
    } else {
      model.set(destination.role, placed.values);
    }
  }
  const embed = model.get('embed');
  const finalNorm = model.get('finalNorm');
  const headRows = spec.tiedHead ? embed : model.get('head');
  invariant(embed !== undefined && finalNorm !== undefined, 'the plan has a table and a last norm');
  invariant(headRows !== undefined, 'the plan has a head, or the table is it');
  const sizes = { outputs: spec.vocabularySize, inputs: spec.hiddenSize };
  const head = { ...elementMatrix(headRows), ...sizes };
  const typed = layers.map((roles) => ({ ...OPTIONAL_ROLES, ...roles }) as unknown as LayerWeights);
  return { embed, layers: typed, finalNorm, head };
}

/**
 * Puts a model's weights on the device: FP8 as it is stored, the rest in the device's element type.
 * Checkpoints are streamed window by window through pinned host memory of bounded size: while one
 * window crosses, the next is read and converted. On failure everything allocated is freed again.
 * Throws ModelError when the checkpoint does not fit `spec` or a file fails, DeviceError when the
 * device does.
 */
export async function loadWeights(options: LoadOptions): Promise<LoadedWeights> {
  const { spec, source, device } = options;
  const startedNs = device.clock.nowNs();
  const plan = weightPlan(spec);
  const checkpoint = source === 'dummy' ? undefined : source;
  const unusedTensors = checkpoint === undefined ? [] : checkAgainstPlan(checkpoint, plan);
  const ordered = checkpoint === undefined ? plan : inFileOrder(plan, checkpoint);
  const layout = layOut(ordered, bytesPerElement(device.info.element), ARENA_LIMIT_BYTES);
  const buffers = allocateArenas(device, layout);
  const bytesTotal = layout.arenaBytes.reduce((total, bytes) => total + bytes, 0);
  const stagingBytes = options.stagingBytes ?? STAGING_BYTES;
  let progress: LoadProgress = {
    bytesDone: 0,
    bytesTotal,
    readSeconds: 0,
    convertSeconds: 0,
    crossSeconds: 0,
    totalSeconds: 0,
  };
  const report = (change: Partial<LoadProgress>) => {
    progress = { ...progress, ...change };
    progress = { ...progress, totalSeconds: (device.clock.nowNs() - startedNs) / 1e9 };
    options.onProgress?.(progress);
  };
  try {
    if (checkpoint === undefined) {
      await fillDummy(device, layout, buffers);
      report({ bytesDone: bytesTotal });
    } else {
      const scales = await readScales(checkpoint, plan);
      const sources = { checkpoint, scales, layout, buffers };
      await streamCheckpoint({ ...options, ...sources, stagingBytes, report });
    }
  } catch (error) {
    for (const buffer of buffers) device.free(buffer);
    throw error;
  }
  return {
    weights: assemble(spec, layout, buffers),
    buffers,
    progress,
    unusedTensors,
    unmappedTensors: checkpoint?.unmapped ?? [],
  };
}
