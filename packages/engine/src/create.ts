import { type CrossingRecord, invariant, type Profile } from '@bridgekeeper/bridge';
import {
  bytesPerElement,
  type Device,
  DeviceError,
  type DeviceInfo,
  hash32,
  type StorageFormat,
  slice,
  type Vocabulary,
} from '@bridgekeeper/device';
import { openCheckpoint } from './checkpoint/checkpoint.ts';
import { Engine } from './engine.ts';
import { GrammarPool } from './grammar/grammar-pool.ts';
import { PrefixTree, type TierOptions } from './kv/prefix-tree.ts';
import { SnapshotPool } from './kv/snapshot-pool.ts';
import { createTierPolicy } from './kv/tiers/policies.ts';
import type { KvPrices } from './kv/tiers/prices.ts';
import { WindowPool, windowPagesOfRow } from './kv/window-pool.ts';
import {
  divisionOf,
  heldBy,
  type LoadedWeights,
  type LoadProgress,
  loadWeights,
} from './loader/load.ts';
import { gpuNotes, loadNotes } from './loader/notes.ts';
import type { ReaderPool } from './loader/reading/reads.ts';
import type { LoadingStrategy } from './loader/strategy/loading-strategy.ts';
import { weightBytes } from './loader/tensors/layout.ts';
import { readModelSpec } from './models/folder.ts';
import { FP8_BLOCKS, fp8Of } from './models/quantization.ts';
import { rankSpec } from './models/rank-slice.ts';
import { ropeTable } from './models/rope.ts';
import type { ModelSpec } from './models/spec.ts';
import { describeModelSpec } from './models/summary.ts';
import { weightTensors } from './models/weights.ts';
import {
  type OpenTiers,
  openTiers,
  stagingBytes,
  type TierLimits,
  type TiersRequest,
} from './mover/open-tiers.ts';
import type { BurstLimits } from './policies/burst.ts';
import { contextsOf, createPolicy, type LaunchRecord, type PolicyName } from './policies/policy.ts';
import { PrefillRate } from './policies/prefill-rate.ts';
import {
  type EngineCard,
  EngineError,
  type EngineTask,
  type KvPartPlaces,
  type MemoryBudget,
} from './request/request.ts';
import type { ForwardParts } from './runner/forward.ts';
import { windowTokensOf } from './runner/layer-sizes.ts';
import { budgetMemory, type MemoryRequest, usualContextTokens } from './runner/memory.ts';
import { Runner } from './runner/runner.ts';
import {
  allocateBuffers,
  kvPartsOf,
  maxCountTokens,
  maxHistoryTokens,
  pageBytes,
  poolPageBytes,
  RING_SLOTS,
  type RunnerShape,
  ropeTables,
  stateBytesPerRow,
  windowSizesOf,
} from './runner/shapes.ts';
import { SCORE_LINES, Scheduler } from './scheduler/scheduler.ts';
import type { SealPolicy } from './seal/open.ts';
import { type OpenedModel, openModel, pinSeal } from './seal/open-model.ts';
import { Sleeper } from './sleeper.ts';
import type { NgramOptions } from './speculation/ngram.ts';
import { Traffic } from './traffic/traffic.ts';

/** What bounds an engine, whatever model and device it has. Plain data. */
export interface EngineLimits {
  /** What `resident` derives the length of its bursts from. */
  readonly burst: BurstLimits;
  /** undefined: what the model was made for. */
  readonly maxModelTokens: number | undefined;
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  /** undefined: what the device prefers. */
  readonly pageTokens: number | undefined;
  readonly memoryUtilization: number;
  readonly kvBytes: number | undefined;
  readonly prefixCaching: boolean;
  /**
   * States to keep of a model with delta nets, from which its prefixes are continued, as far as
   * there is memory. undefined: some for each row; of other models.
   */
  readonly snapshots?: number | undefined;
  readonly chunkedPrefill: boolean;
  readonly maxWaiting: number;
  /** Where the seeds of requests without one come from. */
  readonly seed: number;
  /** Where KV pages go when they leave the device; absent: nowhere. */
  readonly tiers?: TierLimits | undefined;
  /** What rows may draft; absent: nothing. */
  readonly speculation?: NgramOptions | undefined;
}

