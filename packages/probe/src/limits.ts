/** How long and how large a probe may become: decided before anything is measured. Pure. */

const KIB = 1024;
const MIB = 1024 * KIB;

/** How often one thing is measured. */
export interface Repeats {
  /** Measured first and thrown away: caches, page tables and clocks settle. */
  readonly warmups: number;
  readonly most: number;
  /** Once this much time has passed there are no more, but three in any case. */
  readonly budgetNs: number;
}

export interface ProbeLimits {
  /** Ascending. */
  readonly sizes: readonly number[];
  /** The largest copy; no buffer of the probe is larger than that, apart from `localBytes`. */
  readonly largestBytes: number;
  /** Read, and as much written, by one copy on the device. */
  readonly localBytes: number;
  readonly matmulWidth: number;
  /** The largest collective, on each GPU. */
  readonly collectiveBytes: number;
  /** Contexts to try at most, the launching thread's included. */
  readonly contexts: number;
  /** For one number. */
  readonly repeats: Repeats;
  /** For one number that takes longer: a context, an allocation. */
  readonly fewRepeats: Repeats;
  /** Whether a law is imposed on the device's crossings. */
  readonly hasLaw: boolean;
  /** Work that a copy is issued behind. */
  readonly queuedNs: number;
  /** Measurements that are not needed for the law are left out past this. */
  readonly deadlineNs: number;
}

export interface LimitingFacts {
  readonly quick: boolean;
  readonly deviceMemoryBytes: number;
  readonly hostFreeBytes: number;
  readonly hasLaw: boolean;
  /** Whether the device computes in this process, far slower than a GPU. */
  readonly isCpu: boolean;
}

/** The documented limit is 18 (NVIDIA R550 release notes): one more than that is tried. */
const CONTEXTS_MAX = 19;
/** No buffer takes a larger part of free memory than this; fewer than four are alive at a time. */
const MEMORY_SHARE = 1 / 16;

export function limitsOf(facts: LimitingFacts): ProbeLimits {
  const { quick, deviceMemoryBytes, hostFreeBytes, hasLaw, isCpu } = facts;
  const onDevice = MEMORY_SHARE * deviceMemoryBytes;
  const crossing = quick || isCpu ? 64 * MIB : 256 * MIB;
  const sizes = sizesUpTo(Math.min(crossing, onDevice, MEMORY_SHARE * hostFreeBytes));
  const largestBytes = sizes.at(-1)!;
  const local = quick ? 256 * MIB : 1024 * MIB;
  return {
    sizes,
    largestBytes,
    localBytes: Math.min(isCpu ? 16 * MIB : local, onDevice),
    collectiveBytes: largestCollective(isCpu ? 8 * MIB : 64 * MIB, onDevice / COLLECTIVE_BUFFERS),
    matmulWidth: isCpu ? 256 : quick ? 4096 : 8192,
    contexts: quick ? 4 : CONTEXTS_MAX,
    repeats: { warmups: 2, most: quick ? 15 : 40, budgetNs: quick ? 60e6 : 250e6 },
    fewRepeats: { warmups: 1, most: quick ? 3 : 5, budgetNs: quick ? 200e6 : 1e9 },
    hasLaw,
    queuedNs: 2e6,
    deadlineNs: quick ? 30e9 : 90e9,
  };
}

/** What is gathered from eight GPUs, and what each has of it. */
const COLLECTIVE_BUFFERS = 9;

/** A power of two, and so whole lines. */
function largestCollective(wantedBytes: number, mostBytes: number): number {
  let bytes = wantedBytes;
  while (bytes > mostBytes && bytes > MIB) bytes /= 2;
  return bytes;
}

/** 64 bytes and every fourth power from there: where the law bends is not known beforehand. */
function sizesUpTo(largestBytes: number): number[] {
  const sizes = [64];
  while (sizes.at(-1)! * 4 <= Math.max(largestBytes, MIB)) sizes.push(sizes.at(-1)! * 4);
  return sizes;
}
