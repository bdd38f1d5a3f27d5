import { type WindowSizes, windowPagesOfLaunch, windowPagesOfRow } from '../kv/window-pool.ts';
import type { ModelSpec } from '../models/spec.ts';
import { EngineError, type MemoryBudget } from '../request/request.ts';
import { align, type KvPool } from './layer-sizes.ts';
import {
  type BufferName,
  bufferBytes,
  pageBytes,
  pagesPerRow,
  poolPageBytes,
  type RunnerShape,
  stateBytesPerRow,
  windowSizesOf,
} from './shapes.ts';

export interface MemoryRequest {
  readonly spec: ModelSpec;
  readonly shape: Omit<RunnerShape, 'kvPages' | 'windowPages' | 'snapshots'>;
  readonly elementBytes: number;
  /** What buffers may take; what the device keeps for itself is not part of it. */
  readonly deviceBytes: number;
  /** The part of the device's memory that may be used, 0 to 1. */
  readonly utilization: number;
  readonly weightBytes: number;
  /**
   * KV memory by wish; undefined takes what is left, but no more than all rows at full context
   * could use.
   */
  readonly kvBytes: number | undefined;
  /** States of rows to keep, and the share of the memory for KV, at most; absent: none. */
  readonly snapshots?: { readonly most: number; readonly share: number } | undefined;
}

type Use = 'activationBytes' | 'workspaceBytes' | 'stateBytes';

const USES: Readonly<Partial<Record<BufferName, Use>>> = {
  residual: 'activationBytes',
  qkv: 'activationBytes',
  attended: 'activationBytes',
  queryLatents: 'activationBytes',
  latents: 'activationBytes',
  latentQueries: 'activationBytes',
  latentValues: 'activationBytes',
  branch: 'activationBytes',
  perLayerInputs: 'activationBytes',
  perLayerBranch: 'activationBytes',
  perLayerGated: 'activationBytes',
  attentionGate: 'activationBytes',
  mixed: 'activationBytes',
  netGates: 'activationBytes',
  sharedActivated: 'activationBytes',
  joined: 'activationBytes',
  activated: 'activationBytes',
  normed: 'activationBytes',
  chosen: 'activationBytes',
  expertWeights: 'activationBytes',
  expertOrder: 'activationBytes',
  expertStarts: 'activationBytes',
  partial: 'activationBytes',
  logitsPart: 'activationBytes',
  selected: 'activationBytes',
  logits: 'activationBytes',
  workspace: 'workspaceBytes',
};

/** Everything but weights and KV, by use. */
function fixedBytes({ spec, shape, elementBytes }: MemoryRequest): Record<Use, number> {
  const uses = { activationBytes: 0, workspaceBytes: 0, stateBytes: 0 };
  // With the tables of a pool for windows, if there may be one.
  const windowPages = windowSizesOf(spec, shape) === null ? 0 : 1;
  const pools = { kvPages: 0, windowPages, snapshots: 0 };
  const sizes = bufferBytes(spec, { ...shape, ...pools }, elementBytes);
  for (const [name, bytes] of Object.entries(sizes)) {
    if (name === 'kv' || (name === 'kvWindow' && windowPages > 0)) continue;
    uses[USES[name as BufferName] ?? 'stateBytes'] += align(bytes);
  }
  return uses;
}

/**
 * Says how many KV pages fit beside weights and activations. Throws EngineError `out-of-memory`,
 * with the numbers and what to change, when not even one sequence of full length would fit.
 */