export interface EngineOptions extends EngineLimits {
  readonly device: Device;
  /** What crossings cost here, as far as is known: bulk is cut by it. null: nothing is known. */
  readonly bridge?: Profile | null | undefined;
  readonly policy: PolicyName;
  /** undefined: it generates. */
  readonly task?: EngineTask | undefined;
  /** A Hugging Face model folder. */
  readonly model: string;
  /** What the model is, in place of what its folder says: nothing is read, weights are dummies. */
  readonly spec?: ModelSpec | undefined;
  /** Random weights: only config.json is read. */
  readonly dummy: boolean;
  /** Whether each rank of several has some of the experts whole; else a part of every one. */
  readonly expertParallel?: boolean | undefined;
  /**
   * What weights must be stored in. undefined: what config.json says. Dummy weights can be made so.
   */
  readonly quantization: 'fp8' | undefined;
  readonly kvFormat: StorageFormat;
  /** What requests with a grammar need; absent: such requests are refused. */
  readonly grammars?: GrammarOptions | undefined;
  /** In place of what the device is best with, tokens (`RunnerShape.capturedPrompts`). */
  readonly capturedPrompts?: number | undefined;
  /** Layers that see a window have no pages of their own: for comparisons. */
  readonly hasOnePool?: boolean | undefined;
  /** What KV pages are believed to cost, in place of what is known: for measurements. */
  readonly kvPrices?: ((known: KvPrices) => KvPrices) | undefined;
  /** How weights come to the device; undefined: as where there is no bridge. */
  readonly loading?: LoadingStrategy | undefined;
  /** Reading threads that were started before the device was opened. */
  readonly readers?: ReaderPool | undefined;
  /** What is asked of the model's seal; undefined: nothing. */
  readonly seal?: SealPolicy | undefined;
  /** Host memory that weights of a sleeping model, and KV, may take; by default what there is. */
  readonly availableHostBytes?: (() => number) | undefined;
  /** Told of every crossing once it is in the ledger. */
  readonly onCrossing?: ((record: CrossingRecord) => void) | undefined;
  /** Told of every launch of steps once it was taken in. */
  readonly onLaunch?: ((launch: LaunchRecord) => void) | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Told what the model is, in lines for people, before it is loaded. */
  readonly onModel?: ((lines: readonly string[]) => void) | undefined;
  /** Told what begins now. */
  readonly onPhase?: ((phase: PreparationPhase) => void) | undefined;
}

/** What requests with a grammar need. */
export interface GrammarOptions {
  /** Of the model's own size. */
  readonly vocabulary: Vocabulary;
  /** Room for compiled grammars on the device, and in pinned memory of the host. */
  readonly poolBytes: number;
}

/** What making a model ready consists of, in order. */
export type PreparationPhase = 'weights' | 'kernels' | 'graphs' | 'routes';

/** A model on a device, ready to run steps. */
export interface PreparedModel {
  readonly spec: ModelSpec;
  /** Of the seal that its weights were verified against; null: they were not. */
  readonly sealRoot: string | null;
  /** By which the same model is opened again. */
  readonly seal: SealPolicy;
  readonly shape: RunnerShape;
  readonly memory: MemoryBudget;
  readonly loaded: LoadedWeights;
  readonly parts: ForwardParts;
  readonly runner: Runner;
  /** Everything that crosses, and the lanes that weights crossed on, for steps to take over. */
  readonly traffic: Traffic;
  /** A scheduler over all of the model's pages, with nothing to do. */
  readonly scheduler: Scheduler;
  readonly tree: PrefixTree;
  readonly grammars: GrammarPool;
  /** What is below the device; null: nothing is. */
  readonly tiers: OpenTiers | null;
  /** Learns what prompts take. */
  readonly prefillRate: PrefillRate;
  /** What compiling, timing and capturing took. */
  readonly prepareSeconds: number;
}

