import { RECOMPUTED_FOR } from '../kv/page-node.ts';
import { noPages, type PartCounters, STORES } from '../kv/tiers/accounts.ts';
import type { EngineStats } from '../request/request.ts';

type KvStats = EngineStats['kv'];
type KvPartStats = KvStats['parts'][number];
type TierCounters = KvStats['total'];
type BridgeStats = EngineStats['bridge'];

/** What several engines did together; lanes are named by the engine that has them. */
export function sumOfStats(all: readonly EngineStats[]): EngineStats {
  const sum = (of: (stats: EngineStats) => number) =>
    all.reduce((total, stats) => total + of(stats), 0);
  // Of two numbers the one that a client would notice.
  const longest = all.reduce((a, b) => (b.stepsPerLaunch > a.stepsPerLaunch ? b : a));
  const largest = all.reduce((a, b) => (b.chunkTokens > a.chunkTokens ? b : a));
  return {
    running: sum(({ running }) => running),
    waiting: sum(({ waiting }) => waiting),
    kvUsage: sum(({ kvUsage }) => kvUsage) / all.length,
    prefixQueriedTokens: sum(({ prefixQueriedTokens }) => prefixQueriedTokens),
    prefixHitTokens: sum(({ prefixHitTokens }) => prefixHitTokens),
    preemptions: sum(({ preemptions }) => preemptions),
    promptTokens: sum(({ promptTokens }) => promptTokens),
    generatedTokens: sum(({ generatedTokens }) => generatedTokens),
    steps: sum(({ steps }) => steps),
    stepsPerLaunch: longest.stepsPerLaunch,
    stepsReason: longest.stepsReason,
    chunkTokens: largest.chunkTokens,
    chunkReason: largest.chunkReason,
    speculation: sumOfSpeculation(all.flatMap(({ speculation }) => speculation ?? [])),
    launches: sum(({ launches }) => launches),
    graphLaunches: sum(({ graphLaunches }) => graphLaunches),
    grammars: {
      held: sum(({ grammars }) => grammars.held),
      heldBytes: sum(({ grammars }) => grammars.heldBytes),
      uploads: sum(({ grammars }) => grammars.uploads),
      hits: sum(({ grammars }) => grammars.hits),
      evictions: sum(({ grammars }) => grammars.evictions),
    },
    snapshots: {
      held: sum(({ snapshots }) => snapshots.held),
      places: sum(({ snapshots }) => snapshots.places),
      taken: sum(({ snapshots }) => snapshots.taken),
      used: sum(({ snapshots }) => snapshots.used),
      evicted: sum(({ snapshots }) => snapshots.evicted),
    },
    kv: sumOfKv(all.map(({ kv }) => kv)),
    bridge: sumOfBridges(all.map(({ bridge }) => bridge)),
  };
}

function sumOfSpeculation(
  all: readonly NonNullable<EngineStats['speculation']>[],
): EngineStats['speculation'] {
  if (all.length === 0) return undefined;
  const most = all.reduce((a, b) => (b.draftsPerStep > a.draftsPerStep ? b : a));
  return {
    draftsPerStep: most.draftsPerStep,
    reason: most.reason,
    drafts: all.reduce((sum, { drafts }) => sum + drafts, 0),
    draftTokens: all.reduce((sum, { draftTokens }) => sum + draftTokens, 0),
    acceptedTokens: all.reduce((sum, { acceptedTokens }) => sum + acceptedTokens, 0),
  };
}

