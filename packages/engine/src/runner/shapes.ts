import {
  bytesPerElement,
  COMMAND_HEADER_WORDS,
  CONTROL_WORDS,
  type Device,
  type DeviceBuffer,
  GRAMMAR_ROW_WORDS,
  LOGPROB_WORDS,
  MAX_BIAS,
  maskWords,
  RECORD_WORDS,
  ROW_WORDS,
  resultSlotWords,
  type StorageFormat,
} from '@bridgekeeper/device';
import type { KvPart } from '../kv/tiers/movement.ts';
import { type WindowSizes, windowPagesOfLaunch, windowPagesOfRow } from '../kv/window-pool.ts';
import { isHeadDivided } from '../models/rank-slice.ts';
import { type FeedForward, heldExperts, type ModelSpec, type Rope } from '../models/spec.ts';
import type { EngineTask } from '../request/request.ts';
import { AHEAD_TOKENS, LINE_STEP } from '../scheduler/plan.ts';
import type { NgramOptions } from '../speculation/ngram.ts';
import {
  align,
  attentionWidths,
  deltaNetSizes,
  type KvPool,
  kvElementsOf,
  kvPools,
  latentSizes,
  netLayers,
  windowTokensOf,
} from './layer-sizes.ts';
import { workspaceBytes } from './workspace.ts';

/**
 * The sizes that fix every buffer of the runner. Decided once, at start: nothing is allocated
 * later.
 */
export interface RunnerShape {
  readonly task: EngineTask;
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  /** Prompts of so many tokens at most are launched as one graph; 0: none are. */
  readonly capturedPrompts: number;
  readonly maxModelTokens: number;
  readonly pageTokens: number;
  readonly kvPages: number;
  /** States of rows that are kept, so that their prefixes can be continued. */
  readonly snapshots: number;
  /** Pages of layers that see a window; 0: their KV is in the pages of all others. */
  readonly windowPages: number;
  /** All layers are in the same pages, whatever they see of a context. */
  readonly hasOnePool: boolean;
  readonly kvFormat: StorageFormat;
  /** Devices that each compute a part of every layer; the model's numbers are those of one. */
  readonly ranks: number;
  /** Slots of the result ring: how many sampling steps may be undrained. */
  readonly ringSlots: number;
  /** Room for compiled grammars; 0: rows have none. */
  readonly grammarBytes: number;
  /** What rows may draft; null: nothing. */
  readonly speculation: NgramOptions | null;
  /** Of all tokens' bytes, as grammars step through them. */
  readonly tokenBytes: number;
  /** Where pages lie side by side while they cross to and from what is below the device. */
  readonly kvStaging: { readonly spillBytes: number; readonly restoreBytes: number } | null;
}

export function pagesPerRow(shape: Pick<RunnerShape, 'maxModelTokens' | 'pageTokens'>): number {
  return Math.ceil(shape.maxModelTokens / shape.pageTokens);
}

/** What rows keep beside KV, of constant size: 0 where all layers are attention. */
export function stateBytesPerRow(spec: ModelSpec, elementBytes: number): number {
  const sizes = deltaNetSizes(spec, elementBytes);
  if (sizes === null) return 0;
  return netLayers(spec) * (sizes.convBytes + sizes.ruleBytes);
}

type PageShape = Pick<RunnerShape, 'pageTokens' | 'kvFormat'>;

/** Bytes of one KV page: keys and values of `pageTokens` tokens over all layers that have them. */
export function pageBytes(spec: ModelSpec, shape: PageShape, elementBytes: number): number {
  return kvElementsOf(spec) * elementsBytes(shape, elementBytes);
}

/** The same of each pool, where layers that see a window have one of their own. */
export function poolPageBytes(
  spec: ModelSpec,
  shape: PageShape,
  elementBytes: number,
): Readonly<Record<KvPool, number>> {
  const { context, window } = kvPools(spec, true).elements;
  const bytes = elementsBytes(shape, elementBytes);
  return { context: context * bytes, window: window * bytes };
}

function elementsBytes({ pageTokens, kvFormat }: PageShape, elementBytes: number): number {
  return pageTokens * (kvFormat === 'element' ? elementBytes : 1);
}

/**
 * What a pool for layers that see a window goes by; null: they are in the pages of all others. So
 * it is where no context is longer than the window, and where that is asked for.
 */
export function windowSizesOf(
  spec: ModelSpec,
  shape: Pick<
    RunnerShape,
    'pageTokens' | 'maxModelTokens' | 'maxBatchTokens' | 'speculation' | 'hasOnePool'
  >,
): WindowSizes | null {
  const windowTokens = windowTokensOf(spec);
  const { pageTokens, maxModelTokens, maxBatchTokens: launchTokens, hasOnePool } = shape;
  if (windowTokens === 0 || windowTokens >= maxModelTokens || hasOnePool) return null;
  const drafts = shape.speculation?.drafts ?? 0;
  const aheadTokens = MAX_STEPS * (1 + drafts) + AHEAD_TOKENS;
  return { pageTokens, windowTokens, aheadTokens, launchTokens };
}