/**
 * Loads the model onto the device and starts the engine on it. Throws ModelError or EngineError.
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  return startEngine(options, await prepareModel(options));
}

/** Loads the model and makes everything that steps need: nothing is allocated after this. */
export async function prepareModel(options: EngineOptions): Promise<PreparedModel> {
  const { device, maxRows, onCrossing } = options;
  invariant(options.spec === undefined || options.dummy, 'weights without a folder are dummies');
  const traffic = new Traffic({ device, profile: options.bridge ?? null, onCrossing });
  // Creating contexts takes its time: what weights and then steps will cross on is begun now.
  const forWeights = options.dummy ? 0 : (options.loading?.contexts ?? 0);
  const forSteps = contextsOf(options.policy) + (options.tiers === undefined ? 0 : 1);
  traffic.reserve(Math.max(forWeights, forSteps));
  if (!options.dummy) reserveBulk(options, traffic);
  const policy = options.seal ?? { mode: 'off' };
  const source: OpenedModel =
    options.spec === undefined
      ? await openModel(options.model, policy)
      : { folder: options.model, seal: null, files: options.model };
  const described = options.spec ?? (await readModelSpec(source.files));
  const spec = withHeadFor(options, quantizedAsWished(options, described));
  // What each rank runs; of a device alone, the model.
  const own = rankSpec(spec, divisionOf(options));
  const { shape, memory } = planShape(options, spec, own);
  options.onModel?.(linesOf(device, spec, shape, memory));
  options.onPhase?.('weights');
  const loaded = await load(options, source, { spec, traffic });
  const buffers = allocateBuffers(device, own, shape);
  for (const { rope, headDim, offsetBytes, bytes } of ropeTables(spec, shape)) {
    // A device that computes nothing reads no angles, and those of long contexts take seconds.
    const table = device.info.isHollow
      ? bytes
      : bytesOf(ropeTable(rope, headDim, shape.maxModelTokens));
    await traffic.upload(table, slice(buffers.rope, offsetBytes, bytes));
  }
  const vocabulary = options.grammars?.vocabulary ?? null;
  if (vocabulary !== null) {
    await traffic.upload(bytesOf(vocabulary.spans), slice(buffers.tokenSpans));
    await traffic.upload(bytesOf(vocabulary.heads), slice(buffers.tokenHeads));
    await traffic.upload(bytesOf(vocabulary.bytes), slice(buffers.tokenBytes));
  }
  const stream = device.createStream('engine');
  const { element, isHollow = false } = device.info;
  const common = { shape, weights: loaded.weights, buffers, stream, vocabulary, element, isHollow };
  const parts = { ...common, spec: own };
  const runner = new Runner(device, parts);
  const preparingNs = device.clock.nowNs();
  await runner.warmUp((phase) => options.onPhase?.(phase));
  const prepareSeconds = (device.clock.nowNs() - preparingNs) / 1e9;
  const { chunkedPrefill } = options;
  // A state of constant size is of one position alone: pages are of no use without a snapshot.
  const isEnabled = options.prefixCaching && (spec.deltaNet === null || shape.snapshots > 0);
  const sealRoot = options.dummy ? null : (source.seal?.seal.root ?? null);
  const wanted = tiersRequest(options, parts, traffic, sealRoot);
  const tiers = wanted === null ? null : await tiersOf(wanted);
  const prefillRate = new PrefillRate();
  const { kvPages: pages, pageTokens } = shape;
  const prices = kvPricesOf(options, tiers, prefillRate, pageTokens);
  const below = tiers === null ? undefined : belowDevice(tiers, prices);
  const snapshots = snapshotsOf(parts, memory, prices);
  const window = windowPool(own, shape);
  const tree = new PrefixTree({ pages, pageTokens, isEnabled, tiers: below, snapshots, window });
  const limits = {
    ...shape,
    maxLines: maxRows,
    maxCountTokens: maxCountTokens(shape),
    ...(shape.speculation === null ? {} : { maxHistoryTokens: maxHistoryTokens(shape) }),
  };
  const grammars = new GrammarPool(shape.grammarBytes / 4);
  const scheduler = new Scheduler({ ...limits, chunkedPrefill }, tree, grammars);
  return {
    spec,
    sealRoot,
    seal: pinSeal(policy, source),
    shape,
    memory,
    loaded,
    parts,
    runner,
    traffic,
    scheduler,
    tree,
    grammars,
    tiers,
    prefillRate,
    prepareSeconds,
  };
}

function windowPool(spec: ModelSpec, shape: RunnerShape): WindowPool | undefined {
  const sizes = shape.windowPages === 0 ? null : windowSizesOf(spec, shape);
  return sizes === null ? undefined : new WindowPool(shape.windowPages, sizes);
}

