import { aloneNs, type Profile, type Purpose } from '@bridgekeeper/bridge';
import type { EngineStats } from '@bridgekeeper/engine';
import type { z } from '@hono/zod-openapi';
import type { EngineRestarts } from '../engine/restarting-engine.ts';
import type { ServerContext } from '../openai/context.ts';
import { BridgeDocument } from '../openai/schema/documents.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

const seconds = (ns: number) => ns / 1e9;

/** What crosses once, whatever is generated. */
const OF_STARTS: readonly string[] = ['weights', 'probe'] satisfies readonly Purpose[];

/** GET /v1/bridge: what crossings cost, what crossed, and for what. */
export function bridgeEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/bridge',
      summary: 'The law, the lanes and the ledger by purpose',
      responses: {
        200: { description: 'Totals since start', content: jsonContent(BridgeDocument) },
        ...errorResponses(401, 403),
      },
    },
    forOperator: true,
    handle: (c) => c.json(bridgeDocument(ctx)),
  };
}

/** As GET /v1/bridge answers. */
export function bridgeDocument(ctx: ServerContext): z.output<typeof BridgeDocument> {
  const stats = ctx.engine.stats();
  const { bridge, launches, graphLaunches, generatedTokens, stepsPerLaunch, stepsReason } = stats;
  const stepTotals = bridge.totals.filter(({ purpose }) => !OF_STARTS.includes(purpose));
  const perToken = (field: 'crossings' | 'bytes') =>
    stepTotals.reduce((sum, total) => sum + total[field], 0) / Math.max(1, generatedTokens);
  const { value: assumed, ...why } = ctx.bridge;
  return {
    device: { ...ctx.engine.card.device },
    law: { name: bridge.law, reason: ctx.law.reason },
    policy: { name: ctx.policy.value, reason: ctx.policy.reason },
    assumed_bridge: { name: assumed, ...why },
    uptime_seconds: seconds(bridge.uptimeNs),
    restarts: ctx.restarts === null ? null : restartsDocument(ctx.restarts.restarts),
    running: stats.running,
    waiting: stats.waiting,
    generated_tokens: generatedTokens,
    launches,
    graph_launches: graphLaunches,
    steps_per_launch: stepsPerLaunch,
    steps_per_launch_reason: stepsReason,
    chunk_tokens: stats.chunkTokens,
    chunk_tokens_reason: stats.chunkReason,
    speculation: speculationDocument(stats.speculation),
    per_generated_token: {
      crossings: perToken('crossings'),
      bytes: perToken('bytes'),
      launches: (launches + graphLaunches) / Math.max(1, generatedTokens),
    },
    lanes: bridge.lanes.map(({ id, kind, crossings, bytes, busyNs, blockedNs }) => ({
      id,
      kind,
      crossings,
      bytes,
      busy_seconds: seconds(busyNs),
      blocked_seconds: seconds(blockedNs),
      utilisation: bridge.uptimeNs > 0 ? busyNs / bridge.uptimeNs : 0,
    })),
    ledger: bridge.totals.map((total) => ({
      price_seconds: priceSeconds(ctx.planning.profile, total),
      purpose: total.purpose,
      direction: total.direction,
      crossings: total.crossings,
      bytes: total.bytes,
      busy_seconds: seconds(total.busyNs),
      blocked_seconds: seconds(total.blockedNs),
    })),
    grammars: grammarsDocument(ctx, stats.grammars),
    kv: kvDocument(stats.kv),
  };
}

/** What a crossing of the mean size takes alone on the bridge that is reckoned with. */
function priceSeconds(
  profile: Profile | null,
  { direction, crossings, bytes }: EngineStats['bridge']['totals'][number],
): number | null {
  if (profile === null || crossings === 0) return null;
  // All that crosses while it serves does so from, or to, pinned memory.
  const { pinned } = profile.crossings[direction === 'h2d' ? 'h2d' : 'd2h'];
  return seconds(aloneNs(pinned, bytes / crossings));
}

function speculationDocument(
  speculation: EngineStats['speculation'],
): z.output<typeof BridgeDocument>['speculation'] {
  if (speculation === undefined) return null;
  const { draftsPerStep, reason, drafts, draftTokens, acceptedTokens } = speculation;
  return {
    drafts_per_step: draftsPerStep,
    reason,
    drafts,
    draft_tokens: draftTokens,
    accepted_tokens: acceptedTokens,
  };
}

function restartsDocument({ count, failures, resumed, last }: EngineRestarts) {
  return {
    count,
    failures: { ...failures },
    resumed_requests: resumed,
    last: last && {
      cause: last.cause,
      message: last.message,
      failed_at: last.failedAt,
      outage_seconds: last.outageSeconds,
    },
  };
}

type KvPart = EngineStats['kv']['parts'][number];
type KvDocument = z.output<typeof BridgeDocument>['kv'];

function kvDocument(kv: EngineStats['kv']): KvDocument {
  return {
    page_bytes: kv.pageBytes,
    window: kv.window && {
      tokens: kv.window.tokens,
      page_bytes: kv.window.pageBytes,
      pages: kv.window.pages,
      held: kv.window.held,
    },
    places: byTier(kv.places),
    parts: kv.parts.map(({ part, bytes, places, moved }) => {
      return { part, bytes, places: byTier(places), moved: moved && movedParts(moved) };
    }),
    host_ready_bytes: kv.hostReadyBytes,
    spill_queue_seconds: seconds(kv.spillQueueNs),
    restore_queue_seconds: seconds(kv.restoreQueueNs),
    ...movedPages(kv.total),
    tenants: kv.tenants.map(({ tenant, counters }) => ({ tenant, ...movedPages(counters) })),
  };
}

function movedParts({ resident, ...events }: NonNullable<KvPart['moved']>) {
  const [host, disk] = resident;
  return { resident: { host: host!, disk: disk! }, ...events };
}

function movedPages({ resident, hits, recomputed, ...events }: EngineStats['kv']['total']) {
  return {
    resident: byTier(resident),
    hits: byTier(hits),
    ...events,
    recomputed: pagesIn(recomputed),
    recomputed_for: recomputed,
  };
}

function pagesIn(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, pages) => sum + pages, 0);
}

function byTier([device, host, disk]: readonly number[]): KvDocument['places'] {
  return { device: device!, host: host!, disk: disk! };
}

/** One that is found on the device costs no crossing, one that is found compiled costs one. */
function grammarsDocument(
  { grammars, engine }: ServerContext,
  { uploads, hits, evictions, held, heldBytes }: EngineStats['grammars'],
): z.output<typeof BridgeDocument>['grammars'] {
  const { compiled, found, refused } = grammars.counts;
  return {
    compiled,
    found_compiled: found,
    refused,
    uploads,
    found_on_device: hits,
    evictions,
    on_device: held,
    on_device_bytes: heldBytes,
    pool_bytes: engine.card.grammarBytes,
  };
}