/** Counts that one command may upload for rows with penalties, beyond a single row's. */
export function maxCountTokens(shape: Pick<RunnerShape, 'maxModelTokens'>): number {
  return shape.maxModelTokens * 2;
}

/** Tokens of whole prompts that one command may upload for drafts, beyond a single row's. */
export function maxHistoryTokens(
  shape: Pick<RunnerShape, 'maxModelTokens' | 'speculation'>,
): number {
  return shape.speculation === null ? 0 : shape.maxModelTokens * 2;
}

/** Tokens that a row's history holds; 0 where nothing is drafted. */
export function historyTokens(shape: Pick<RunnerShape, 'maxModelTokens' | 'speculation'>): number {
  return shape.speculation === null ? 0 : Math.ceil(shape.maxModelTokens / 4) * 4;
}

/** Lines of a step with drafts, at most: with more, drafts cost more than they bring. */
const MAX_DRAFTED_LINES = 128;

/** Whether steps of so many rows have drafts. */
export function canDraft({ speculation }: Pick<RunnerShape, 'speculation'>, rows: number): boolean {
  return speculation !== null && rows * (1 + speculation.drafts) <= MAX_DRAFTED_LINES;
}

type DraftShape = Pick<RunnerShape, 'maxRows' | 'speculation'>;

/** Lines of logits, and results, that a step may have. */
export function mostLines(shape: DraftShape): number {
  return Math.max(shape.maxRows, draftedLines(shape));
}

/** Lines that a step with drafts may have; 0: none has drafts. */
function draftedLines({ maxRows, speculation }: DraftShape): number {
  if (speculation === null) return 0;
  const perRow = 1 + speculation.drafts;
  return Math.min(maxRows, Math.floor(MAX_DRAFTED_LINES / perRow)) * perRow;
}

/** Of one net's lines of a step with drafts, until it is known which of them were right. */
export function trialBytes(spec: ModelSpec, shape: DraftShape, elementBytes: number) {
  const lines = draftedLines(shape);
  const width = deltaNetSizes(spec, elementBytes)?.width ?? 0;
  return {
    lineBytes: align(lines * width * elementBytes),
    gateBytes: align(lines * 2 * (spec.deltaNet?.valueHeads ?? 0) * elementBytes),
  };
}

/**
 * Records of a command: for each row its state, counts, bias, place in its grammar, history, and
 * pages of each pool at most twice; the batch's own arrays.
 */
export function maxCommandRecords({
  maxRows,
  speculation,
  windowPages,
}: Pick<RunnerShape, 'maxRows' | 'speculation' | 'windowPages'>): number {
  const perRow = 6 + (speculation === null ? 0 : 1) + (windowPages === 0 ? 0 : 2);
  return maxRows * perRow + 16;
}

/** Launches that may be undrained at once: each has staging and drain buffers of its own. */
export const IN_FLIGHT = 4;

/** Decode steps that one launch may hold. */
export const MAX_STEPS = 32;

/** Slots of the result ring: every undrained launch may fill one for its prompts and its steps. */
export const RING_SLOTS = 256;

/** Of windows, a command brings pages that rows have: a table of whole contexts is much longer. */
function windowTableWords(spec: ModelSpec, shape: RunnerShape): number {
  const sizes = shape.windowPages === 0 ? null : windowSizesOf(spec, shape);
  if (sizes === null) return 0;
  return shape.maxRows * windowPagesOfRow(sizes) + windowPagesOfLaunch(sizes);
}

function commandWords(spec: ModelSpec, shape: RunnerShape): number {
  const perRow = ROW_WORDS + GRAMMAR_ROW_WORDS + 1 + 2 * MAX_BIAS + pagesPerRow(shape);
  return (
    windowTableWords(spec, shape) +
    COMMAND_HEADER_WORDS +
    maxCommandRecords(shape) * RECORD_WORDS +
    shape.maxRows * (perRow + 5) +
    shape.maxBatchTokens * 3 +
    maxCountTokens(shape) +
    shape.maxModelTokens +
    (shape.speculation === null ? 0 : maxHistoryTokens(shape) + shape.maxModelTokens)
  );
}

/**
 * What the widest layer's feed-forward needs for a token, in elements and words. What is for
 * experts alone is as small as a buffer may be where there are none.
 */
