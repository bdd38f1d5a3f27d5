import { TIER_POLICY_NAMES } from '@bridgekeeper/engine';
import type { LoadingStrategy } from '@bridgekeeper/engine/loader';
import type { Settings } from '@bridgekeeper/server';
import type { Judge } from '../world/judge.ts';
import { Random } from '../world/random.ts';

export type ServerSettings = Partial<Settings>;

export const POLICIES = ['overlap', 'drain-first', 'drain-worker', 'resident'] as const;
const LAWS = ['emulate:b300-cc', 'emulate:h100-cc', 'emulate:h100-native'] as const;

/** Of keys, as clients have them. */
export const KEYS = ['key-a', 'key-b', 'key-c'] as const;
export const OPERATOR_KEY = 'key-of-operator';
/** With which a gateway names its own tenants to servers. */
export const GATEWAY_KEY = 'key-of-gateway';

/** How servers are set up is a part of the seed. */
export function drawSettings(random: Random, pageBytes: number): ServerSettings {
  const hasTiers = random.chance(0.4);
  const isTight = random.chance(0.5);
  return {
    apiKey: [...KEYS],
    operatorKey: [OPERATOR_KEY],
    gatewayKey: [GATEWAY_KEY],
    policy: random.of(POLICIES),
    // The more a crossing costs, the more memory pages move through: most of the time not so much.
    law: hasTiers && random.chance(0.85) ? 'emulate:h100-native' : random.of(LAWS),
    kvCacheMemoryBytes: pageBytes * random.between(40, isTight || hasTiers ? 60 : 400),
    maxNumSeqs: random.between(1, 12),
    maxNumBatchedTokens: random.of([64, 128, 512]),
    grammarPoolBytes: 2 ** 16,
    enablePrefixCaching: hasTiers || random.chance(0.8),
    ...(random.chance(0.3) ? { maxRunningPerKey: random.between(1, 3) } : {}),
    ...(random.chance(0.3) ? { maxWaitingRequests: random.between(2, 10) } : {}),
    ...(hasTiers
      ? {
          kvOffloadingSize: 0.0005 * random.between(1, 2),
          kvTierPolicy: random.of(TIER_POLICY_NAMES),
        }
      : {}),
    ...(hasTiers && random.chance(0.5) ? { kvDiskSize: 0.001 } : {}),
    watchdogTimeout: 30,
    shutdownTimeout: 5,
    stallTimeout: random.of([5, 60]),
  };
}

/** What the machines of a seed are like. */
export interface Machine {
  /** The device computes so many times slower than its profile says. */
  readonly slowness: number;
  /** Each of its kernels takes at least so many times as long. */
  readonly kernelSlowness: number;
  /** What a socket takes before its writer has to wait. */
  readonly socketBytes: number;
  /** How servers bring their weights, which are sealed; null: they have dummies. */
  readonly loading: LoadingStrategy | null;
}

/** Small, so that a model of 110 KB is brought in several. */
export const CHUNK_BYTES = 8192;
const LOADED_SHARE = 0.25;

function drawLoading(random: Random): LoadingStrategy {
  return {
    crossedBy: 'lanes',
    contexts: random.below(3),
    chunkBytes: CHUNK_BYTES * random.of([1, 1, 2, 4]),
    memory: random.of(['pinned', 'pageable']),
    readers: random.below(4),
    direct: random.chance(0.3),
  };
}

/**
 * Of fast devices, requests seldom meet each other, and nothing is sooner brought than computed;
 * with large buffers nobody waits for who reads slowly.
 */
export function drawMachine(seed: number, isFleet: boolean): Machine {
  const random = new Random(seed, 'machine');
  const ofLoads = new Random(seed, 'loading');
  return {
    slowness: random.of([1, 1e4, 1e6]),
    // What happens to a fleet happens in seconds: answers last as long, and some for longer than
    // gateways take to say that a replica which drains has them.
    kernelSlowness: random.of(isFleet ? [1, 300, 3000, 30_000] : [1, 1, 30]),
    socketBytes: random.of([1024, 4096, 16_384]),
    loading: !isFleet && ofLoads.chance(LOADED_SHARE) ? drawLoading(ofLoads) : null,
  };
}

/** The same with what an operator may change while clients go on: limits stay as they were. */
export function redrawn(random: Random, settings: ServerSettings): ServerSettings {
  return {
    ...settings,
    policy: random.of(POLICIES),
    maxNumBatchedTokens: random.of([64, 128, 512]),
    ...(settings.kvTierPolicy === undefined ? {} : { kvTierPolicy: random.of(TIER_POLICY_NAMES) }),
  };
}

/** Writes down which of the product's ways a seed takes. */
export function noteSettings(judge: Judge, settings: ServerSettings, machine: Machine): void {
  judge.note(`settings ${JSON.stringify(settings)}`);
  judge.note(`machine ${JSON.stringify(machine)}`);
  judge.reached(`policy: ${settings.policy}`);
  judge.reached(`law: ${settings.law}`);
  const { loading } = machine;
  judge.reached(`weights: ${loading === null ? 'dummy' : `${loading.readers} readers`}`);
  if (settings.kvTierPolicy !== undefined) {
    judge.reached(`tier policy: ${settings.kvTierPolicy}`);
  }
  const hasHost = settings.kvOffloadingSize !== undefined;
  judge.reached(
    `tiers: ${hasHost ? (settings.kvDiskSize === undefined ? 'host' : 'disk') : 'none'}`,
  );
}
