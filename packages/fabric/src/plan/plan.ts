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
  /** Since a guest there last showed evidence that held; null: none has since its boot. */
  readonly evidenceAgeSeconds: number | null;
}

export interface PlacementRequest {
  readonly gpus: number;
  /** Null: any. */
  readonly platform: string | null;
  readonly driverVersion: string | null;
  readonly grades: readonly Grade[];
  /** How many tokens it is expected to serve: what a slower bridge costs over them. */
  readonly tokens: number;
  /** Only where evidence held so lately; null: anywhere. */
  readonly evidenceMaxAgeSeconds: number | null;
}

export interface Placement {
  readonly host: string;
  readonly partition: number;
  readonly modules: readonly number[];
  readonly seconds: {
    readonly coldStart: number;
    readonly bridge: number;
    /** That a start is expected to take longer, for what the host has not shown lately. */
    readonly doubt: number;
  };
  /** Larger partitions that could be had before and no longer can. */
  readonly partitionsLost: number;
}

/** Why nothing fits: what the host that came nearest lacks. */
export interface NearestMiss {
  readonly host: string;
  readonly cause: string;
  /** What would lift it. */
  readonly lift: string;
}

export type Plan =
  | { readonly fits: true; readonly placement: Placement; readonly considered: number }
  | { readonly fits: false; readonly nearest: NearestMiss | null; readonly considered: number };

/** What it is worth to keep a larger partition free, in seconds of a cold start: our choice. */
const SECONDS_PER_PARTITION_LOST = 60;
/**
 * What it costs where no guest has shown evidence since the boot, in seconds of a cold start: it
 * may be refused, and another host be tried. Less where it was shown lately. Our choice.
 */
const DOUBT_SECONDS = 30;
const DOUBT_AGE_SECONDS = 86_400;

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
  const { host, cause, lift } = nearest;
  return { fits: false, nearest: { host, cause, lift }, considered };
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
  { platform, driverVersion, grades, evidenceMaxAgeSeconds }: PlacementRequest,
  offer: HostOffer,
): Miss | null {
  const { host } = offer;
  const miss = (step: number, cause: string, lift: string) => ({ host, step, cause, lift });
  if (platform !== null && offer.platform !== platform) {
    const cause = `needs ${platform}, the host is ${offer.platform}`;
    return miss(0, cause, `let a host join that is ${platform}, or ask for another`);
  }
  if (!grades.includes(offer.grade)) {
    const needed = grades.join(' or ');
    const cause = `needs a fabric vouched for by ${needed}, the host's is ${offer.grade}`;
    return miss(1, cause, `have its fabric vouched for by ${needed}, or take ${offer.grade}`);
  }
  const driver = driverVersion ?? offer.driverVersion;
  if (driver !== offer.driverVersion) {
    const has = offer.driverVersion ?? 'none';
    const cause = `needs driver ${driver}, the host has ${has}`;
    return miss(2, cause, `install driver ${driver} there, or take ${has}`);
  }
  if (driver !== offer.fmVersion) {
    const has = offer.fmVersion ?? 'none that answers';
    const cause = `needs Fabric Manager ${driver}, the host has ${has}`;
    return miss(3, cause, `run Fabric Manager ${driver} there`);
  }
  if (offer.isFrozen) {
    const cause = 'the host is frozen until Fabric Manager serves';
    return miss(4, cause, 'wait for that, or see its fabric agent');
  }
  const age = offer.evidenceAgeSeconds;
  if (evidenceMaxAgeSeconds === null || (age !== null && age <= evidenceMaxAgeSeconds)) return null;
  const has = age === null ? 'none since its boot' : `one of ${Math.round(age)} s ago`;
  const cause = `needs evidence of at most ${evidenceMaxAgeSeconds} s ago, the host has ${has}`;
  return miss(5, cause, 'have a guest attested there that asks for less, or ask for less');
}

/** The cheapest free partition of one host. */
function cheapest(
  { gpus, tokens }: PlacementRequest,
  offer: HostOffer,
  fitting: readonly Shape[],
): Placed | Miss {
  const { host } = offer;
  if (fitting.length === 0) {
    const cause = `no partition of its table has ${gpus} GPUs`;
    const lift = 'change its partition table, or ask for another number of GPUs';
    return { host, step: 6, cause, lift };
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
    return { host, step: 7, cause, lift: liftOf(offer, fitting) };
  }
  const { id: partition, modules } = best.definition;
  const seconds = {
    coldStart: offer.coldStartSeconds,
    bridge: offer.bridgeSecondsPerToken * tokens,
    doubt: doubtOf(offer),
  };
  return {
    placement: { host, partition, modules, seconds, partitionsLost },
    cost:
      seconds.coldStart +
      seconds.bridge +
      seconds.doubt +
      partitionsLost * SECONDS_PER_PARTITION_LOST,
  };
}

function doubtOf({ evidenceAgeSeconds: age }: HostOffer): number {
  return DOUBT_SECONDS * (age === null ? 1 : Math.min(1, age / DOUBT_AGE_SECONDS));
}

/** What is in the way of the partition that has the fewest modules taken; of equals the first. */
function liftOf({ claimed, quarantined }: HostOffer, fitting: readonly Shape[]): string {
  let least: { readonly claims: number[]; readonly others: number[] } | null = null;
  for (const { definition } of fitting) {
    const others = definition.modules.filter((module) => quarantined.includes(module));
    const claims = definition.modules.filter(
      (module) => claimed.includes(module) && !others.includes(module),
    );
    const count = (each: typeof least) => each!.claims.length + each!.others.length;
    if (least === null || count({ claims, others }) < count(least)) least = { claims, others };
  }
  const { claims, others } = least!;
  const ways = [
    ...(claims.length === 0 ? [] : [`end what holds ${modulesText(claims)}`]),
    ...(others.length === 0 ? [] : [`look at ${modulesText(others)} and clear what is sound`]),
  ];
  return ways.join(', and ');
}

function modulesText(modules: readonly number[]): string {
  return `${modules.length === 1 ? 'module' : 'modules'} ${modules.join(', ')}`;
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