function sumOfKv(all: readonly KvStats[]): KvStats {
  const sum = (of: (stats: KvStats) => number) => all.reduce((total, kv) => total + of(kv), 0);
  const tenants = new Map<string, TierCounters[]>();
  for (const { tenant, counters } of all.flatMap((kv) => kv.tenants)) {
    tenants.set(tenant, [...(tenants.get(tenant) ?? []), counters]);
  }
  return {
    pageBytes: all[0]!.pageBytes,
    window: all[0]!.window && {
      ...all[0]!.window,
      pages: sum(({ window }) => window!.pages),
      held: sum(({ window }) => window!.held),
    },
    places: sumOfPlaces(all.map(({ places }) => places)),
    parts: all[0]!.parts.map((_, index) => sumOfPart(all.map(({ parts }) => parts[index]!))),
    hostReadyBytes: sum(({ hostReadyBytes }) => hostReadyBytes),
    spillQueueNs: Math.max(...all.map(({ spillQueueNs }) => spillQueueNs)),
    restoreQueueNs: Math.max(...all.map(({ restoreQueueNs }) => restoreQueueNs)),
    total: sumOfTiers(all.map(({ total }) => total)),
    tenants: [...tenants].map(([tenant, counters]) => ({
      tenant,
      counters: sumOfTiers(counters),
    })),
  };
}

function sumOfPart(all: readonly KvPartStats[]): KvPartStats {
  const { part, bytes } = all[0]!;
  const moved = all.flatMap((each) => each.moved ?? []);
  const sum = (of: (counters: PartCounters) => number) =>
    moved.reduce((total, counters) => total + of(counters), 0);
  return {
    part,
    bytes,
    places: sumOfPlaces(all.map(({ places }) => places)),
    moved:
      moved.length === 0
        ? null
        : {
            resident: STORES.map((_, store) => sum(({ resident }) => resident[store]!)),
            spilled: sum(({ spilled }) => spilled),
            demoted: sum(({ demoted }) => demoted),
            restored: sum(({ restored }) => restored),
            avoided: sum(({ avoided }) => avoided),
            refused: sum(({ refused }) => refused),
            lost: sum(({ lost }) => lost),
          },
  };
}

function sumOfPlaces(all: readonly KvStats['places'][]): KvStats['places'] {
  const of = (tier: number) => all.reduce((sum, places) => sum + places[tier]!, 0);
  return [of(0), of(1), of(2)];
}

function sumOfTiers(all: readonly TierCounters[]): TierCounters {
  const sum = (of: (counters: TierCounters) => number) =>
    all.reduce((total, counters) => total + of(counters), 0);
  const byTier = (of: (counters: TierCounters) => readonly number[]) =>
    of(all[0]!).map((_, tier) => sum((counters) => of(counters)[tier]!));
  const { recomputed } = noPages();
  for (const why of RECOMPUTED_FOR) recomputed[why] = sum((counters) => counters.recomputed[why]);
  return {
    resident: byTier(({ resident }) => resident),
    hits: byTier(({ hits }) => hits),
    spilled: sum(({ spilled }) => spilled),
    demoted: sum(({ demoted }) => demoted),
    restored: sum(({ restored }) => restored),
    recomputed,
    avoided: sum(({ avoided }) => avoided),
    refused: sum(({ refused }) => refused),
    lost: sum(({ lost }) => lost),
    late: sum(({ late }) => late),
  };
}

function sumOfBridges(all: readonly BridgeStats[]): BridgeStats {
  const totals = new Map<string, BridgeStats['totals'][number]>();
  for (const one of all.flatMap((bridge) => bridge.totals)) {
    const key = `${one.purpose} ${one.direction}`;
    const before = totals.get(key) ?? { crossings: 0, bytes: 0, busyNs: 0, blockedNs: 0 };
    totals.set(key, {
      purpose: one.purpose,
      direction: one.direction,
      crossings: before.crossings + one.crossings,
      bytes: before.bytes + one.bytes,
      busyNs: before.busyNs + one.busyNs,
      blockedNs: before.blockedNs + one.blockedNs,
    });
  }
  return {
    law: all[0]!.law,
    totals: [...totals.values()],
    lanes: all.flatMap(({ lanes }, index) =>
      lanes.map((lane) => ({ ...lane, id: `engine-${index}/${lane.id}` })),
    ),
    uptimeNs: Math.max(...all.map(({ uptimeNs }) => uptimeNs)),
  };
}
