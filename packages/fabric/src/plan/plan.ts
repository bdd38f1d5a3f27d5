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

/** What it is worth to keep a larger partition free, in seconds of a cold start: our choice. */
const SECONDS_PER_PARTITION_LOST = 60;

/**
 * Where a tenancy goes: the host and partition with the least cost. Equal costs go to what comes
 * first, so that the same offers have the same plan.
 */
export function plan(request: PlacementRequest, offers: readonly HostOffer[]): Plan {
  const shapes = new Map<readonly PartitionDefinition[], readonly Shape[]>();
  let best: Placed | null = null;
  let nearest: Miss | null = null;
  for (const offer of offers) {
    let fitting = shapes.get(offer.table);
    if (fitting === undefined) {
      fitting = shapesOf(offer.table, request.gpus);
      shapes.set(offer.table, fitting);
    }
    const result = missOf(request, offer) ?? cheapest(request, offer, fitting);
    if ('cause' in result) {
      if (result.step > (nearest?.step ?? -1)) nearest = result;
    } else if (result.cost < (best?.cost ?? Number.POSITIVE_INFINITY)) {
      best = result;
    }
  }
  const considered = offers.length;
  if (best !== null) return { fits: true, placement: best.placement, considered };
  if (nearest === null) return { fits: false, nearest, considered };
  const { host, cause } = nearest;
  return { fits: false, nearest: { host, cause }, considered };
}

interface Placed {
  readonly placement: Placement;
  readonly cost: number;
}

/** A host that does not fit, and after how many questions that was clear: the more, the nearer. */
interface Miss extends NearestMiss {
  readonly step: number;
}

/** Why a host does not fit whatever is free on it; null: it may. */
function missOf(
  { platform, driverVersion, grades }: PlacementRequest,
  offer: HostOffer,
): Miss | null {
  const miss = (step: number, cause: string): Miss => ({ host: offer.host, step, cause });
  if (platform !== null && offer.platform !== platform) {
    return miss(0, `needs ${platform}, the host is ${offer.platform}`);
  }
  if (!grades.includes(offer.grade)) {
    const needed = grades.join(' or ');
    return miss(1, `needs a fabric vouched for by ${needed}, the host's is ${offer.grade}`);
  }
  const driver = driverVersion ?? offer.driverVersion;
  if (driver !== offer.driverVersion) {
    return miss(2, `needs driver ${driver}, the host has ${offer.driverVersion ?? 'none'}`);
  }
  if (driver !== offer.fmVersion) {
    const has = offer.fmVersion ?? 'none that answers';
    return miss(3, `needs Fabric Manager ${driver}, the host has ${has}`);
  }
  return offer.isFrozen ? miss(4, 'the host is frozen until Fabric Manager serves') : null;
}

/** The cheapest free partition of one host. */
function cheapest(
  { gpus, tokens }: PlacementRequest,
  offer: HostOffer,
  fitting: readonly Shape[],
): Placed | Miss {
  const { host } = offer;
  if (fitting.length === 0) {
    return { host, step: 5, cause: `no partition of its table has ${gpus} GPUs` };
  }
  const taken = bitsOf(offer.claimed) | bitsOf(offer.quarantined);
  let best: Shape | null = null;
  let partitionsLost = Number.POSITIVE_INFINITY;
  for (const shape of fitting) {
    if ((shape.bits & taken) !== 0) continue;
    const lost = shape.larger.filter((bits) => (bits & taken) === 0).length;
    if (lost >= partitionsLost) continue;
    best = shape;
    partitionsLost = lost;
  }
  if (best === null) {
    const cause = `every partition of ${gpus} GPUs has a claimed or quarantined module`;
    return { host, step: 6, cause };
  }
  const { id: partition, modules } = best.definition;
  const seconds = {
    coldStart: offer.coldStartSeconds,
    bridge: offer.bridgeSecondsPerToken * tokens,
  };
  return {
    placement: { host, partition, modules, seconds, partitionsLost },
    cost: seconds.coldStart + seconds.bridge + partitionsLost * SECONDS_PER_PARTITION_LOST,
  };
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
