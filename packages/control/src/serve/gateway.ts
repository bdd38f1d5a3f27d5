import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import type { GATEWAY_CALLS } from '../api/routes.ts';
import type { QuotaShare, RoutingChange } from '../api/routing.ts';
import { ControlError } from '../errors.ts';
import { type Heard, REPORT_MS } from '../fleet/context.ts';
import { routingTable } from '../fleet/routing.ts';
import type { Term } from '../lead/term.ts';
import type { Time } from '../time.ts';
import type { Handlers } from './handlers.ts';
import type { Watch } from './watch.ts';

/** How long a wake-up holds a pool above zero without a request. */
const WAKE_MS = 60_000;
/** A comment that often, so that both ends notice when the other is gone. */
const COMMENT_MS = 5000;
/** Gateways that are remembered at most. */
const GATEWAYS_MAX = 1000;

export function gatewayHandlers(nudge: () => void): Handlers<typeof GATEWAY_CALLS> {
  return {
    routing: { read: ({ fleet, sequence }) => routingTable(fleet, sequence) },
    routingEvents: null,
    wake: {
      write: ({ fleet, nowMs }, { params }) => {
        const pool = fleet.get('pool', params.pool);
        if (pool === undefined) {
          throw new ControlError('not-found', `there is no pool ${params.pool}`);
        }
        if (pool.spec.replicas.max === 0) {
          throw new ControlError('conflict', `pool ${params.pool} is stopped: raise its maximum`);
        }
        const replicas = [...fleet.rows('replica').inGroup(`pool/${params.pool}`)];
        const isServing = replicas.some(({ phase }) => phase === 'serving');
        const coldStartSeconds = Math.max(0, ...replicas.map((each) => each.coldStartSeconds));
        // Many ask at once: it is written anew when half of it is over.
        if (pool.wakeUntilMs - nowMs < WAKE_MS / 2) {
          fleet.patch('pool', params.pool, { wakeUntilMs: nowMs + WAKE_MS });
          nudge();
        }
        return { state: isServing ? ('serving' as const) : ('waking' as const), coldStartSeconds };
      },
    },
    report: {
      // Nothing of it is written: it is said again within seconds.
      read: ({ heard }, { body, caller }) => {
        const before = heard.gateways.get(body.gateway)?.report;
        const isOld =
          before !== undefined &&
          (body.startedMs < before.startedMs ||
            (body.startedMs === before.startedMs && body.sequence <= before.sequence));
        if (isOld) throw new ControlError('stale', 'a newer report of this gateway was there');
        if (before === undefined && heard.gateways.size >= GATEWAYS_MAX) {
          throw new ControlError('forbidden', `${caller.name}: too many gateways are known`);
        }
        heard.gateways.set(body.gateway, { report: body, atMs: heard.nowMs() });
        return { share: shareOf(heard, body.gateway) };
      },
    },
  };
}

/** A new leader has heard of all gateways only after a while: until then it gives no share. */
function shareOf({ gateways, sinceMs, nowMs }: Heard, gateway: string): QuotaShare | null {
  const now = nowMs();
  if (now - sinceMs < REPORT_MS) return null;
  const names = [...gateways].flatMap(([name, { atMs }]) => (now - atMs < REPORT_MS ? [name] : []));
  return { index: names.toSorted().indexOf(gateway), of: names.length };
}

/** Changes of the routing table as they come; the table first where they are not kept. */
export function streamRouting(
  c: Context,
  { fleet, sequence }: Term,
  from: number | undefined,
  watch: Watch,
  time: Time,
): Response {
  const last = Number(c.req.header('last-event-id') ?? Number.NaN);
  const since = from ?? (Number.isSafeInteger(last) ? last : undefined);
  const kept = since === undefined ? null : watch.routing(since);
  // Both at once: nothing can come between the table and the changes after it.
  const watcher = kept ?? watch.routing(sequence)!;
  const table = kept === null ? routingTable(fleet, sequence) : null;
  return streamSSE(c, async (stream) => {
    stream.onAbort(() => watcher.end());
    try {
      if (table !== null) {
        await stream.writeSSE({
          event: 'table',
          id: String(sequence),
          data: JSON.stringify(table),
        });
      }
      while (!watcher.isOver) {
        const changes = await watcher.next((over) => time.sleep(COMMENT_MS, over));
        if (changes.length === 0 && !watcher.isOver) await stream.write(':\n\n');
        for (const change of changes) await stream.writeSSE(eventOf(change));
      }
    } finally {
      watch.leave(watcher);
    }
  });
}

function eventOf(change: RoutingChange) {
  return { event: 'change', id: String(change.sequence), data: JSON.stringify(change) };
}
