import type { HostMemoryKind, Profile } from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';

const MIB = 1024 ** 2;

/** How a checkpoint is brought to the device. Plain data, kept with the machine's profile. */
export interface LoadingStrategy {
  /** lanes: whole chunks, as the bridge's scheduler says; readers: each thread what it has read. */
  readonly crossedBy: 'lanes' | 'readers';
  /** Contexts of their own that lanes have; 0: the launching thread crosses, in its own. */
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
  /** That profile's law is imposed: threads may not go round the lanes. */
  readonly isImposed: boolean;
  /** Of the machine; GPUs that are loaded side by side share them. */
  readonly cores: number;
  readonly gpus: number;
}

/**
 * Of the staging: one crosses, one is in the lane's queue, two are being read. More takes longer to
 * pin where a law is imposed, and falls out of the processor's caches before it has crossed.
 */
export const STAGED_CHUNKS = 4;
export const CHUNK_BYTES_MAX = 64 * MIB;
const CHUNK_BYTES_MIN = 16 * MIB;
/** Where the launching thread stands still for crossings, nothing else is done meanwhile. */
const BLOCKING_CHUNK_BYTES = 32 * MIB;
/** Of a crossing's time. */
const TOLL_SHARE = 0.01;
/** A gain below this is noise. */
const GAIN = 1.05;
const READERS_MAX = 16;

/** What the bridge's profile says is best. */
export function deriveStrategy(facts: LoadingFacts): LoadingStrategy {
  const { deviceKind, profile, isImposed, gpus } = facts;
  const cores = Math.floor(facts.cores / gpus);
  const readers = deviceKind === 'cuda' ? Math.max(2, Math.min(READERS_MAX, cores - 1)) : 0;
  const base = { crossedBy: 'lanes', contexts: 0, readers, direct: false } as const;
  const free = { memory: 'pinned', chunkBytes: CHUNK_BYTES_MIN } as const;
  if (deviceKind !== 'cuda') return { ...base, ...free };
  if (!isImposed && (profile === null || isFree(profile, 'pinned'))) {
    return { ...base, ...free, crossedBy: 'readers' };
  }
  if (profile === null) return { ...base, ...free };
  const memory = memoryOf(profile);
  if (isFree(profile, memory)) return { ...base, memory, chunkBytes: CHUNK_BYTES_MIN };
  const contexts = contextsOf(profile);
  // Each of several has less staging, which would be few chunks, and no launching thread's lane.
  if (gpus > 1) return { ...base, contexts, memory, chunkBytes: CHUNK_BYTES_MIN };
  const isBlocking = contexts === 0 && profile.crossings.h2d[memory].issuer.blockedUntil === 'done';
  const leastBytes = isBlocking ? BLOCKING_CHUNK_BYTES : CHUNK_BYTES_MIN;
  const chunkBytes = Math.max(leastBytes, chunkBytesOf(profile, memory));
  return { ...base, contexts, memory, chunkBytes };
}

/** Copies are asynchronous and do not stand in each other's way: nothing has to be scheduled. */
function isFree(profile: Profile, memory: HostMemoryKind): boolean {
  const { issuer } = profile.crossings.h2d[memory];
  return issuer.blockedUntil === 'issued' && !profile.contextSerialises;
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

function chunkBytesOf(profile: Profile, memory: HostMemoryKind): number {
  const tollSeconds = profile.crossings.h2d[memory].idleTollNs / 1e9;
  const wanted = (lastRate(profile, memory) * tollSeconds) / TOLL_SHARE;
  let bytes = CHUNK_BYTES_MIN;
  while (bytes < wanted && bytes < CHUNK_BYTES_MAX) bytes *= 2;
  return bytes;
}

const byLanes = { crossedBy: 'lanes' } as const;
/** What is varied at a machine's first load, one thing at a time. null: not with this strategy. */
const VARIATIONS: readonly ((strategy: LoadingStrategy) => LoadingStrategy | null)[] = [
  (strategy) => ({ ...strategy, direct: !strategy.direct }),
  (strategy) =>
    strategy.crossedBy === 'readers'
      ? { ...strategy, ...byLanes }
      : { ...strategy, contexts: 0, memory: 'pinned', crossedBy: 'readers' },
  (strategy) =>
    strategy.crossedBy === 'readers'
      ? null
      : { ...strategy, memory: strategy.memory === 'pinned' ? 'pageable' : 'pinned' },
  (strategy) => (strategy.contexts <= 1 ? null : { ...strategy, contexts: 0 }),
  (strategy) => ({ ...strategy, ...byLanes, contexts: Math.max(2, strategy.contexts * 2) }),
  ({ chunkBytes, ...strategy }) => {
    const half = chunkBytes / 2;
    return half < CHUNK_BYTES_LEAST ? null : { ...strategy, chunkBytes: half };
  },
  ({ chunkBytes, ...strategy }) => {
    const double = chunkBytes * 2;
    return double > CHUNK_BYTES_MAX ? null : { ...strategy, chunkBytes: double };
  },
];
const CHUNK_BYTES_LEAST = 4 * MIB;
const RACE_GAIN = 1.03;

export interface RaceLimits {
  /** That lanes may have of their own. */
  readonly contextsMax: number;
  /** No law is imposed. */
  readonly readersMayCross: boolean;
}

/** Deals out strategies to be tried, and remembers the one by which a load would end first. */
export class LoadingRace {
  readonly #totalBytes: number;
  readonly #limits: RaceLimits;
  #best: LoadingStrategy;
  #bestSeconds = Number.POSITIVE_INFINITY;
  #next = 0;

  constructor(base: LoadingStrategy, totalBytes: number, limits: RaceLimits) {
    this.#best = base;
    this.#totalBytes = totalBytes;
    this.#limits = limits;
  }

  get best(): LoadingStrategy {
    return this.#best;
  }

  /** The next strategy to try: first the one that was derived; null when all were tried. */
  next(): LoadingStrategy | null {
    if (this.#bestSeconds === Number.POSITIVE_INFINITY) return this.#best;
    while (this.#next < VARIATIONS.length) {
      const strategy = VARIATIONS[this.#next++]!(this.#best);
      if (strategy !== null && this.#isAllowed(strategy)) return strategy;
    }
    return null;
  }

  #isAllowed({ contexts, crossedBy }: LoadingStrategy): boolean {
    const { contextsMax, readersMayCross } = this.#limits;
    return contexts <= contextsMax && (crossedBy === 'lanes' || readersMayCross);
  }

  /** What the strategy dealt last took to make ready, and reached in bytes a second. */
  tried(strategy: LoadingStrategy, readySeconds: number, bytesPerSecond: number): void {
    const seconds = readySeconds + this.#totalBytes / bytesPerSecond;
    if (seconds * RACE_GAIN >= this.#bestSeconds) return;
    this.#best = strategy;
    this.#bestSeconds = seconds;
  }
}
