import type { ModelSpec } from '../models/spec.ts';
import { EngineError, type MemoryBudget } from '../request/request.ts';
import { align } from './layer-sizes.ts';
import {
  type BufferName,
  bufferBytes,
  pageBytes,
  pagesPerRow,
  type RunnerShape,
  stateBytesPerRow,
} from './shapes.ts';

export interface MemoryRequest {
  readonly spec: ModelSpec;
  readonly shape: Omit<RunnerShape, 'kvPages' | 'snapshots'>;
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
  const { kv: _, ...sizes } = bufferBytes(
    spec,
    { ...shape, kvPages: 0, snapshots: 0 },
    elementBytes,
  );
  for (const [name, bytes] of Object.entries(sizes)) {
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
  const perPage = pageBytes(spec, shape, elementBytes);
  const leftBytes = deviceBytes * utilization - usedBytes;
  const snapshots = snapshotsIn(request, Math.min(leftBytes, request.kvBytes ?? Infinity));
  const snapshotBytes = snapshots * stateBytesPerRow(spec, elementBytes);
  const pagesIn = (bytes: number) => Math.floor((bytes - snapshotBytes) / perPage);
  const limits = {
    memory: pagesIn(leftBytes),
    request: request.kvBytes === undefined ? Infinity : pagesIn(request.kvBytes),
    rows: request.kvBytes === undefined ? shape.maxRows * pagesPerRow(shape) : Infinity,
  };
  const kvPages = Math.min(limits.memory, limits.request, limits.rows);
  const kvLimit = (['rows', 'request', 'memory'] as const).find((by) => limits[by] === kvPages)!;
  const budget: MemoryBudget = {
    deviceBytes,
    utilization,
    weightBytes,
    ...fixed,
    kvFormat: shape.kvFormat,
    kvBytes: kvPages * perPage,
    kvPages,
    kvTokens: Math.max(0, kvPages) * shape.pageTokens,
    snapshots,
    snapshotBytes,
    kvLimit,
    maxModelTokens: shape.maxModelTokens,
    concurrency: kvPages / pagesPerRow(shape),
  };
  if (budget.concurrency >= 1) return budget;
  const neededBytes = pagesPerRow(shape) * perPage;
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

/** The budget in two lines, for the log. */
export function describeMemory(budget: MemoryBudget): readonly [kv: string, memory: string] {
  const tokens = budget.kvTokens.toLocaleString('en-US');
  const length = budget.maxModelTokens.toLocaleString('en-US');
  const format = budget.kvFormat === 'element' ? '' : ` in ${budget.kvFormat}`;
  const { snapshots, snapshotBytes } = budget;
  const states = snapshots === 0 ? '' : `, ${snapshots} snapshots ${size(snapshotBytes)}`;
  const allowed = `${size(budget.deviceBytes * budget.utilization)} of ${size(budget.deviceBytes)}`;
  return [
    `KV cache size: ${tokens} tokens${format}, ${WHY[budget.kvLimit]}; maximum concurrency for ` +
      `${length} tokens per request: ${budget.concurrency.toFixed(2)}x`,
    `device memory, ${allowed} allowed: weights ${size(budget.weightBytes)}, KV ` +
      `${size(budget.kvBytes)}${states}, activations ${size(budget.activationBytes)}, workspace ` +
      `${size(budget.workspaceBytes)}, state of rows ${size(budget.stateBytes)}`,
  ];
}

function size(bytes: number): string {
  const isSmall = Math.abs(bytes) < 2 ** 30;
  return isSmall ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
