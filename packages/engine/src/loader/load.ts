import { type CrossingRecord, invariant } from '@bridgekeeper/bridge';
import {
  bytesPerElement,
  type Device,
  type DeviceBuffer,
  type Lane,
  type Slice,
  slice,
} from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';
import {
  type Destination,
  type LayerRole,
  type LayerWeights,
  type PlannedTensor,
  type Weights,
  weightPlan,
} from '../models/weights.ts';
import { type Checkpoint, checkAgainstPlan, type UnmappedTensor } from './checkpoint.ts';
import { type Layout, layOut } from './layout.ts';
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
  for (const [seed, { tensor, arena, offsetBytes, bytes }] of layout.placements.entries()) {
    stream.launch('fill-uniform', {
      out: slice(buffers[arena]!, offsetBytes, bytes),
      elements: tensor.elements,
      type: device.info.element,
      mean: tensor.kind === 'norm' ? 1 : 0,
      spread: tensor.kind === 'matrix' ? DUMMY_SPREAD : 0,
      seed,
    });
  }
  await stream.synchronize();
}

const OPTIONAL_ROLES = {
  qkvBias: null,
  queryNorm: null,
  keyNorm: null,
  outputBias: null,
  gateUpBias: null,
  downBias: null,
} as const;

/** Puts each placed slice where its destination says. */
function assemble(spec: ModelSpec, layout: Layout, buffers: readonly DeviceBuffer[]): Weights {
  const model = new Map<Destination['role'], Slice>();
  const layers = Array.from({ length: spec.layers }, () => new Map<LayerRole, Slice>());
  for (const { tensor, arena, offsetBytes, bytes } of layout.placements) {
    const placed = slice(buffers[arena]!, offsetBytes, bytes);
    const { destination } = tensor;
    if ('layer' in destination) layers[destination.layer]!.set(destination.role, placed);
    else model.set(destination.role, placed);
  }
  const embed = model.get('embed');
  const finalNorm = model.get('finalNorm');
  const head = spec.tiedHead ? embed : model.get('head');
  invariant(embed !== undefined && finalNorm !== undefined && head !== undefined, 'plan is whole');
  const typed = layers.map(
    (roles) => ({ ...OPTIONAL_ROLES, ...Object.fromEntries(roles) }) as unknown as LayerWeights,
  );
  return { embed, layers: typed, finalNorm, head };
}

/**
 * Puts a model's weights on the device, in its element type. Checkpoints are streamed window by
 * window through pinned host memory of bounded size: while one window crosses, the next is read and
 * converted. On failure everything allocated is freed again. Throws ModelError when the checkpoint
 * does not fit `spec` or a file fails, DeviceError when the device does.
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
      await streamCheckpoint({ ...options, checkpoint, layout, buffers, stagingBytes, report });
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