/** Each GPU of several is loaded by a lane of its own. */
function reserveBulk({ device, loading }: EngineOptions, traffic: Traffic): void {
  if (new Set(device.ranks.map((rank) => rank.device)).size === 1) return;
  for (const [index, rank] of device.ranks.entries()) {
    traffic.ofRank(rank.device, index).reserveBulk(loading?.contexts ?? 0);
  }
}

/** Of what is not below the device. */
const NOTHING_MOVES = { writeNs: () => Infinity, readNs: () => Infinity };

/** What the prefix tree decides by: what lane, disk and launches took. */
function kvPricesOf(
  { kvPrices }: EngineOptions,
  tiers: OpenTiers | null,
  prefillRate: PrefillRate,
  pageTokens: number,
): KvPrices {
  const known: KvPrices = {
    recomputeNs: (index) => prefillRate.ns(pageTokens, index * pageTokens),
    launchNs: () => prefillRate.launchNs,
    ...(tiers?.prices ?? NOTHING_MOVES),
  };
  return kvPrices?.(known) ?? known;
}

function belowDevice({ mover, policy }: OpenTiers, prices: KvPrices): TierOptions {
  return { mover, prices, policy: createTierPolicy(policy, prices) };
}

/** What states of rows are kept in; undefined: there are none, or no memory for it. */
function snapshotsOf(
  { spec, shape, element }: ForwardParts,
  { weightBytes }: MemoryBudget,
  prices: KvPrices,
): SnapshotPool | undefined {
  const { snapshots: places, pageTokens } = shape;
  if (places === 0) return undefined;
  // The least that a launch does is to read the weights; a copy reads and writes a state.
  const copiedBytes = 2 * stateBytesPerRow(spec, bytesPerElement(element));
  const costLaunches = 1 + copiedBytes / weightBytes;
  return new SnapshotPool({ places, pageTokens, prices, costLaunches });
}

const systemBytes = () => process.availableMemory();

/** Keys and values of one token over all layers, before the model is loaded. Throws ModelError. */
export async function kvBytesPerToken(
  options: Pick<EngineOptions, 'model' | 'device' | 'kvFormat'>,
): Promise<number> {
  const { files } = await openModel(options.model, { mode: 'off' });
  const elementBytes = bytesPerElement(options.device.info.element);
  return pageBytes(await readModelSpec(files), { ...options, pageTokens: 1 }, elementBytes);
}

/** What tiers over these pages are opened with; null: none are wanted. */
export function tiersRequest(
  { device, bridge, tiers, model, availableHostBytes = systemBytes }: EngineOptions,
  parts: ForwardParts,
  traffic: Traffic,
  sealRoot: string | null,
): TiersRequest | null {
  if (tiers === undefined) return null;
  const { spec, shape, stream } = parts;
  const { pageTokens, maxModelTokens } = shape;
  const sizes = shape.windowPages === 0 ? null : windowSizesOf(spec, shape);
  return {
    device,
    traffic,
    profile: bridge ?? null,
    limits: tiers,
    parts: kvPartsOf(spec, shape, bytesPerElement(device.info.element)).map(
      // A device that slept has other memory.
      ({ part, buffer, bytes }) => ({ part, bytes, pool: () => slice(parts.buffers[buffer]) }),
    ),
    usual: {
      pageTokens,
      contextTokens: usualContextTokens(sizes?.windowTokens ?? 0, maxModelTokens),
      windowPages: sizes === null ? 0 : windowPagesOfRow({ ...sizes, aheadTokens: 0 }),
    },
    model: sealRoot ?? model,
    availableHostBytes,
    stream,
    spillStaging: slice(parts.buffers.kvSpills),
    restoreStaging: slice(parts.buffers.kvRestores),
  };
}

async function tiersOf(request: TiersRequest): Promise<OpenTiers> {
  try {
    return await openTiers(request);
  } catch (cause) {
    if (cause instanceof DeviceError || !(cause instanceof Error)) throw cause;
    const message = `--kv-disk-path: ${cause.message}`;
    throw new EngineError('bad-model', message, 'kv_disk_path', { cause });
  }
}

