import { invariant } from '@bridgekeeper/bridge';
import {
  bytesPerElement,
  type Device,
  type DeviceBuffer,
  E4M3_MAX,
  type ElementType,
  elementMatrix,
  MXFP4_BLOCK,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import type { Checkpoint, UnmappedTensor } from '../checkpoint/checkpoint.ts';
import {
  type Division,
  type Rank,
  rankSpec,
  sliceForRank,
  tiedHeadRows,
} from '../models/rank-slice.ts';
import { type ExpertsFeedForward, heldExperts, type ModelSpec } from '../models/spec.ts';
import {
  type Destination,
  type ExpertsMatrix,
  type LayerWeights,
  type WeightMatrix,
  type Weights,
  type WeightTensor,
  weightTensors,
} from '../models/weights.ts';
import type { Traffic } from '../traffic/traffic.ts';
import { type FillReport, fillArenas, type LoadWorker } from './fill.ts';
import { ReaderPool } from './reading/reads.ts';
import { deriveStrategy, type LoadingStrategy } from './strategy/loading-strategy.ts';
import { checkTensors } from './tensors/check-tensors.ts';
import { checkInt4Beside, orderInt4 } from './tensors/int4.ts';
import { type Layout, layOut, type Placement } from './tensors/layout.ts';
import { partsOf, type StoredPart, verbatim } from './tensors/parts.ts';
import { readScales } from './tensors/scales.ts';

const GIB = 1024 ** 3;
/** Large enough for few crossings, small enough for one array buffer of the runtimes we support. */
const ARENA_LIMIT_BYTES = GIB;
/**
 * Half the width of a uniform distribution with standard deviation 0.02, transformers'
 * initialisation.
 */
const DUMMY_SPREAD = 0.02 * Math.sqrt(3);

/** How far a load is. */
export interface LoadProgress {
  /** Bytes that arrived, and all. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly totalSeconds: number;
}

/** How weights come to a device. */
export interface LoadOptions {
  readonly device: Device;
  /** What every byte crosses by. */
  readonly traffic: Traffic;
  /** Reading threads that were started ahead; absent: none are. */
  readonly readers?: ReaderPool | undefined;
  /** Absent: as a device without a bridge. */
  readonly strategy?: LoadingStrategy | undefined;
  /** Tries other strategies, too, where the load is large enough. */
  readonly race?: { readonly contextsMax: number } | null | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Host memory that chunks pass through at the most. */
  readonly stagingBytes?: number | undefined;
  /** Times each stage alone afterwards. */
  readonly measureStages?: boolean | undefined;
  /** Told when everything is in its place and verified, before anything is measured. */
  readonly onFilled?: (() => void) | undefined;
}

export interface WeightOptions extends LoadOptions {
  readonly spec: ModelSpec;
  /** An open checkpoint, or random weights made on the device. */
  readonly source: Checkpoint | 'dummy';
  /** Whether each rank of several has some of the experts whole; else a part of every one. */
  readonly expertParallel?: boolean | undefined;
}

/** How the model is divided among the ranks of the device. */
export function divisionOf({
  device,
  expertParallel = false,
}: Pick<WeightOptions, 'device' | 'expertParallel'>): Division {
  return { of: device.info.ranks, wholeExperts: expertParallel };
}

export interface LoadedWeights {
  readonly weights: Weights;
  /** What holds them: free these to unload the model. */
  readonly buffers: readonly DeviceBuffer[];
  /** Of the arenas. */
  readonly bytes: number;
  readonly seconds: number;
  /** null: nothing was read. */
  readonly report: FillReport | null;
  /** The same weights in other buffers of the same sizes, in the same order. */
  readonly over: (buffers: readonly DeviceBuffer[]) => Weights;
  /** Tensors of the checkpoint that the architecture does not use. */
  readonly unusedTensors: readonly string[];
  /** Tensors that lie in a shard but that the index does not map there. */
  readonly unmappedTensors: readonly UnmappedTensor[];
}

/** Tensors in the order their first sources have in the files. */
function inFileOrder(tensors: readonly WeightTensor[], checkpoint: Checkpoint): WeightTensor[] {
  const first = (tensor: WeightTensor) => checkpoint.tensors.get(tensor.sources[0]!.name)!;
  return tensors.toSorted((a, b) => {
    const [left, right] = [first(a), first(b)];
    return left.file - right.file || left.offsetBytes - right.offsetBytes;
  });
}

function allocateArenas(device: Device, arenaBytes: readonly number[]): DeviceBuffer[] {
  const buffers: DeviceBuffer[] = [];
  try {
    for (const [arena, bytes] of arenaBytes.entries()) {
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

/**
 * Every code of 4 bits as often as any other. Not so the bytes of evenly spread E4M3 values: their
 * codes have a mean, lines grow alike under it, and a router then sends them all to few experts.
 */
const DUMMY_BYTES = { type: 'byte', mean: 128, spread: 128 } as const;
/** The power of two, 2^-7, under which these have about the spread of other matrices. */
const DUMMY_MXFP4_SCALE = { type: 'byte', mean: 120, spread: 0 } as const;

/**
 * Under a middle of 8, codes of 4 bits are -8 to 7: one scale brings them to the spread of other
 * matrices. Its lowest five bits are the zero point.
 */
function dummyInt4Word(): number {
  const word = new Float32Array([DUMMY_SPREAD / 8]);
  const bits = new Uint32Array(word.buffer);
  bits[0] = ((bits[0]! & ~31) | 8) >>> 0;
  return word[0]!;
}

/** FP8 codes use their whole range, and one scale brings them to the spread of other matrices. */
function dummyOf(tensor: WeightTensor, part: Placement['part'], element: ElementType) {
  const { elements, kind, format, scales } = tensor;
  if (part === 'scales') {
    const count = scales!.rows * scales!.columns;
    if (format === 'int4') {
      return { elements: count, type: 'f32', mean: dummyInt4Word(), spread: 0 } as const;
    }
    return { elements: count, type: 'f32', mean: DUMMY_SPREAD / E4M3_MAX, spread: 0 } as const;
  }
  if (format === 'e8m0') return { elements, ...DUMMY_MXFP4_SCALE };
  if (format === 'mxfp4') return { elements, ...DUMMY_BYTES };
  if (format === 'int4') return { elements: elements / 2, ...DUMMY_BYTES };
  if (format === 'f32') return { elements, type: 'f32', mean: 0, spread: 0 } as const;
  if (format !== 'element') {
    return { elements, type: 'fp8-e4m3', mean: 0, spread: E4M3_MAX } as const;
  }
  const spread = kind === 'matrix' || kind === 'weight' ? DUMMY_SPREAD : 0;
  return { elements, type: element, mean: kind === 'norm' ? 1 : 0, spread };
}

const OPTIONAL_ROLES = {
  inputNorm: null,
  qkvBias: null,
  queryNorm: null,
  keyNorm: null,
  sinks: null,
  attentionGate: null,
  attentionGateBias: null,
  outputBias: null,
  attendedNorm: null,
  postNorm: null,
  fedNorm: null,
  layerScale: null,
  perLayerGate: null,
  perLayerBack: null,
  perLayerNorm: null,
} as const;
const DELTA_NET_ROLES = ['gates', 'conv', 'decayLog', 'stepBias', 'headNorm'] as const;
const LATENT_ROLES = [
  'queryDown',
  'queryDownNorm',
  'latentDown',
  'latentNorm',
  'latentUp',
] as const;
const FEED_FORWARD_ROLES = {
  dense: ['gateUp', 'gateUpBias', 'down', 'downBias'],
  experts: [
    ...(['router', 'routerBias', 'expertGateUp', 'expertGateUpBias'] as const),
    ...(['expertDown', 'expertDownBias', 'choiceBias'] as const),
    ...(['sharedGateUp', 'sharedDown', 'sharedGate'] as const),
    ...(['gateUp', 'down', 'besideNorm', 'routerNorm', 'expertsNorm', 'routedNorm'] as const),
    'expertScales',
  ],
} as const;
const STACKS = ['expertGateUp', 'expertDown'] as const;

/** A layer's weights from what was placed under each role. */
function layerOf(
  { layerKinds }: ModelSpec,
  layer: number,
  roles: Readonly<Record<string, unknown>>,
): LayerWeights {
  const { feedForward, mixer } = layerKinds[layer]!;
  const { kind } = feedForward;
  const own = new Map<string, unknown>(
    FEED_FORWARD_ROLES[kind].map((role) => [role, roles[role] ?? null]),
  );
  if (feedForward.kind === 'experts') {
    for (const role of STACKS) {
      const stack = stackOf(own.get(role) as WeightMatrix, roles[`${role}Scales`], feedForward);
      own.set(role, stack);
    }
  }
  const isOfNet = (role: string) => (DELTA_NET_ROLES as readonly string[]).includes(role);
  const isOfLatent = (role: string) => (LATENT_ROLES as readonly string[]).includes(role);
  const isOfMixer = (role: string) => isOfNet(role) || isOfLatent(role);
  const isElsewhere = (role: string) => own.has(role) || isOfMixer(role) || role.endsWith('Scales');
  const rest = Object.entries(roles).filter(([role]) => !isElsewhere(role));
  const ofNet = Object.entries(roles).filter(([role]) => isOfNet(role));
  const ofLatent = Object.fromEntries(LATENT_ROLES.map((role) => [role, roles[role] ?? null]));
  return {
    ...OPTIONAL_ROLES,
    ...Object.fromEntries(rest),
    deltaNet: mixer === 'delta-net' ? Object.fromEntries(ofNet) : null,
    latent: mixer === 'latent-attention' ? ofLatent : null,
    feedForward: { kind, ...Object.fromEntries(own) },
  } as unknown as LayerWeights;
}

/** A tall matrix as what it is: experts, one on the other. */
function stackOf(
  matrix: WeightMatrix,
  scales: unknown,
  feedForward: ExpertsFeedForward,
): ExpertsMatrix {
  const sizes = { ...matrix, outputs: matrix.outputs / heldExperts(feedForward) };
  if (scales === undefined) return sizes;
  // Rows were counted in bytes.
  const packed = { format: 'mxfp4', scales: scales as Slice, inputs: matrix.inputs * 2 } as const;
  return { ...sizes, ...packed, blockOutputs: 1, blockInputs: MXFP4_BLOCK };
}

/** A tensor's values and scales on the device. */
interface Placed {
  readonly values: Slice;
  readonly scales: Slice | null;
}

function placedOf(
  layout: Layout,
  buffers: readonly DeviceBuffer[],
): ReadonlyMap<WeightTensor, Placed> {
  const all = new Map<WeightTensor, Placed>();
  for (const { tensor, part, arena, offsetBytes, bytes } of layout.placements) {
    const place = slice(buffers[arena]!, offsetBytes, bytes);
    // Scales follow their values.
    if (part === 'values') all.set(tensor, { values: place, scales: null });
    else all.set(tensor, { values: all.get(tensor)!.values, scales: place });
  }
  return all;
}

function matrixOf({ shape, format, scales: grid }: WeightTensor, placed: Placed): WeightMatrix {
  const sizes = { outputs: shape[0]!, inputs: shape[1]! };
  const { values: weight, scales } = placed;
  if (grid === null) return { ...elementMatrix(weight), ...sizes };
  const { blockOutputs, blockInputs } = grid;
  const hasScales = format === 'fp8-e4m3' || format === 'int4';
  invariant(hasScales, 'what has scales of its own is FP8 or int4');
  return { weight, format, scales, blockOutputs, blockInputs, ...sizes };
}

/** Puts each placed tensor where its destination says. */
function assemble(spec: ModelSpec, layout: Layout, buffers: readonly DeviceBuffer[]): Weights {
  const model = new Map<Destination['role'], Slice>();
  let headRows = spec.vocabularySize;
  const layers = Array.from({ length: spec.layers }, () => ({}) as Record<string, unknown>);
  for (const [tensor, placed] of placedOf(layout, buffers)) {
    const { destination, kind } = tensor;
    if ('layer' in destination) {
      const weight = kind === 'matrix' ? matrixOf(tensor, placed) : placed.values;
      layers[destination.layer]![destination.role] = weight;
    } else {
      model.set(destination.role, placed.values);
      if (destination.role === 'head') headRows = tensor.shape[0]!;
    }
  }
  const embed = model.get('embed');
  const finalNorm = model.get('finalNorm');
  invariant(embed !== undefined && finalNorm !== undefined, 'a model has a table and a last norm');
  const headWeight = model.get('head') ?? (spec.tiedHead ? embed : undefined);
  invariant(headWeight !== undefined, 'a model has a head, or the table is it');
  const head = { ...elementMatrix(headWeight), outputs: headRows, inputs: spec.hiddenSize };
  return {
    embed,
    perLayer: perLayerOf(spec, model),
    layers: layers.map((roles, layer) => layerOf(spec, layer, roles)),
    finalNorm,
    head,
  };
}

function perLayerOf(
  { perLayer, layers, hiddenSize: inputs }: ModelSpec,
  model: ReadonlyMap<Destination['role'], Slice>,
): Weights['perLayer'] {
  if (perLayer === null) return null;
  const [table, projection, norm] = [
    ...(['perLayerTable', 'perLayerProjection', 'perLayerTableNorm'] as const),
  ].map((role) => model.get(role)!);
  const sizes = { outputs: layers * perLayer.width, inputs };
  return { table: table!, projection: { ...elementMatrix(projection!), ...sizes }, norm: norm! };
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** Frees `buffers` when `fill` fails: nothing is left of a load that did not end. */
async function orFree<T>(
  device: Device,
  buffers: readonly DeviceBuffer[],
  fill: () => Promise<T>,
): Promise<T> {
  try {
    return await fill();
  } catch (error) {
    for (const buffer of buffers) device.free(buffer);
    throw error;
  }
}

/** Fills arenas from a checkpoint, with reading threads that are there anyway or for this alone. */
async function fillFrom(
  checkpoint: Checkpoint,
  parts: readonly StoredPart[],
  buffers: readonly DeviceBuffer[],
  options: LoadOptions,
): Promise<FillReport> {
  const { device, onProgress } = options;
  const startedNs = device.clock.nowNs();
  const readers = options.readers ?? new ReaderPool();
  const none = { deviceKind: 'cpu', profile: null, isImposed: false, cores: 1, gpus: 1 } as const;
  const strategy = options.strategy ?? deriveStrategy(none);
  try {
    return await fillArenas(parts, buffers, {
      ...options,
      checkpoint,
      workers: gpusOf(options).map((gpu, index) => ({
        ...gpu,
        readers: readers.from(index * strategy.readers),
      })),
      strategy,
      race: options.race ?? null,
      onProgress: (bytesDone: number, bytesTotal: number) => {
        const totalSeconds = (device.clock.nowNs() - startedNs) / 1e9;
        onProgress?.({ bytesDone, bytesTotal, totalSeconds });
      },
    });
  } finally {
    if (options.readers === undefined) await readers.close();
  }
}

/** The devices that ranks are on, each once, with what crosses to it. */
function gpusOf({ device, traffic }: LoadOptions): readonly Omit<LoadWorker, 'readers'>[] {
  const { ranks } = device;
  if (ranks.length === 1) return [{ device, traffic }];
  const gpus = new Map<Device, Omit<LoadWorker, 'readers'>>();
  for (const [index, { device: own }] of ranks.entries()) {
    if (!gpus.has(own)) gpus.set(own, { device: own, traffic: traffic.ofRank(own, index) });
  }
  return [...gpus.values()];
}

/** Scales are small and checked on the host; they cross one matrix at a time. */
async function uploadScales(
  checkpoint: Checkpoint,
  tensors: readonly WeightTensor[],
  layout: Layout,
  buffers: readonly DeviceBuffer[],
  traffic: Traffic,
): Promise<void> {
  const scales = await readScales(checkpoint, tensors);
  for (const { tensor, part, arena, offsetBytes, bytes } of layout.placements) {
    if (part !== 'scales' || tensor.int4 !== undefined) continue;
    await traffic.upload(scales.get(tensor)!, slice(buffers[arena]!, offsetBytes, bytes));
  }
}

/**
 * Puts a model's weights on the device: packed formats packed, the rest in its element type.
 * A checkpoint passes through memory of bounded size (see LoadPipeline); a sealed one is verified
 * before this resolves. On failure everything allocated is freed again. Throws ModelError when the
 * checkpoint does not fit `spec`, a file fails or is not what was sealed, DeviceError when the
 * device fails.
 */
export async function loadWeights(options: WeightOptions): Promise<LoadedWeights> {
  const { spec, source, device } = options;
  const startedNs = device.clock.nowNs();
  const tensors = weightTensors(spec);
  const checkpoint = source === 'dummy' ? undefined : source;
  const unusedTensors = checkpoint === undefined ? [] : checkTensors(checkpoint, tensors);
  const ordered = checkpoint === undefined ? tensors : inFileOrder(tensors, checkpoint);
  const { element } = device.info;
  const division = divisionOf(options);
  const layouts = device.ranks.map((_, index) =>
    layOut(
      heldBy(ordered, spec, { ...division, index }),
      bytesPerElement(element),
      ARENA_LIMIT_BYTES,
    ),
  );
  // The same on every rank but for where its bytes come from.
  const layout = layouts[0]!;
  if (checkpoint !== undefined) {
    for (const gpu of gpusOf(options)) gpu.traffic.reserveBulk(options.strategy?.contexts ?? 0);
  }
  const buffers = allocateArenas(device, layout.arenaBytes);
  const report = await orFree(device, buffers, async () => {
    if (checkpoint !== undefined) return fillRanks(checkpoint, layouts, buffers, options);
    await fillDummy(device, layout, buffers);
    return null;
  });
  const own = rankSpec(spec, division);
  const over = (arenas: readonly DeviceBuffer[]) => assemble(own, layout, arenas);
  return {
    weights: over(buffers),
    buffers,
    over,
    bytes: sum(layout.arenaBytes),
    seconds: (device.clock.nowNs() - startedNs) / 1e9,
    report,
    unusedTensors,
    unmappedTensors: checkpoint?.unmapped ?? [],
  };
}

/** What a rank holds of a model's tensors: all of them, where it is the only one. */
export function heldBy(
  tensors: readonly WeightTensor[],
  spec: ModelSpec,
  rank: Rank,
): WeightTensor[] {
  return rank.of === 1 ? [...tensors] : sliceForRank(tensors, spec, rank);
}

/** Brings all ranks what they hold: each byte of the files once, whosever it is. */
async function fillRanks(
  checkpoint: Checkpoint,
  layouts: readonly Layout[],
  buffers: readonly DeviceBuffer[],
  options: WeightOptions,
): Promise<FillReport> {
  const { device, traffic } = options;
  const { element } = device.info;
  const ranks = device.ranks.map(({ device: own, part }, index) => ({
    device: own,
    index,
    layout: layouts[index]!,
    buffers: buffers.map(part),
    traffic: device.ranks.length === 1 ? traffic : traffic.ofRank(own, index),
  }));
  for (const { layout, buffers, traffic } of ranks) {
    const tensors = new Set(layout.placements.map(({ tensor }) => tensor));
    await uploadScales(checkpoint, [...tensors], layout, buffers, traffic);
    await checkInt4Beside(checkpoint, [...tensors]);
  }
  const parts = ranks.flatMap(({ layout, index }) =>
    partsOf(layout, checkpoint, element).map((part) => ({
      ...part,
      arena: part.arena + index * buffers.length,
    })),
  );
  const arenas = ranks.flatMap(({ buffers }) => buffers);
  const report = await fillFrom(checkpoint, parts, arenas, options);
  for (const rank of ranks) await orderInt4(rank.device, checkpoint, rank.layout, rank.buffers);
  const { spec } = options;
  const division = divisionOf(options);
  const streams = ranks.map((rank) => fillRest(rank, spec, { ...division, index: rank.index }));
  await Promise.all(streams.map((stream) => stream.synchronize()));
  return report;
}

/** What no file has: zeros, and rows of a rank's own table. Ends with the stream that it is on. */
function fillRest(
  {
    device,
    layout,
    buffers,
  }: {
    readonly device: Device;
    readonly layout: Layout;
    readonly buffers: readonly DeviceBuffer[];
  },
  spec: ModelSpec,
  rank: Rank,
): Stream {
  const { element } = device.info;
  const stream = device.createStream('weights without sources');
  const placeOf = ({ arena, offsetBytes, bytes }: Placement) =>
    slice(buffers[arena]!, offsetBytes, bytes);
  for (const placement of layout.placements) {
    const { sources, destination, elements } = placement.tensor;
    if (sources.length > 0) continue;
    const out = placeOf(placement);
    if (destination.role === 'head') {
      const table = layout.placements.find(({ tensor }) => tensor.destination.role === 'embed')!;
      const [from] = tiedHeadRows(spec, rank);
      const rowBytes = spec.hiddenSize * bytesPerElement(element);
      const { buffer, offsetBytes } = placeOf(table);
      const input = slice(buffer, offsetBytes + from * rowBytes, out.bytes);
      stream.launch('copy', { input, out, bytes: out.bytes });
    } else {
      const zeros = { type: element, mean: 0, spread: 0, seed: 0 } as const;
      stream.launch('fill-uniform', { out, elements, ...zeros });
    }
  }
  return stream;
}

/** Tensors on the device that no engine was built over. */
export interface LoadedTensors {
  readonly parts: readonly StoredPart[];
  readonly buffers: readonly DeviceBuffer[];
  readonly bytes: number;
  readonly report: FillReport;
}

/**
 * What one rank of several holds of a model; the same rules as `loadWeights`, but that weights in
 * 4 bits stay in the order in which they are stored.
 */
export async function loadRank(
  options: LoadOptions & { readonly spec: ModelSpec; readonly source: Checkpoint },
  rank: Rank,
): Promise<LoadedTensors> {
  const { spec, source, device } = options;
  const tensors = weightTensors(spec);
  checkTensors(source, tensors);
  const held = heldBy(inFileOrder(tensors, source), spec, rank);
  const { element } = device.info;
  const layout = layOut(held, bytesPerElement(element), ARENA_LIMIT_BYTES);
  const parts = partsOf(layout, source, element);
  return loadParts(source, parts, layout.arenaBytes, options, (buffers) =>
    uploadScales(source, held, layout, buffers, options.traffic),
  );
}

/** Every tensor of a checkpoint as it is stored: packed formats stay packed. */
export async function loadVerbatim(
  options: LoadOptions & { readonly source: Checkpoint },
): Promise<LoadedTensors> {
  const { arenaBytes, parts } = verbatim(options.source, ARENA_LIMIT_BYTES);
  return loadParts(options.source, parts, arenaBytes, options);
}

async function loadParts(
  source: Checkpoint,
  parts: readonly StoredPart[],
  arenaBytes: readonly number[],
  options: LoadOptions,
  before: (buffers: readonly DeviceBuffer[]) => Promise<void> = async () => undefined,
): Promise<LoadedTensors> {
  const buffers = allocateArenas(options.device, arenaBytes);
  const report = await orFree(options.device, buffers, async () => {
    await before(buffers);
    return fillFrom(source, parts, buffers, options);
  });
  return { parts, buffers, bytes: sum(arenaBytes), report };
}
