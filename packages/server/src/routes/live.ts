import type { ServerResponse } from 'node:http';
import { ACCOUNTS } from '@bridgekeeper/bridge';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import type { LiveFeed, LiveMoment } from '../live/feed.ts';
import { traceEventsOf } from '../live/trace-events.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { LiveDocument } from '../openai/schema/documents.ts';
import { bridgeDocument } from './bridge.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';
import { beginEvents, eventText, whenClosed } from './events.ts';

/** Each has a buffer and a connection. */
const READERS_MAX = 32;
/** The ledger changes less than what is drawn. */
const BRIDGE_EVERY = 10;

/** GET /v1/bridge/timeline: what crossed in the last ten seconds, lane by lane. */
export function timelineEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/bridge/timeline',
      summary: 'What crossed and was launched in the last ten seconds',
      request: { query: z.object({ format: z.enum(['json', 'trace']).optional() }) },
      responses: {
        200: { description: 'Moments, oldest first', content: jsonContent(LiveDocument) },
        ...errorResponses(400, 401, 403, 503),
      },
    },
    forOperator: true,
    handle: (c) => {
      const format = c.req.query('format') ?? 'json';
      if (format !== 'json' && format !== 'trace') {
        throw new ApiError('invalid_value', 'format is json or trace.', 'format');
      }
      const moments = feedOf(ctx).recent();
      if (format === 'json') return c.json(document(ctx, moments));
      return c.body(traceEventsOf(moments), 200, { 'Content-Type': 'application/json' });
    },
  };
}

/** GET /v1/bridge/events: the same, and then what comes, as server-sent events. */
export function bridgeEventsEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/bridge/events',
      summary: 'What crosses and is launched, as it happens',
      responses: {
        200: {
          description: 'Events snapshot, moment and bridge',
          content: { 'text/event-stream': { schema: z.string() } },
        },
        ...errorResponses(401, 403, 429, 503),
      },
    },
    forOperator: true,
    handle: (c) => stream(c, ctx),
  };
}

function feedOf({ live, lifecycle }: ServerContext): LiveFeed {
  lifecycle.requireReady();
  if (live !== null) return live;
  throw new ApiError('route_not_found', 'This engine cannot be watched.');
}

function document({ engine }: ServerContext, moments: readonly LiveMoment[]) {
  return {
    device: String(engine.card.device.kind),
    accounts: ACCOUNTS.map(({ purpose, direction }) => ({ purpose, direction })),
    moments: [...moments],
  };
}

function stream(c: AppContext, ctx: ServerContext): Response {
  const feed = feedOf(ctx);
  if (feed.readers >= READERS_MAX) {
    throw new ApiError(
      'rate_limited',
      `${READERS_MAX} pages watch already: close one.`,
      undefined,
      {
        retryAfterSeconds: 10,
      },
    );
  }
  new LiveStream(beginEvents(c), ctx, feed).open();
  return RESPONSE_ALREADY_SENT;
}

/** One page that watches. What it does not read in time it is not sent later. */
class LiveStream {
  readonly #outgoing: ServerResponse;
  readonly #ctx: ServerContext;
  readonly #feed: LiveFeed;
  #untilBridge = 0;
  #isBehind = false;
  /** Something came while it was behind, and was not sent. */
  #hasSkipped = false;

  constructor(outgoing: ServerResponse, ctx: ServerContext, feed: LiveFeed) {
    this.#outgoing = outgoing;
    this.#ctx = ctx;
    this.#feed = feed;
  }

  open(): void {
    this.#snapshot();
    const unsubscribe = this.#feed.subscribe((moment) => this.#moment(moment));
    const closed = whenClosed(this.#outgoing);
    void closed.then(unsubscribe);
    this.#outgoing.on('drain', () => {
      this.#outgoing.setTimeout(0);
      this.#isBehind = false;
      // A snapshot is larger than what a socket takes at once: it is behind for a moment each time.
      if (this.#hasSkipped) this.#snapshot();
    });
    this.#outgoing.on('timeout', () => this.#outgoing.destroy());
    // Answers end before the server does.
    this.#ctx.lifecycle.track({
      settled: closed,
      fail: () => this.#outgoing.end(),
    });
  }

  #snapshot(): void {
    this.#hasSkipped = false;
    this.#send('snapshot', document(this.#ctx, this.#feed.recent()));
    this.#untilBridge = 0;
  }

  #moment(moment: LiveMoment): void {
    if (this.#isBehind) {
      this.#hasSkipped = true;
      return;
    }
    this.#send('moment', moment);
    if (this.#untilBridge === 0) this.#send('bridge', bridgeDocument(this.#ctx));
    this.#untilBridge = (this.#untilBridge + 1) % BRIDGE_EVERY;
  }

  #send(event: string, data: object): void {
    if (this.#outgoing.write(eventText(event, data))) return;
    this.#isBehind = true;
    this.#outgoing.setTimeout(this.#ctx.limits.stallSeconds * 1000);
  }
}