/** Starts the engine's loop over a prepared model. */
export async function startEngine(options: EngineOptions, model: PreparedModel): Promise<Engine> {
  const { device } = options;
  const { scheduler, runner, traffic, tree, grammars, tiers, prefillRate } = model;
  const { clock } = device;
  const { burst, onLaunch } = options;
  options.onPhase?.('routes');
  const mover = tiers?.mover ?? null;
  const { speculation } = model.shape;
  const common = { scheduler, runner, traffic, clock, burst, mover, prefillRate, onLaunch };
  const policy = await createPolicy(options.policy, { ...common, speculation });
  // Closing contexts takes its time, and the engine need not wait for it.
  void traffic.closeReserved();
  void model.tiers?.host.grow();
  return new Engine({
    device,
    scheduler,
    tree,
    grammars,
    policy,
    refine: () => runner.refine(),
    sleeper: new Sleeper({
      device,
      traffic,
      runner,
      parts: model.parts,
      tree,
      loaded: model.loaded,
      contexts: options.dummy ? 0 : (options.loading?.contexts ?? 0),
      // Its key is erased once the model is loaded.
      reload: model.seal.userKey === undefined ? () => reload(options, model) : null,
      availableHostBytes: options.availableHostBytes ?? systemBytes,
    }),
    card: describe(options, model),
    tiers: model.tiers,
    traffic,
    drawSeed: seedSource(options.seed),
  });
}

/** Weights are not quantised while they load; dummy ones are made as is wished. */
function quantizedAsWished(options: EngineOptions, spec: ModelSpec): ModelSpec {
  const { quantization } = spec;
  if (options.quantization === undefined || fp8Of(quantization) !== null) return spec;
  if (quantization !== null) {
    throw new EngineError(
      'bad-model',
      `--quantization fp8: config.json says that the weights are ${quantization.method}; leave ` +
        'the flag out',
      'quantization',
    );
  }
  if (options.dummy) return { ...spec, quantization: FP8_BLOCKS };
  throw new EngineError(
    'bad-model',
    '--quantization fp8: config.json has no quantization_config, so the weights are not FP8, ' +
      'and they are not quantized while loading. Use a checkpoint that is stored in FP8, or ' +
      'leave the flag out; --kv-cache-dtype fp8 works with either',
    'quantization',
  );
}

/** Embeddings are of what comes before the head, which may then be missing. */
function withHeadFor({ task }: EngineOptions, spec: ModelSpec): ModelSpec {
  return task === 'embed' ? { ...spec, tiedHead: true } : spec;
}

/** Settles every size before anything is loaded, so that what cannot fit is refused at once. */
function planShape(
  options: EngineOptions,
  whole: ModelSpec,
  spec: ModelSpec,
): { readonly shape: RunnerShape; readonly memory: MemoryBudget } {
  const { device, maxRows, maxBatchTokens } = options;
  const maxModelTokens = options.maxModelTokens ?? spec.maxPositions;
  if (maxModelTokens > spec.maxPositions) {
    throw new EngineError(
      'bad-model',
      `--max-model-len ${maxModelTokens} exceeds the ${spec.maxPositions} positions that ` +
        'config.json gives this model',
      'max_model_len',
    );
  }
  if (!options.chunkedPrefill && maxBatchTokens < maxModelTokens) {
    throw new EngineError(
      'bad-model',
      `without chunked prefill a step must hold a whole prompt: raise --max-num-batched-tokens ` +
        `(${maxBatchTokens}) to --max-model-len (${maxModelTokens})`,
      'max_num_batched_tokens',
    );
  }
  const { task = 'generate' } = options;
  if (task === 'score' && maxRows < SCORE_LINES) {
    const message = `--task score needs ${SCORE_LINES} rows: raise --max-num-seqs (${maxRows})`;
    throw new EngineError('bad-model', message, 'max_num_seqs');
  }
  const { grammars } = options;
  if (grammars !== undefined && grammars.vocabulary.spans.length !== spec.vocabularySize) {
    throw new EngineError(
      'bad-model',
      `the vocabulary for grammars has ${grammars.vocabulary.spans.length} tokens, and the model ` +
        `${spec.vocabularySize}`,
    );
  }
  const elementBytes = bytesPerElement(device.info.element);
  const pageTokens = options.pageTokens ?? device.info.preferredPageTokens;
  const { ranks } = device.info;
  if (whole.latent !== null && options.kvFormat !== 'element') {
    const what = `${whole.architecture} keeps one vector for all heads, as it is computed`;
    const message = `--kv-cache-dtype: ${what}; leave it out`;
    throw new EngineError('bad-model', message, 'kv_cache_dtype');
  }
  // All of them: what cannot be divided is refused here.
  const held = Array.from({ length: ranks }, (_, index) =>
    heldBy(weightTensors(whole), whole, { ...divisionOf(options), index }),
  );
  const sizes = {
    task,
    ranks,
    maxRows,
    maxBatchTokens,
    capturedPrompts: options.capturedPrompts ?? capturedPromptsOf(device.info),
    maxModelTokens,
    pageTokens,
    hasOnePool: options.hasOnePool === true,
    ringSlots: RING_SLOTS,
    kvFormat: options.kvFormat,
    speculation: speculationOf(options),
    grammarBytes: Math.floor((grammars?.poolBytes ?? 0) / 256) * 256,
    tokenBytes: grammars?.vocabulary.bytes.byteLength ?? 0,
  };
  const snapshots = snapshotsWanted(options, spec);
  const moved = {
    pageBytes: pageBytes(spec, sizes, elementBytes),
    stateBytes: snapshots === undefined ? 0 : stateBytesPerRow(spec, elementBytes),
  };
  const kvStaging =
    options.tiers === undefined
      ? null
      : stagingBytes(options.bridge ?? null, moved, device.info.memoryBytes, options.tiers);
  const memory = budgetMemory({
    spec,
    shape: { ...sizes, kvStaging },
    elementBytes,
    deviceBytes: device.info.memoryBytes,
    utilization: options.memoryUtilization,
    weightBytes: Math.max(...held.map((tensors) => weightBytes(tensors, elementBytes))),
    kvBytes: options.kvBytes,
    snapshots,
  });
  const { kvPages, window } = memory;
  const pools = { kvPages, windowPages: window?.pages ?? 0, snapshots: memory.snapshots };
  return { shape: { ...sizes, kvStaging, ...pools }, memory };
}