export function budgetMemory(request: MemoryRequest): MemoryBudget {
  const { spec, shape, elementBytes, deviceBytes, utilization, weightBytes } = request;
  const fixed = fixedBytes(request);
  const { activationBytes, workspaceBytes, stateBytes } = fixed;
  const usedBytes = weightBytes + activationBytes + workspaceBytes + stateBytes;
  const pools = new PagePools(request);
  const leftBytes = deviceBytes * utilization - usedBytes;
  const asked = request.kvBytes ?? Infinity;
  const snapshots = snapshotsIn(request, Math.min(leftBytes, asked));
  const snapshotBytes = snapshots * stateBytesPerRow(spec, elementBytes);
  const wantedBytes = asked - snapshotBytes;
  const fitting = pools.within(Math.min(leftBytes - snapshotBytes, wantedBytes));
  const usable = pools.usual(shape.maxRows * pagesPerRow(shape));
  const isRows = request.kvBytes === undefined && usable.context <= fitting.context;
  const counts = isRows ? usable : fitting;
  const isRequest = pools.within(wantedBytes).context === counts.context;
  const kvPages = counts.context;
  const budget: MemoryBudget = {
    deviceBytes,
    utilization,
    weightBytes,
    ...fixed,
    kvFormat: shape.kvFormat,
    kvBytes: pools.bytesOf(counts),
    kvPages,
    window: pools.windowOf(counts),
    kvTokens: Math.max(0, kvPages) * shape.pageTokens,
    snapshots,
    snapshotBytes,
    kvLimit: isRows ? 'rows' : isRequest ? 'request' : 'memory',
    maxModelTokens: shape.maxModelTokens,
    concurrency: kvPages / pagesPerRow(shape),
  };
  if (budget.concurrency >= 1) return budget;
  const neededBytes = pools.bytesOf(pools.least(pagesPerRow(shape)));
  throw new EngineError('out-of-memory', refusal(budget, neededBytes), 'max_model_len');
}

/** Snapshots in so much memory for KV, of which one sequence of full length needs its part. */
function snapshotsIn({ spec, shape, elementBytes, snapshots }: MemoryRequest, kvBytes: number) {
  const perState = stateBytesPerRow(spec, elementBytes);
  if (snapshots === undefined || perState === 0) return 0;
  const neededBytes = pagesPerRow(shape) * pageBytes(spec, shape, elementBytes);
  const bytes = Math.min(kvBytes * snapshots.share, kvBytes - neededBytes);
  return Math.max(0, Math.min(snapshots.most, Math.floor(bytes / perState)));
}

/** Contexts of so many tokens, and of so many windows, have a window each. */
const CONTEXT_TOKENS = 1024;
const CONTEXT_WINDOWS = 4;

/** Tokens of a context of middling length, by which memory is divided here and below the device. */
export function usualContextTokens(windowTokens: number, maxModelTokens: number): number {
  return Math.min(Math.max(CONTEXT_TOKENS, CONTEXT_WINDOWS * windowTokens), maxModelTokens);
}

/** Pages of contexts and of windows; no windows: all layers are in those of contexts. */
type PageCounts = Readonly<Record<KvPool, number>>;

/** How memory is divided between pages of contexts and pages of windows. */
class PagePools {
  readonly #shape: MemoryRequest['shape'];
  readonly #sizes: WindowSizes | null;
  /** Of a page of all layers; of one of each pool. */
  readonly #wholeBytes: number;
  readonly #bytes: PageCounts;

  constructor({ spec, shape, elementBytes }: MemoryRequest) {
    this.#shape = shape;
    this.#sizes = windowSizesOf(spec, shape);
    this.#wholeBytes = pageBytes(spec, shape, elementBytes);
    this.#bytes = poolPageBytes(spec, shape, elementBytes);
  }

  bytesOf({ context, window }: PageCounts): number {
    if (window === 0) return context * this.#wholeBytes;
    return context * this.#bytes.context + window * this.#bytes.window;
  }

