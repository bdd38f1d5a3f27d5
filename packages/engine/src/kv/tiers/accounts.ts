import { NOWHERE, type PageNode, RECOMPUTED_FOR, type RecomputedFor } from '../page-node.ts';
import type { KvPart, StoreName } from './movement.ts';

/** What became of one tenant's pages. Counts of pages. */
export interface TierCounters {
  /** That have content on device, host and disk now. */
  readonly resident: number[];
  /** Found by requests where they began, by tier. */
  readonly hits: number[];
  /** Written to host memory, and from there to disk. */
  spilled: number;
  demoted: number;
  /** Brought to the device. */
  restored: number;
  /** Computed again, by why. */
  readonly recomputed: Record<RecomputedFor, number>;
  /** Given up without being written: not worth it, or no room for it. */
  avoided: number;
  /** Not written because staging or the budget of spills was short. */
  refused: number;
  /** Lost on their way or in a store. */
  lost: number;
  /** On their way for so long that they were given up. */
  late: number;
}

export type Tally = Exclude<keyof TierCounters, 'resident' | 'hits' | 'recomputed'>;

/** What nodes have beside their pages: what windowed layers keep of them, and states of rows. */
export type SidePart = Exclude<KvPart, 'context'>;

/** In the order of `PartCounters.resident`. */
export const STORES: readonly StoreName[] = ['host', 'disk'];

/** What became of all parts of one kind. Counts of parts. */
export interface PartCounters {
  /** In host memory and on disk now. */
  readonly resident: number[];
  spilled: number;
  demoted: number;
  restored: number;
  /** Given up without being written: not worth it, or no slot for it. */
  avoided: number;
  refused: number;
  lost: number;
}

const noParts = (): PartCounters => ({
  resident: [0, 0],
  spilled: 0,
  demoted: 0,
  restored: 0,
  avoided: 0,
  refused: 0,
  lost: 0,
});

/** Of a tenant that has none yet. */
export function noPages(): TierCounters {
  return {
    resident: [0, 0, 0],
    hits: [0, 0, 0],
    spilled: 0,
    demoted: 0,
    restored: 0,
    recomputed: Object.fromEntries(RECOMPUTED_FOR.map((why) => [why, 0])) as Record<
      RecomputedFor,
      number
    >,
    avoided: 0,
    refused: 0,
    lost: 0,
    late: 0,
  };
}

/** Tenants that are counted apart: salts make tenants, and are the clients' to choose. */
const MOST_TENANTS = 1024;

/** What became of pages, in all and by tenant. */
export class TierAccounts {
  readonly total: TierCounters = noPages();
  readonly parts: Readonly<Record<SidePart, PartCounters>> = {
    window: noParts(),
    state: noParts(),
  };
  readonly #tenants = new Map<string, TierCounters>();

  /** Of tenants that have pages, and of others as far as there is room. */
  tenants(): ReadonlyMap<string, TierCounters> {
    return this.#tenants;
  }

  count(tenant: string, what: Tally, pages: number): void {
    this.total[what] += pages;
    this.#of(tenant)[what] += pages;
  }

  recompute(tenant: string, why: RecomputedFor, pages: number): void {
    this.total.recomputed[why] += pages;
    this.#of(tenant).recomputed[why] += pages;
  }

  hit(node: PageNode): void {
    const tier = node.at.findIndex((place) => place !== NOWHERE);
    this.total.hits[tier]! += 1;
    this.#of(node.tenant).hits[tier]! += 1;
  }

  /** So many pages more of the tenant are in the tier. */
  moved(tenant: string, tier: number, pages: 1 | -1): void {
    this.total.resident[tier]! += pages;
    this.#of(tenant).resident[tier]! += pages;
  }

  #of(tenant: string): TierCounters {
    let counters = this.#tenants.get(tenant);
    if (counters !== undefined) return counters;
    counters = noPages();
    this.#tenants.set(tenant, counters);
    if (this.#tenants.size > MOST_TENANTS) this.#forgetOne();
    return counters;
  }

  /** The tenant that was seen first of those that have no page anywhere. */
  #forgetOne(): void {
    for (const [tenant, { resident }] of this.#tenants) {
      if (resident.some((pages) => pages > 0)) continue;
      this.#tenants.delete(tenant);
      return;
    }
  }
}