/** Unless so many are asked for: prefixes are those of rows, and of requests before them. */
const SNAPSHOTS_PER_ROW = 16;
/** Likewise, of the memory for KV: without their pages snapshots are of no use. */
const SNAPSHOT_SHARE = 1 / 4;

/** Throws EngineError where what is asked for could be of no use. */
function snapshotsWanted(
  { prefixCaching, chunkedPrefill, snapshots, maxRows }: EngineOptions,
  { deltaNet }: ModelSpec,
): MemoryRequest['snapshots'] {
  const refuse = (why: string) =>
    new EngineError('bad-model', `--state-snapshots: ${why}; leave it out`, 'state_snapshots');
  if (deltaNet === null) {
    if (snapshots !== undefined) throw refuse('this model keeps no states beside KV');
    return undefined;
  }
  // Prompts that are computed whole are not divided where a snapshot could be taken.
  if (!prefixCaching || !chunkedPrefill) {
    const needed = prefixCaching ? '--enable-chunked-prefill' : '--enable-prefix-caching';
    if (snapshots !== undefined && snapshots > 0) throw refuse(`they need ${needed}`);
    return undefined;
  }
  if (snapshots !== undefined) return { most: snapshots, share: 1 };
  return { most: SNAPSHOTS_PER_ROW * maxRows, share: SNAPSHOT_SHARE };
}

/**
 * The longest prompt that is launched as one graph. Longer ones keep a GPU busy for longer than it
 * takes to launch them, on one GPU after another where there are several.
 */
function capturedPromptsOf({ kind, ranks }: DeviceInfo): number {
  // Launching is a call there, and what pads a graph would be computed.
  if (kind === 'cpu') return 0;
  return ranks === 1 ? 256 : 1024;
}

/** Throws EngineError where nothing is generated that could be drafted. */
function speculationOf(options: EngineOptions): NgramOptions | null {
  const { speculation, task = 'generate' } = options;
  if (speculation === undefined) return null;
  if (task === 'generate') return speculation;
  const message = `--speculative-config: --task ${task} generates no tokens; leave it out`;
  throw new EngineError('bad-model', message, 'speculative_config');
}

