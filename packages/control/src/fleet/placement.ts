import { type HostOffer, plan } from '@bridgekeeper/fabric';
import type { Host, HostFacts, NearestMiss, PoolSpec } from '../api/fleet.ts';
import type { Fleet } from './fleet.ts';

/** Crossings that a token pays on a host's bridge: one drain each, which no policy exceeds. */
const CROSSINGS_PER_TOKEN = 1;

export interface Placed {
  readonly host: string;
  readonly partition: number;
  readonly modules: readonly number[];
  readonly coldStartSeconds: number;
  readonly bridgeSecondsPerToken: number;
}

export interface Miss {
  readonly cause: string;
  readonly nearest: NearestMiss | null;
}

/** What can be placed on, for weights of one size; and the first host of those that are closed. */
interface OpenOffers {
  readonly offers: readonly HostOffer[];
  readonly closed: Miss['nearest'];
}

/** What hosts offer at one moment, kept up while one thing after the other is placed. */
export class Offers {
  readonly #hosts: readonly Host[];
  readonly #nowMs: number;
  readonly #tables = new Map<string, HostFacts['partitions']>();
  readonly #taken = new Map<string, { claimed: number[]; quarantined: readonly number[] }>();
  readonly #tableOf = new Map<string, HostFacts['partitions']>();
  readonly #open = new Map<number, OpenOffers>();

  constructor(fleet: Fleet, nowMs: number) {
    this.#nowMs = nowMs;
    this.#hosts = [...fleet.rows('host').values()]
      .filter(({ facts }) => facts !== null)
      .toSorted((one, other) => (one.host < other.host ? -1 : 1));
    for (const { host, facts, quarantined } of this.#hosts) {
      const { gpus, partitions } = facts!;
      this.#taken.set(host, {
        claimed: gpus.map(({ module }) => module).filter((m) => fleet.claimOf(host, m) !== null),
        quarantined: [
          ...facts!.quarantined.map(({ module }) => module),
          ...quarantined.map(({ module }) => module),
          ...gpus.filter(({ isHealthy }) => !isHealthy).map(({ module }) => module),
        ],
      });
      // Hosts of one table share it: partitions are then looked up once for all of them.
      const text = JSON.stringify(partitions);
      const table = this.#tables.get(text) ?? partitions;
      this.#tables.set(text, table);
      this.#tableOf.set(host, table);
    }
  }

  /** Where a replica of a pool goes; or what the host that came nearest lacks. */
  place(spec: PoolSpec): Placed | Miss {
    const { offers, closed } = this.#offersFor(spec);
    const { gpus, platform, driverVersion, grades, tokensExpected: tokens } = spec;
    // Left out by pools of before there was such a limit.
    const { evidenceMaxAgeSeconds = null } = spec;
    const request = { gpus, platform, driverVersion, grades, tokens, evidenceMaxAgeSeconds };
    const result = plan(request, offers);
    if (!result.fits) {
      const nearest = result.nearest ?? closed;
      if (nearest === null) return { cause: 'there is no host: let one join', nearest };
      const { host, cause } = nearest;
      return { cause: `no host fits: nearest is ${host}, ${cause}`, nearest };
    }
    const { host, partition, modules, seconds } = result.placement;
    this.#taken.get(host)!.claimed.push(...modules);
    const { bridgeSecondsPerToken } = offers.find((offer) => offer.host === host)!;
    const { coldStart: coldStartSeconds } = seconds;
    return { host, partition, modules, coldStartSeconds, bridgeSecondsPerToken };
  }

  /** How long the fastest host would take from nothing, in seconds; 0 where there is none. */
  fastestStart(spec: PoolSpec): number {
    const all = this.#hosts.map(({ facts }) => coldStartSeconds(facts!, spec));
    return all.length === 0 ? 0 : Math.min(...all);
  }

  /** What is claimed in them grows as things are placed; all else is as it is. */
  #offersFor(spec: PoolSpec): OpenOffers {
    const kept = this.#open.get(spec.weightBytes);
    if (kept !== undefined) return kept;
    const offers: HostOffer[] = [];
    let closed: Miss['nearest'] = null;
    for (const host of this.#hosts) {
      const cause = closedFor(host);
      if (cause === null) offers.push(this.#offer(host, spec));
      else closed ??= { host: host.host, ...cause };
    }
    const open = { offers, closed };
    this.#open.set(spec.weightBytes, open);
    return open;
  }

  #offer({ host, facts, lastEvidence }: Host, spec: PoolSpec): HostOffer {
    const { platform, driverVersion, fmVersion, isFrozen, grade, bridge } = facts!;
    const { claimed, quarantined } = this.#taken.get(host)!;
    return {
      host,
      platform,
      driverVersion,
      // Without a fabric there is no Fabric Manager whose version could differ.
      fmVersion: fmVersion ?? (platform === 'none' ? driverVersion : null),
      table: this.#tableOf.get(host)!,
      claimed,
      quarantined,
      isFrozen,
      grade,
      coldStartSeconds: coldStartSeconds(facts!, spec),
      evidenceAgeSeconds: lastEvidence ? Math.max(0, this.#nowMs - lastEvidence.atMs) / 1000 : null,
      bridgeSecondsPerToken: ((bridge?.tollNs ?? 0) / 1e9) * CROSSINGS_PER_TOKEN,
    };
  }
}

function coldStartSeconds(facts: HostFacts, { weightBytes }: PoolSpec): number {
  return facts.bootSeconds + weightBytes / facts.loadBytesPerSecond;
}

/** Why nothing new goes to a host, whatever is free on it. */
function closedFor({ state, lostSinceMs }: Host): Omit<NearestMiss, 'host'> | null {
  if (lostSinceMs !== null) return { cause: 'nothing is heard of it', lift: 'see its agent' };
  if (state === 'ready') return null;
  if (state === 'joined') {
    return { cause: 'it has not said yet what it is', lift: 'start its agent' };
  }
  return { cause: `it is ${state}`, lift: 'make it ready' };
}
