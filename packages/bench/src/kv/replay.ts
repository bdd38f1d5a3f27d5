import {
  createTierPolicy,
  type KvPrices,
  type Mover,
  type PagedSequence,
  PrefixTree,
  type Settled,
  type TierPolicy,
  type TierPolicyName,
} from '@bridgekeeper/engine/measure';
import { oracle } from './oracle.ts';

/** A request as far as its pages go: one id for each page of its prompt. */
export interface PagedRequest {
  readonly atSeconds: number;
  readonly tenant: string;
  readonly ids: readonly number[];
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** What pages cost in a replay: fixed prices. */
export interface ReplayPrices {
  /** To compute the page with so many before it. */
  recomputeSeconds(index: number): number;
  readonly spillSeconds: number;
  readonly restoreSeconds: number;
}

export interface ReplaySizes {
  readonly devicePages: number;
  /** 0: there is no host tier. */
  readonly hostPages: number;
}

/** Sums over a trace. Pages, and seconds of one device or one lane. */
export interface ReplayScore {
  readonly pages: number;
  readonly hitPages: number;
  readonly spilledPages: number;
  readonly restoredPages: number;
  /** Of prefill that was not needed, whatever tier it was found in. */
  readonly savedSeconds: number;
  readonly laneSeconds: number;
}

/** `clairvoyant`: knows when each page is used next, and writes what pays. */
export type ReplayPolicyName = TierPolicyName | 'clairvoyant';

/**
 * Runs a trace's prompts through the prefix tree and a policy, one after the other: what is found
 * where, and what moves. There is no device, no queue and no time but the arrivals', so that the
 * whole of a trace takes a second.
 */
export function replay(
  requests: readonly PagedRequest[],
  { devicePages, hostPages }: ReplaySizes,
  prices: ReplayPrices,
  name: ReplayPolicyName,
): ReplayScore {
  const mover = new MeteringMover(hostPages);
  const kvPrices: KvPrices = {
    recomputeNs: (index) => prices.recomputeSeconds(index) * 1e9,
    launchNs: () => 0,
    writeNs: () => prices.spillSeconds * 1e9,
    readNs: () => prices.restoreSeconds * 1e9,
  };
  const clairvoyant = name === 'clairvoyant' ? oracle(requests, kvPrices) : null;
  const policy: TierPolicy =
    clairvoyant?.policy ?? createTierPolicy(name as TierPolicyName, kvPrices);
  const tree = new PrefixTree({
    pages: devicePages,
    pageTokens: 1,
    isEnabled: true,
    tiers: { policy, prices: kvPrices, mover },
  });
  const score = { pages: 0, hitPages: 0, savedSeconds: 0 };
  for (const [index, { atSeconds, tenant, ids }] of requests.entries()) {
    clairvoyant?.begins(index);
    tree.advance(atSeconds * 1e9);
    const sequence = sequenceOf(tenant, ids);
    const match = tree.match(sequence);
    tree.claim(sequence, match, Infinity);
    tree.settle();
    sequence.pages.push(...tree.take(ids.length - sequence.pages.length));
    tree.publish(sequence, ids.length);
    tree.release(sequence);
    score.pages += ids.length;
    score.hitPages += match.pages;
    for (let page = 0; page < match.pages; page++) {
      score.savedSeconds += prices.recomputeSeconds(page);
    }
  }
  const { spilledPages, restoredPages } = mover;
  const laneSeconds = spilledPages * prices.spillSeconds + restoredPages * prices.restoreSeconds;
  return { ...score, spilledPages, restoredPages, laneSeconds };
}

/** Ids stand for tokens: a page of one token each, whose key is its id. */
function sequenceOf(tenant: string, ids: readonly number[]): PagedSequence {
  return {
    request: { tenant },
    length: ids.length + 1,
    promptLength: ids.length + 1,
    lastPosition: ids.length + 1,
    tokens: () => new Uint32Array(0),
    pages: [],
    window: { pages: [], first: 0, reserved: 0 },
    pageKeys: ids.map(String),
    nodes: [],
    published: 0,
    snapshotPages: 0,
    branchPages: 0,
    awaited: null,
    isDistrustful: false,
    kvShares: [],
  };
}

/** Moves nothing and counts: what is asked for has happened at once. */
class MeteringMover implements Mover {
  readonly parts = ['context'] as const;
  readonly pagesTogether = 1;
  readonly slots: Mover['slots'];
  spilledPages = 0;
  restoredPages = 0;
  #settled: Settled[] = [];
  #restores = 0;

  constructor(hostPages: number) {
    this.slots = { host: { context: hostPages }, disk: {} };
  }

  spill: Mover['spill'] = ({ moves }) => {
    this.spilledPages += moves.length;
    return moves.length;
  };

  restore: Mover['restore'] = ({ moves }) => {
    this.restoredPages += moves.length;
    const id = this.#restores++;
    const done = {
      kind: 'restored',
      id,
      layers: 1,
      isComplete: true,
      laneNs: 0,
      bytes: 0,
    } as const;
    this.#settled.push(done);
    return id;
  };

  settled(): readonly Settled[] {
    const all = this.#settled;
    this.#settled = [];
    return all;
  }

  demote(): void {}
  cancel(): void {}
  drop(): void {}
  dropAll(): void {}
  queueMoves(): void {}
  whenSettled = () => Promise.resolve();
  queue = () => ({ spillNs: 0, restoreNs: 0, diskNs: 0 });
  dueNs = () => 0;
}