  windowOf({ window: pages }: PageCounts): MemoryBudget['window'] {
    if (pages === 0) return null;
    return { tokens: this.#sizes!.windowTokens, pages, bytes: pages * this.#bytes.window };
  }

  /**
   * Beside so many pages of contexts, windows for rows, and for what is cached of others, as if all
   * were of middling length: shorter ones wait for a window before they wait for a page, and longer
   * ones leave some to the cache. Windows that take as many pages as contexts have no pool.
   */
  usual(context: number): PageCounts {
    if (this.#sizes === null) return { context, window: 0 };
    const { pageTokens, windowTokens } = this.#sizes;
    const contextTokens = usualContextTokens(windowTokens, this.#shape.maxModelTokens);
    const contexts = Math.ceil((context * pageTokens) / contextTokens);
    const window = windowPagesOfLaunch(this.#sizes) + contexts * windowPagesOfRow(this.#sizes);
    return { context, window: window < context ? window : 0 };
  }

  /** The same with a window for one sequence alone. */
  least(context: number): PageCounts {
    if (this.#sizes === null) return { context, window: 0 };
    const window = windowPagesOfLaunch(this.#sizes) + windowPagesOfRow(this.#sizes);
    return { context, window: window < context ? window : 0 };
  }

  /** The most that fits: a sequence of full length, if any; less than 0: none by far. */
  within(bytes: number): PageCounts {
    const whole = Math.floor(bytes / this.#wholeBytes);
    if (this.#sizes === null || whole <= 0 || bytes === Infinity) return this.usual(whole);
    let [fits, exceeds] = [whole, Math.floor(bytes / this.#bytes.context) + 1];
    while (exceeds - fits > 1) {
      const middle = Math.floor((fits + exceeds) / 2);
      if (this.bytesOf(this.usual(middle)) <= bytes) fits = middle;
      else exceeds = middle;
    }
    const sequence = this.least(pagesPerRow(this.#shape));
    if (fits >= sequence.context || this.bytesOf(sequence) > bytes) return this.usual(fits);
    const window = Math.floor(
      (bytes - sequence.context * this.#bytes.context) / this.#bytes.window,
    );
    return { context: sequence.context, window };
  }
}

function refusal(budget: MemoryBudget, neededBytes: number): string {
  const { deviceBytes, utilization } = budget;
  return (
    `KV cache too small: ${budget.kvTokens} tokens fit, but one sequence of max-model-len ` +
    `${budget.maxModelTokens} needs ${size(neededBytes)}. Of ${size(deviceBytes)} device memory, ` +
    `utilization ${utilization} allows ${size(deviceBytes * utilization)}; weights take ` +
    `${size(budget.weightBytes)}, activations ${size(budget.activationBytes)}, workspace ` +
    `${size(budget.workspaceBytes)}, state of rows ${size(budget.stateBytes)}. Lower ` +
    '--max-model-len, --max-num-seqs or --max-num-batched-tokens, raise ' +
    '--gpu-memory-utilization or --kv-cache-memory-bytes, or use --kv-cache-dtype fp8.'
  );
}

const WHY = {
  memory: 'all memory that is left',
  request: 'as asked for',
  rows: 'all that --max-num-seqs rows can use',
} as const;

/** The budget in two lines, for the log. It is that of each of so many GPUs. */
export function describeMemory(
  budget: MemoryBudget,
  gpus = 1,
): readonly [kv: string, memory: string] {
  const tokens = budget.kvTokens.toLocaleString('en-US');
  const windows = windowWords(budget);
  const length = budget.maxModelTokens.toLocaleString('en-US');
  const format = budget.kvFormat === 'element' ? '' : ` in ${budget.kvFormat}`;
  const { snapshots, snapshotBytes } = budget;
  const states = snapshots === 0 ? '' : `, ${snapshots} snapshots ${size(snapshotBytes)}`;
  const of = gpus > 1 ? ` of each of ${gpus} GPUs` : '';
  const allowed = `${size(budget.deviceBytes * budget.utilization)} of ${size(budget.deviceBytes)}`;
  return [
    `KV cache size: ${tokens} tokens${format}${windows}, ${WHY[budget.kvLimit]}; maximum ` +
      `concurrency for ${length} tokens per request: ${budget.concurrency.toFixed(2)}x`,
    `device memory${of}, ${allowed} allowed: weights ${size(budget.weightBytes)}, KV ` +
      `${size(budget.kvBytes)}${states}, activations ${size(budget.activationBytes)}, workspace ` +
      `${size(budget.workspaceBytes)}, state of rows ${size(budget.stateBytes)}`,
  ];
}

function windowWords({ window, kvPages, kvTokens }: MemoryBudget): string {
  if (window === null) return '';
  const tokens = (window.pages * (kvTokens / kvPages)).toLocaleString('en-US');
  return `, and ${tokens} in layers that see ${window.tokens}`;
}

function size(bytes: number): string {
  const isSmall = Math.abs(bytes) < 2 ** 30;
  return isSmall ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
