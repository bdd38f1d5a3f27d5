import { overlaps, type PartitionDefinition } from '../fm/table.ts';
import type { Grade } from '../log/entries.ts';

/** A host as it is placed on; what an agent reports of it. */
export interface HostOffer {
  readonly host: string;
  readonly platform: string;
  readonly fmVersion: string | null;
  readonly driverVersion: string | null;
  /** Shared by hosts of one table: partitions are looked up once for each. */
  readonly table: readonly PartitionDefinition[];
  readonly claimed: readonly number[];
  readonly quarantined: readonly number[];
  /** Fabric Manager is being restarted, or the table changed. */
  readonly isFrozen: boolean;
  /** Who vouches for its fabric. */
  readonly grade: Grade;
  /** From nothing to serving, in seconds: reset, boot, attestation, weights. */
  readonly coldStartSeconds: number;
  /** What crossings add to a token of the model that is placed, in seconds. */
  readonly bridgeSecondsPerToken: number;
}

export interface PlacementRequest {
  readonly gpus: number;
  /** Null: any. */
  readonly platform: string | null;
  readonly driverVersion: string | null;
  readonly grades: readonly Grade[];
  /** How many tokens it is expected to serve: what a slower bridge costs over them. */
  readonly tokens: number;
}

export interface Placement {
  readonly host: string;
  readonly partition: number;
  readonly modules: readonly number[];
  readonly seconds: { readonly coldStart: number; readonly bridge: number };
  /** Larger partitions that could be had before and no longer can. */
  readonly partitionsLost: number;
}

/** Why nothing fits: what the host that came nearest lacks. */
export interface NearestMiss {
  readonly host: string;
  readonly cause: string;
}

export type Plan =
  | { readonly fits: true; readonly placement: Placement; readonly considered: number }
  | { readonly fits: false; readonly nearest: NearestMiss | null; readonly considered: number };

/**
 * Where a tenancy goes: the host and partition with the least cost. A host is asked in one order,
 * and each step further is a nearer miss; equal costs go to the host that comes first, so that the
 * same offers have the same plan.
 */
export function plan(request: PlacementRequest, offers: readonly HostOffer[]): Plan {
  const shapes = new Map<readonly PartitionDefinition[], readonly Shape[]>();
  let best: Placement | null = null;
  let bestCost = Number.POSITIVE_INFINITY;
  let nearest: NearestMiss | null = null;
  let nearness = -1;
  for (const offer of offers) {
    const miss = missOf(request, offer);
    if (miss !== null) {
      if (miss.step > nearness) {
        nearness = miss.step;
        nearest = { host: offer.host, cause: miss.cause };
      }
      continue;
    }
    let fitting = shapes.get(offer.table);
    if (fitting === undefined) {
      fitting = shapesOf(offer.table, request.gpus);
      shapes.set(offer.table, fitting);
    }
    const taken = bitsOf(offer.claimed) | bitsOf(offer.quarantined);
    const coldStart = offer.coldStartSeconds;
    const bridge = offer.bridgeSecondsPerToken * request.tokens;
    let hasRoom = false;
    for (const { definition, bits, larger } of fitting) {
      if ((bits & taken) !== 0) continue;
      hasRoom = true;
      let partitionsLost = 0;
      for (const other of larger) if ((other & taken) === 0) partitionsLost += 1;
      const cost = coldStart + bridge + partitionsLost * SECONDS_PER_PARTITION_LOST;
      if (cost >= bestCost) continue;
      bestCost = cost;
      best = {
        host: offer.host,
        partition: definition.id,
        modules: definition.modules,
        seconds: { coldStart, bridge },
        partitionsLost,
      };
    }
    if (!hasRoom && nearness < ROOM) {
      const cause =
        fitting.length === 0
          ? `no partition of its table has ${request.gpus} GPUs`
          : `every partition of ${request.gpus} GPUs has a claimed or quarantined module`;
      nearness = fitting.length === 0 ? SHAPE : ROOM;
      nearest = { host: offer.host, cause };
    }
  }
  const considered = offers.length;
  if (best === null) return { fits: false, nearest, considered };
  return { fits: true, placement: best, considered };
}

/** What it is worth to keep a larger partition free, in seconds of a cold start: our choice. */
const SECONDS_PER_PARTITION_LOST = 60;

/** How far a host came before it did not fit. */
const SHAPE = 5;
const ROOM = 6;

function missOf(
  { platform, driverVersion, grades }: PlacementRequest,
  offer: HostOffer,
): { readonly step: number; readonly cause: string } | null {
  if (platform !== null && offer.platform !== platform) {
    return { step: 0, cause: `needs ${platform}, the host is ${offer.platform}` };
  }
  if (!grades.includes(offer.grade)) {
    const needed = grades.join(' or ');
    return {
      step: 1,
      cause: `needs a fabric vouched for by ${needed}, the host's is ${offer.grade}`,
    };
  }
  const driver = driverVersion ?? offer.driverVersion;
  if (driver !== offer.driverVersion) {
    const has = offer.driverVersion ?? 'none';
    return { step: 2, cause: `needs driver ${driver}, the host has ${has}` };
  }
  if (driver !== offer.fmVersion) {
    const has = offer.fmVersion ?? 'none that answers';
    return { step: 3, cause: `needs Fabric Manager ${driver}, the host has ${has}` };
  }
  return offer.isFrozen
    ? { step: 4, cause: 'the host is frozen until Fabric Manager serves' }
    : null;
}

interface Shape {
  readonly definition: PartitionDefinition;
  readonly bits: number;
  /** Of the larger partitions that it would break. */
  readonly larger: readonly number[];
}

function shapesOf(table: readonly PartitionDefinition[], gpus: number): readonly Shape[] {
  return table
    .filter(({ modules }) => modules.length === gpus)
    .map((definition) => ({
      definition,
      bits: bitsOf(definition.modules),
      larger: table
        .filter(({ modules }) => modules.length > gpus && overlaps(modules, definition.modules))
        .map(({ modules }) => bitsOf(modules)),
    }));
}

function bitsOf(modules: readonly number[]): number {
  let bits = 0;
  for (const module of modules) bits |= 1 << (module - 1);
  return bits;
}
