import type { HostMemoryKind, Profile } from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';

const MIB = 1024 ** 2;

/** How a checkpoint is brought to the device. Plain data, kept with the machine's profile. */
export interface LoadingPlan {
  /** Contexts of their own that cross; 0: the launching thread does, in its own. */
  readonly contexts: number;
  readonly chunkBytes: number;
  readonly memory: HostMemoryKind;
  /** Threads that read; 0: the launching thread does. */
  readonly readers: number;
  /** Past the page cache. */
  readonly direct: boolean;
}

export interface LoadingFacts {
  readonly deviceKind: DeviceKind;
  /** Of the bridge that is there or imposed; null: there is none. */
  readonly profile: Profile | null;
  readonly cores: number;
}

export const STAGING_BYTES = 256 * MIB;
export const CHUNK_BYTES_MAX = 64 * MIB;
const CHUNK_BYTES_MIN = 16 * MIB;
/** Of a crossing's time. */
const TOLL_SHARE = 0.01;
/** A gain below this is noise. */
const GAIN = 1.05;
const READERS_MAX = 16;

/** What the bridge's profile says is best. */
export function planLoading({ deviceKind, profile, cores }: LoadingFacts): LoadingPlan {
  if (deviceKind !== 'cuda') {
    const inThread = { contexts: 0, readers: 0, memory: 'pinned', direct: false } as const;
    return { ...inThread, chunkBytes: CHUNK_BYTES_MIN };
  }
  const readers = Math.max(2, Math.min(READERS_MAX, cores - 1));
  const base = { readers, direct: false };
  if (profile === null) {
    return { ...base, contexts: 0, memory: 'pinned', chunkBytes: CHUNK_BYTES_MIN };
  }
  const memory = memoryOf(profile);
  const { issuer } = profile.crossings.h2d[memory];
  const isFree = issuer.blockedUntil === 'issued' && !profile.contextSerialises;
  const contexts = isFree ? 0 : contextsOf(profile);
  return { ...base, contexts, memory, chunkBytes: chunkBytesOf(profile, memory, isFree) };
}

function lastRate(profile: Profile, memory: HostMemoryKind): number {
  return profile.crossings.h2d[memory].bandwidth.at(-1)!.bytesPerSecond;
}

function memoryOf(profile: Profile): HostMemoryKind {
  const gain = lastRate(profile, 'pageable') / lastRate(profile, 'pinned');
  return gain >= GAIN ? 'pageable' : 'pinned';
}

/**
 * More than the launching one only where they carry more together: creating one takes a second
 * under CC. Nothing is computed yet, so the launching thread may stand still for its crossings.
 */
function contextsOf({ contexts }: Profile): number {
  const points = contexts.aggregateRate;
  const best = Math.max(...points.map(({ factor }) => factor));
  const enough = points.find(({ factor }) => factor * GAIN >= best)!.contexts;
  return enough === 1 ? 0 : Math.min(enough, Math.max(1, contexts.max - 1));
}

/** Where copies queue behind each other, the next one's toll passes during the one before. */
function chunkBytesOf(profile: Profile, memory: HostMemoryKind, isFree: boolean): number {
  if (isFree) return CHUNK_BYTES_MIN;
  const tollSeconds = profile.crossings.h2d[memory].idleTollNs / 1e9;
  const wanted = (lastRate(profile, memory) * tollSeconds) / TOLL_SHARE;
  let bytes = CHUNK_BYTES_MIN;
  while (bytes < wanted && bytes < CHUNK_BYTES_MAX) bytes *= 2;
  return bytes;
}

/** What is varied at a machine's first load, one thing at a time. */
const VARIATIONS: readonly ((plan: LoadingPlan) => LoadingPlan | null)[] = [
  (plan) => ({ ...plan, direct: !plan.direct }),
  (plan) => ({ ...plan, memory: plan.memory === 'pinned' ? 'pageable' : 'pinned' }),
  (plan) => (plan.contexts <= 1 ? null : { ...plan, contexts: 0 }),
  ({ contexts, ...plan }) => ({ ...plan, contexts: Math.max(2, contexts * 2) }),
  ({ chunkBytes, ...plan }) => {
    const half = chunkBytes / 2;
    return half < CHUNK_BYTES_LEAST ? null : { ...plan, chunkBytes: half };
  },
  ({ chunkBytes, ...plan }) => {
    const double = chunkBytes * 2;
    return double > CHUNK_BYTES_MAX ? null : { ...plan, chunkBytes: double };
  },
];
const CHUNK_BYTES_LEAST = 4 * MIB;
const RACE_GAIN = 1.03;

/** Deals out plans to be tried, and remembers the one by which a load would end first. */
export class LoadingRace {
  readonly #totalBytes: number;
  readonly #contextsMax: number;
  #best: LoadingPlan;
  #bestSeconds = Number.POSITIVE_INFINITY;
  #next = 0;

  constructor(base: LoadingPlan, totalBytes: number, contextsMax: number) {
    this.#best = base;
    this.#totalBytes = totalBytes;
    this.#contextsMax = contextsMax;
  }

  get best(): LoadingPlan {
    return this.#best;
  }

  /** The next plan to try: first the one that was derived; null when all were tried. */
  next(): LoadingPlan | null {
    if (this.#bestSeconds === Number.POSITIVE_INFINITY) return this.#best;
    while (this.#next < VARIATIONS.length) {
      const plan = VARIATIONS[this.#next++]!(this.#best);
      if (plan !== null && plan.contexts <= this.#contextsMax) return plan;
    }
    return null;
  }

  /** What the plan dealt last took to make ready, and reached in bytes a second. */
  tried(plan: LoadingPlan, readySeconds: number, bytesPerSecond: number): void {
    const seconds = readySeconds + this.#totalBytes / bytesPerSecond;
    if (seconds * RACE_GAIN >= this.#bestSeconds) return;
    this.#best = plan;
    this.#bestSeconds = seconds;
  }
}
