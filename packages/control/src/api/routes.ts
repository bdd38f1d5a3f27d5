import { z } from '@hono/zod-openapi';
import { NearestMiss } from './fleet.ts';
import { GatewayReport, ReportAnswer, RoutingTable } from './routing.ts';
import { Name, Sequence } from './scalars.ts';

/** Who may call: the role of the bearer key, or a host's agent by its certificate. */
export type Caller = 'operator' | 'gateway' | 'tenant' | 'metrics' | 'agent';

/** One call, from which its entry in the OpenAPI document and its checks are made. */
export interface Call {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  /** As OpenAPI writes it: `/v1/pools/{pool}`. */
  readonly path: string;
  readonly summary: string;
  readonly callers: readonly Caller[];
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  readonly response: z.ZodType;
  /** It answers as server-sent events; `response` is of one event's data. */
  readonly isStream?: true;
}

export const ErrorDocument = z
  .object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      /** The nearest miss, where something did not fit. */
      nearest: NearestMiss.nullish(),
    }),
  })
  .openapi('ControlError');

/** What gateways call. All take a key of the role `gateway`. */
export const GATEWAY_CALLS = {
  routing: {
    method: 'get',
    path: '/v1/routing',
    summary: 'The routing table as it is now',
    callers: ['gateway', 'operator'],
    response: RoutingTable,
  },
  /**
   * Events: `table` (data: RoutingTable) first if `from` is missing or older than what is kept,
   * then `change` (data: RoutingChange), each with its sequence as `id`; a comment every 5 s.
   * `from` is the sequence that the gateway has: changes after it follow. `Last-Event-ID` is taken
   * for `from`.
   */
  routingEvents: {
    method: 'get',
    path: '/v1/routing/events',
    summary: 'Changes of the routing table, as they come',
    callers: ['gateway', 'operator'],
    query: z.object({ from: z.coerce.number().pipe(Sequence).optional() }),
    response: z.unknown(),
    isStream: true,
  },
  /** Idempotent. Answers at once; the pool's state in the routing table follows. */
  wake: {
    method: 'post',
    path: '/v1/pools/{pool}/wake',
    summary: 'Start a replica of a pool that was scaled to zero',
    callers: ['gateway', 'operator'],
    params: z.object({ pool: Name }),
    response: z.object({ state: z.enum(['serving', 'waking']), coldStartSeconds: z.number() }),
  },
  report: {
    method: 'post',
    path: '/v1/gateways/report',
    summary: 'What a gateway sees: load, usage, failing replicas',
    callers: ['gateway'],
    body: GatewayReport,
    response: ReportAnswer,
  },
} satisfies Readonly<Record<string, Call>>;
