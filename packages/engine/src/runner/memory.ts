import type { ModelSpec } from '../models/spec.ts';
import { EngineError } from '../request.ts';
import { bufferBytes, pageBytes, pagesPerRow, type RunnerShape } from './shapes.ts';

export interface MemoryRequest {
  readonly spec: ModelSpec;
  readonly shape: Omit<RunnerShape, 'kvPages'>;
  readonly elementBytes: number;
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

export interface MemoryPlan {
  readonly kvPages: number;
  readonly kvBytes: number;
  readonly fixedBytes: number;
  readonly weightBytes: number;
}

/**
 * Says how many KV pages fit beside weights and activations. Throws EngineError `out-of-memory`,
 * with the numbers and what to change, when not even one sequence of full length would fit.
 */
export function planMemory(request: MemoryRequest): MemoryPlan {
  const { spec, shape, elementBytes, weightBytes } = request;
  const perPage = pageBytes(spec, shape.pageTokens, elementBytes);
  const sizes = Object.values(bufferBytes(spec, { ...shape, kvPages: 0 }, elementBytes));
  const fixedBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
  const leftBytes = request.deviceBytes * request.utilization - weightBytes - fixedBytes;
  const fitting = Math.floor(Math.min(leftBytes, request.kvBytes ?? Infinity) / perPage);
  const useful = shape.maxRows * pagesPerRow(shape);
  const kvPages = request.kvBytes === undefined ? Math.min(fitting, useful) : fitting;
  if (kvPages < pagesPerRow(shape)) {
    const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
    const fittingTokens = Math.max(0, kvPages) * shape.pageTokens;
    throw new EngineError(
      'out-of-memory',
      `KV cache too small: ${fittingTokens} tokens fit, but one sequence of max-model-len ` +
        `${shape.maxModelTokens} needs ${gib(pagesPerRow(shape) * perPage)}. Of ` +
        `${gib(request.deviceBytes)} device memory, utilization ${request.utilization} allows ` +
        `${gib(request.deviceBytes * request.utilization)}; weights take ${gib(weightBytes)}, ` +
        `activations and state ${gib(fixedBytes)}. Lower --max-model-len, --max-num-seqs or ` +
        `--max-num-batched-tokens, or raise --gpu-memory-utilization or --kv-cache-memory-bytes.`,
      'max_model_len',
    );
  }
  return { kvPages, kvBytes: kvPages * perPage, fixedBytes, weightBytes };
}