function feedForwardWidths({ layerKinds, hiddenSize }: ModelSpec) {
  const kinds = [...new Set(layerKinds.map(({ feedForward }) => feedForward))];
  const most = (widthOf: (feedForward: FeedForward) => number) => Math.max(...kinds.map(widthOf));
  const slots = most((each) => (each.kind === 'experts' ? each.expertsPerToken : 1));
  return {
    activated: most((each) =>
      each.kind === 'experts'
        ? Math.max(each.expertsPerToken * each.intermediateSize, each.beside?.intermediateSize ?? 0)
        : each.intermediateSize,
    ),
    normed: most((each) => (each.kind === 'experts' ? hiddenSize : 1)),
    joined: most((each) => (each.kind === 'experts' && each.beside !== null ? hiddenSize : 1)),
    shared: most((each) => (each.kind === 'experts' ? (each.shared?.intermediateSize ?? 1) : 1)),
    slots,
    starts: most((each) => (each.kind === 'experts' ? heldExperts(each) + 1 : 1)),
  };
}

/** A table of angles, and where it is among the others. */
export interface RopeTable {
  /** null: of layers that do not rotate. */
  readonly rope: Rope | null;
  readonly headDim: number;
  readonly offsetBytes: number;
  readonly bytes: number;
}

/** One for each rope, then that of layers that do not rotate; each for heads of its layers. */
export function ropeTables(
  { ropes, layerKinds, latent }: ModelSpec,
  { maxModelTokens }: Pick<RunnerShape, 'maxModelTokens'>,
): readonly RopeTable[] {
  const isStill = layerKinds.some(({ rope }) => rope === null);
  let offsetBytes = 0;
  return (isStill ? [...ropes, null] : ropes).map((rope, index) => {
    const own = rope === null ? null : index;
    const kind = layerKinds.find((each) => each.rope === own) ?? layerKinds[0]!;
    const headDim = latent?.rotaryDim ?? kind.headDim;
    const table = { rope, headDim, offsetBytes, bytes: maxModelTokens * headDim * 4 };
    offsetBytes += align(table.bytes);
    return table;
  });
}

function ropeBytes(spec: ModelSpec, shape: Pick<RunnerShape, 'maxModelTokens'>): number {
  const { offsetBytes, bytes } = ropeTables(spec, shape).at(-1)!;
  return offsetBytes + bytes;
}

/**
 * Every buffer of the runner by name, with its size in bytes: what the memory planner adds up and
 * `allocate` makes.
 */