function linesOf(
  { info }: Device,
  spec: ModelSpec,
  shape: RunnerShape,
  { weightBytes, window }: MemoryBudget,
): readonly string[] {
  const elementBytes = bytesPerElement(info.element);
  const { kvFormat, pageTokens } = shape;
  const wholeBytes = pageBytes(spec, shape, elementBytes);
  const ofPools = poolPageBytes(spec, shape, elementBytes);
  const lines = describeModelSpec(spec, {
    weightBytes,
    kvBytesPerToken: (window === null ? wholeBytes : ofPools.context) / pageTokens,
    window: window && { tokens: window.tokens, kvBytesPerToken: ofPools.window / pageTokens },
    kvFormat,
    stateBytesPerRow: stateBytesPerRow(spec, elementBytes),
  });
  if (shape.hasOnePool && windowTokensOf(spec) > 0) {
    const what = 'all layers are in the same pages';
    return [...lines, `${what}: those that see a window keep the KV of whole contexts`];
  }
  if (spec.deltaNet === null) return lines;
  return [...lines, prefixLine(shape, stateBytesPerRow(spec, elementBytes))];
}

/** What is found again of a model that keeps a state of its last token alone. */
function prefixLine({ snapshots }: RunnerShape, stateBytes: number): string {
  const why = 'this model keeps a state of its last token alone';
  if (snapshots === 0) return `prefix caching is off: ${why}, and there are no snapshots of it`;
  const mebibytes = (stateBytes / 2 ** 20).toFixed(1);
  const kept = `${snapshots} snapshots of ${mebibytes} MiB`;
  return `prefixes are found again where a snapshot was taken: ${why}; there is room for ${kept}`;
}

async function load(
  options: EngineOptions,
  { folder, seal }: OpenedModel,
  { spec, traffic }: Pick<PreparedModel, 'spec' | 'traffic'>,
): Promise<LoadedWeights> {
  const { device, onProgress, loading: strategy, readers, expertParallel } = options;
  const common = { spec, device, traffic, readers, strategy, onProgress, expertParallel };
  if (options.dummy) return loadWeights({ ...common, source: 'dummy' });
  const source = await openCheckpoint(folder, seal);
  try {
    return await loadWeights({ ...common, source });
  } finally {
    await source.close();
  }
}

/** The weights of the model that runs, once more; of no other that is in its folder now. */
async function reload(options: EngineOptions, model: PreparedModel): Promise<LoadedWeights> {
  const source = await openModel(options.model, model.seal);
  const quiet = { ...options, readers: undefined, onProgress: undefined };
  return load(quiet, source, model);
}

/** Of what KV consists, and what of it each tier has room for. */
function kvPlaces({ parts, tiers }: PreparedModel): readonly KvPartPlaces[] {
  const { spec, shape, element } = parts;
  const { host, disk } = tiers?.mover.slots ?? { host: {}, disk: {} };
  return kvPartsOf(spec, shape, bytesPerElement(element)).map(({ part, bytes, places }) => {
    return { part, bytes, places: [places, host[part] ?? 0, disk[part] ?? 0] };
  });
}

function describe(options: EngineOptions, model: PreparedModel): EngineCard {
  const { spec, shape, memory, loaded } = model;
  const { device } = options;
  const { kind, name, element, details } = device.info;
  return {
    modelPath: options.model,
    sealRoot: model.sealRoot,
    architecture: spec.architecture,
    task: shape.task,
    hiddenSize: spec.hiddenSize,
    vocabularySize: spec.vocabularySize,
    maxModelTokens: shape.maxModelTokens,
    maxRows: shape.maxRows,
    maxWaiting: options.maxWaiting,
    grammarBytes: shape.grammarBytes,
    device: { kind, name, element, ...details },
    policy: options.policy,
    law: model.traffic.lawName,
    kvPages: shape.kvPages,
    pageTokens: shape.pageTokens,
    memory,
    kvParts: kvPlaces(model),
    notes: [
      ...loadNotes(loaded).map((note) => `checkpoint: ${note}`),
      ...gpuNotes(loaded),
      ...device.notes,
    ],
    weightBytes: loaded.bytes,
    loadSeconds: loaded.seconds,
    prepareSeconds: model.prepareSeconds,
  };
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Distinct 64-bit seeds, the same sequence for the same `seed`. */
export function seedSource(seed: number): () => bigint {
  const low = seed | 0;
  const high = Math.floor(seed / 0x100000000);
  let draws = 0;
  return () => {
    draws += 2;
    return (
      (BigInt(hash32(low, high, draws) >>> 0) << 32n) | BigInt(hash32(low, high, draws + 1) >>> 0)
    );
  };
}
