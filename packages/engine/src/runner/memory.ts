import type { StorageFormat } from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';
import { EngineError } from '../request.ts';
import {
  align,
  type BufferName,
  bufferBytes,
  pageBytes,
  pagesPerRow,
  type RunnerShape,
} from './shapes.ts';

export interface MemoryRequest {
  readonly spec: ModelSpec;
  readonly shape: Omit<RunnerShape, 'kvPages'>;
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
}

/** Where the device's memory goes, and how many KV tokens that leaves room for. Plain data. */
export interface MemoryPlan {
  readonly deviceBytes: number;
  readonly utilization: number;
  readonly weightBytes: number;
  /** Hidden states between operations, and logits. */
  readonly activationBytes: number;
  /** What operations keep within themselves. */
  readonly workspaceBytes: number;
  /** Rows, batches, commands and results. */
  readonly stateBytes: number;
  readonly kvFormat: StorageFormat;
  readonly kvBytes: number;
  readonly kvPages: number;
  readonly kvTokens: number;
  /** Why there are no more pages: memory ends, this much was asked for, or rows use no more. */
  readonly kvLimit: 'memory' | 'request' | 'rows';
  readonly maxModelTokens: number;
  /** Sequences of `maxModelTokens` that fit at once. */
  readonly concurrency: number;
}

type Use = 'activationBytes' | 'workspaceBytes' | 'stateBytes';

const USES: Readonly<Partial<Record<BufferName, Use>>> = {
  residual: 'activationBytes',
  qkv: 'activationBytes',
  attended: 'activationBytes',
  activated: 'activationBytes',
  selected: 'activationBytes',
  logits: 'activationBytes',
  workspace: 'workspaceBytes',
};

/** Everything but weights and KV, by use. */
function fixedBytes({ spec, shape, elementBytes }: MemoryRequest): Record<Use, number> {
  const uses = { activationBytes: 0, workspaceBytes: 0, stateBytes: 0 };
  const { kv: _, ...sizes } = bufferBytes(spec, { ...shape, kvPages: 0 }, elementBytes);
  for (const [name, bytes] of Object.entries(sizes)) {
    uses[USES[name as BufferName] ?? 'stateBytes'] += align(bytes);
  }
  return uses;
}

/**
 * Says how many KV pages fit beside weights and activations. Throws EngineError `out-of-memory`,
 * with the numbers and what to change, when not even one sequence of full length would fit.
 */
export function planMemory(request: MemoryRequest): MemoryPlan {
  const { spec, shape, elementBytes, deviceBytes, utilization, weightBytes } = request;
  const fixed = fixedBytes(request);
  const { activationBytes, workspaceBytes, stateBytes } = fixed;
  const usedBytes = weightBytes + activationBytes + workspaceBytes + stateBytes;
  const perPage = pageBytes(spec, shape, elementBytes);
  const limits = {
    memory: Math.floor((deviceBytes * utilization - usedBytes) / perPage),
    request: request.kvBytes === undefined ? Infinity : Math.floor(request.kvBytes / perPage),
    rows: request.kvBytes === undefined ? shape.maxRows * pagesPerRow(shape) : Infinity,
  };
  const kvPages = Math.min(limits.memory, limits.request, limits.rows);
  const kvLimit = (['rows', 'request', 'memory'] as const).find((by) => limits[by] === kvPages)!;
  const plan: MemoryPlan = {
    ...{ deviceBytes, utilization, weightBytes, ...fixed },
    kvFormat: shape.kvFormat,
    kvBytes: kvPages * perPage,
    kvPages,
    kvTokens: Math.max(0, kvPages) * shape.pageTokens,
    kvLimit,
    maxModelTokens: shape.maxModelTokens,
    concurrency: kvPages / pagesPerRow(shape),
  };
  if (plan.concurrency >= 1) return plan;
  const neededBytes = pagesPerRow(shape) * perPage;
  throw new EngineError('out-of-memory', refusal(plan, neededBytes), 'max_model_len');
}

function refusal(plan: MemoryPlan, neededBytes: number): string {
  const { deviceBytes, utilization } = plan;
  return (
    `KV cache too small: ${plan.kvTokens} tokens fit, but one sequence of max-model-len ` +
    `${plan.maxModelTokens} needs ${size(neededBytes)}. Of ${size(deviceBytes)} device memory, ` +
    `utilization ${utilization} allows ${size(deviceBytes * utilization)}; weights take ` +
    `${size(plan.weightBytes)}, activations ${size(plan.activationBytes)}, workspace ` +
    `${size(plan.workspaceBytes)}, state of rows ${size(plan.stateBytes)}. Lower ` +
    '--max-model-len, --max-num-seqs or --max-num-batched-tokens, raise ' +
    '--gpu-memory-utilization or --kv-cache-memory-bytes, or use --kv-cache-dtype fp8.'
  );
}

const WHY = {
  memory: 'all memory that is left',
  request: 'as asked for',
  rows: 'all that --max-num-seqs rows can use',
} as const;

/** The plan in two lines, for the log. */
export function describeMemory(plan: MemoryPlan): readonly [kv: string, memory: string] {
  const tokens = plan.kvTokens.toLocaleString('en-US');
  const length = plan.maxModelTokens.toLocaleString('en-US');
  const format = plan.kvFormat === 'element' ? '' : ` in ${plan.kvFormat}`;
  const allowed = `${size(plan.deviceBytes * plan.utilization)} of ${size(plan.deviceBytes)}`;
  return [
    `KV cache size: ${tokens} tokens${format}, ${WHY[plan.kvLimit]}; maximum concurrency for ` +
      `${length} tokens per request: ${plan.concurrency.toFixed(2)}x`,
    `device memory, ${allowed} allowed: weights ${size(plan.weightBytes)}, KV ` +
      `${size(plan.kvBytes)}, activations ${size(plan.activationBytes)}, workspace ` +
      `${size(plan.workspaceBytes)}, state of rows ${size(plan.stateBytes)}`,
  ];
}

function size(bytes: number): string {
  const isSmall = Math.abs(bytes) < 2 ** 30;
  return isSmall ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
