import { createRequire } from 'node:module';
import type { ReferenceProfileName, Roofline } from '@bridgekeeper/bridge';
import type { ReachedPoint } from '@bridgekeeper/device';
import { PlanError } from '../errors.ts';
import { nearestNames, plain } from '../nearest.ts';

/** One number of a GPU, and who says so. */
export interface Figure {
  readonly value: number;
  readonly basis: 'measured' | 'documented' | 'inferred';
  readonly source: string;
}

/** A GPU as plans need it: data/gpus.json. Rates are for dense products and one GPU. */
export interface Gpu {
  readonly name: string;
  readonly title: string;
  readonly aliases: readonly string[];
  readonly memoryBytes: Figure;
  /** Of its own memory, by datasheet. */
  readonly memoryBytesPerSecond: Figure;
  /** The same, as a copy reaches it: read plus written. */
  readonly reachedBytesPerSecond: Figure;
  readonly bf16FlopsPerSecond: Figure;
  readonly reachedBf16FlopsPerSecond: Figure;
  readonly fp8FlopsPerSecond: Figure;
  /** The least time of one kernel inside a graph. */
  readonly kernelNs: Figure;
  /** To the device from the host, one way, without confidential computing. */
  readonly hostBytesPerSecond: Figure;
  /** To another GPU, one way; null: it has no links of its own. */
  readonly fabricBytesPerSecond: Figure | null;
  readonly watts: Figure;
  readonly reservedBytesUnderCc: Figure;
  readonly confidential: {
    readonly modes: string;
    readonly source: string;
    /** Its published bridge, or that of its nearest relative. */
    readonly law: ReferenceProfileName;
  };
  /** What measured steps take of the roofline's time, by their lines; absent: as long. */
  readonly reached?: { readonly points: readonly ReachedPoint[]; readonly source: string };
  /** The same of our own engine's kernels, for models with experts and others. */
  readonly reachedByOwn?: {
    readonly dense: readonly ReachedPoint[];
    readonly experts: readonly ReachedPoint[];
    readonly source: string;
  };
}

const require = createRequire(import.meta.url);
let known: readonly Gpu[] | undefined;

export function knownGpus(): readonly Gpu[] {
  known ??= (require('../../data/gpus.json') as { gpus: readonly Gpu[] }).gpus;
  return known;
}

/**
 * The GPU of that name in any spelling (`H200`, `NVIDIA B300`). Throws PlanError `unknown-gpu` with
 * the nearest names.
 */
export function knownGpu(name: string): Gpu {
  const wanted = plain(name).replace(/^nvidia/, '');
  const found = knownGpus().find((gpu) => [gpu.name, ...gpu.aliases].map(plain).includes(wanted));
  if (found !== undefined) return found;
  const names = knownGpus().map((gpu) => gpu.name);
  const near = nearestNames(wanted, names)[0];
  const message = `--gpu ${name}: is not known; nearest: ${near}. Known: ${names.join(', ')}`;
  throw new PlanError('unknown-gpu', message);
}

/** By lines of a step; empty where nothing was measured. */
export const reachedOf = (gpu: Gpu): readonly ReachedPoint[] => gpu.reached?.points ?? [];

/** Where our own kernels were measured. */
const OWN_MEASURED_ON = 'h200';

/**
 * The same for our own engine. Kernels of experts are thought to reach on any GPU what they reach
 * of an H200, and no more than the roofline.
 */
export function reachedByOwn(gpu: Gpu, hasExperts: boolean): readonly ReachedPoint[] {
  const own = gpu.reachedByOwn;
  if (own !== undefined) return hasExperts ? own.experts : own.dense;
  if (!hasExperts) return reachedOf(gpu);
  const { experts } = knownGpu(OWN_MEASURED_ON).reachedByOwn!;
  return experts.map(({ lines, factor }) => ({ lines, factor: Math.max(1, factor) }));
}

/** What kernels reach on it, in the law's terms. */
export function rooflineOf(gpu: Gpu): Roofline {
  const reachedPart = gpu.reachedBf16FlopsPerSecond.value / gpu.bf16FlopsPerSecond.value;
  return {
    memoryBytes: gpu.memoryBytes.value,
    copyBytesPerSecond: gpu.reachedBytesPerSecond.value,
    bf16FlopsPerSecond: gpu.reachedBf16FlopsPerSecond.value,
    fp8FlopsPerSecond: gpu.fp8FlopsPerSecond.value * reachedPart,
    kernelNs: gpu.kernelNs.value,
  };
}