export function bufferBytes(spec: ModelSpec, shape: RunnerShape, elementBytes: number) {
  const { maxRows, maxBatchTokens, ringSlots } = shape;
  // Prompts and the rows beside them are padded.
  const lines = mostLines(shape);
  const tokens = Math.max(maxBatchTokens, lines) + 2 * LINE_STEP;
  const activation = (width: number) => tokens * width * elementBytes;
  const attention = attentionWidths(spec);
  const perLayerWidth = spec.layers * (spec.perLayer?.width ?? 0);
  const widths = feedForwardWidths(spec);
  const net = deltaNetSizes(spec, elementBytes);
  const nets = netLayers(spec);
  const trials = trialBytes(spec, shape, elementBytes);
  const latent = latentSizes(spec);
  const { windowPages } = shape;
  const perPage =
    windowPages === 0
      ? { context: pageBytes(spec, shape, elementBytes), window: 0 }
      : poolPageBytes(spec, shape, elementBytes);
  return {
    rows: maxRows * ROW_WORDS * 4,
    pageTable: maxRows * pagesPerRow(shape) * 4,
    windowTable: windowPages === 0 ? 16 : maxRows * pagesPerRow(shape) * 4,
    bias: maxRows * MAX_BIAS * 8,
    counts: maxRows * spec.vocabularySize * 4,
    decodeRows: maxRows * 4,
    tokens: tokens * 4,
    tokenRows: tokens * 4,
    positions: tokens * 4,
    select: maxRows * 4,
    selectRows: maxRows * 4,
    promptSelect: maxRows * 4,
    promptTargets: maxRows * 4,
    control: CONTROL_WORDS * 4,
    grammarRows: maxRows * GRAMMAR_ROW_WORDS * 4,
    grammarPool: Math.max(shape.grammarBytes, 4),
    tokenSpans: spec.vocabularySize * 4,
    tokenHeads: spec.vocabularySize * 4,
    tokenBytes: Math.max(shape.tokenBytes, 4),
    history: Math.max(maxRows * historyTokens(shape) * 4, 16),
    masks: lines * maskWords(spec.vocabularySize) * 4,
    command: IN_FLIGHT * align(commandWords(spec, shape) * 4),
    sampled: lines * 4,
    results: ringSlots * resultSlotWords(lines) * 4,
    logprobs: ringSlots * lines * LOGPROB_WORDS * 4,
    promptLogprobs: IN_FLIGHT * align(maxRows * LOGPROB_WORDS * 4),
    embeddings: shape.task === 'embed' ? IN_FLIGHT * align(maxRows * spec.hiddenSize * 4) : 4,
    rope: ropeBytes(spec, shape),
    residual: activation(spec.hiddenSize),
    qkv: activation(Math.max(attention.qkv, net?.width ?? 0, latent?.projected ?? 0)),
    attended: activation(Math.max(attention.queries, net?.valueWidth ?? 0, latent?.attended ?? 0)),
    queryLatents: Math.max(activation(latent?.queryRank ?? 0), 4),
    latents: Math.max(activation(latent?.line ?? 0), 4),
    latentQueries: Math.max(activation(latent?.queries ?? 0), 4),
    latentValues: Math.max(activation(latent?.values ?? 0), 4),
    // What only some families need is as small as a buffer may be in the others.
    branch: spec.norms.after || spec.residualScale !== 1 ? activation(spec.hiddenSize) : 4,
    perLayerInputs: Math.max(activation(perLayerWidth), 4),
    perLayerBranch: Math.max(activation(perLayerWidth), 4),
    perLayerGated: Math.max(activation(spec.perLayer?.width ?? 0), 4),
    attentionGate: spec.attentionGate ? activation(attention.queries) : 4,
    mixed: net === null ? 4 : activation(net.channels),
    netGates: net === null ? 4 : activation(2 * spec.deltaNet!.valueHeads),
    trialLines: Math.max(nets * trials.lineBytes, 4),
    trialGates: Math.max(nets * trials.gateBytes, 4),
    convStates: net === null ? 4 : maxRows * nets * net.convBytes,
    ruleStates: net === null ? 4 : maxRows * nets * net.ruleBytes,
    snapshots: Math.max(shape.snapshots * stateBytesPerRow(spec, elementBytes), 4),
    sharedActivated: activation(widths.shared),
    joined: activation(widths.joined),
    activated: activation(widths.activated),
    normed: activation(widths.normed),
    chosen: tokens * widths.slots * 4,
    expertWeights: tokens * widths.slots * 4,
    expertOrder: tokens * widths.slots * 4,
    expertStarts: widths.starts * 4,
    workspace: workspaceBytes(spec, tokens, lines, elementBytes),
    // What ranks add up or put together; as small as a buffer may be where there is one.
    partial: shape.ranks > 1 ? activation(spec.hiddenSize) : 16,
    logitsPart: isHeadDivided(spec, shape.ranks)
      ? (lines * spec.vocabularySize * 4) / shape.ranks
      : 16,
    selected: maxRows * spec.hiddenSize * elementBytes,
    logits: lines * spec.vocabularySize * 4,
    kvSpills: shape.kvStaging?.spillBytes ?? 16,
    kvRestores: shape.kvStaging?.restoreBytes ?? 16,
    kv: shape.kvPages * perPage.context,
    kvWindow: windowPages === 0 ? 16 : windowPages * perPage.window,
  } as const;
}

export type BufferName = keyof ReturnType<typeof bufferBytes>;

/** A part of KV that the device has: equal places in a buffer. */
export interface KvPartShape {
  readonly part: KvPart;
  readonly buffer: BufferName;
  /** Of a place. */
  readonly bytes: number;
  readonly places: number;
}

/** Those of the model; the first is `context`. */
export function kvPartsOf(
  spec: ModelSpec,
  shape: RunnerShape,
  elementBytes: number,
): readonly KvPartShape[] {
  const { kvPages, windowPages, snapshots } = shape;
  const whole = pageBytes(spec, shape, elementBytes);
  const ofPools = poolPageBytes(spec, shape, elementBytes);
  const bytes = windowPages === 0 ? whole : ofPools.context;
  const parts: KvPartShape[] = [{ part: 'context', buffer: 'kv', bytes, places: kvPages }];
  if (windowPages > 0) {
    const { window } = ofPools;
    parts.push({ part: 'window', buffer: 'kvWindow', bytes: window, places: windowPages });
  }
  if (snapshots > 0) {
    const state = stateBytesPerRow(spec, elementBytes);
    parts.push({ part: 'state', buffer: 'snapshots', bytes: state, places: snapshots });
  }
  return parts;
}
export type RunnerBuffers = Readonly<Record<BufferName, DeviceBuffer>>;

export function allocateBuffers(
  device: Device,
  spec: ModelSpec,
  shape: RunnerShape,
): RunnerBuffers {
  const sizes = bufferBytes(spec, shape, bytesPerElement(device.info.element));
  const entries = Object.entries(sizes).map(([name, bytes]) => [
    name,
    device.allocate(bytes, name),
  ]);
  return Object.fromEntries(entries) as RunnerBuffers;
}
