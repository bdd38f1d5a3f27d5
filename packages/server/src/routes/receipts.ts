import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import type { ServerContext } from '../openai/context.ts';
import {
  ReceiptDocument,
  ReceiptKeyDocument,
  ReceiptLinksDocument,
} from '../openai/schema/evidence.ts';
import type { Receipts } from '../receipts/receipts.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

const LINKS_MAX = 1000;

/** GET /v1/receipts/key: the key that signs them, and how many there were. */
export function receiptKeyEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/receipts/key',
      summary: 'The key that signs receipts; a report says whether the hardware knows it',
      responses: {
        200: { description: 'The key', content: jsonContent(ReceiptKeyDocument) },
        ...errorResponses(401, 404, 503),
      },
    },
    handle: async (c) => {
      const receipts = receiptsOf(ctx);
      const { key } = receipts.signer;
      const head = await available(receipts.head(key));
      return c.json({
        algorithm: 'ed25519',
        public_key: key,
        is_durable: receipts.path !== null,
        awaits_file: receipts.awaitedPath !== null,
        chain: head,
        since_start: receipts.counts,
      });
    },
  };
}

const LinksQuery = z.object({
  first: z.coerce.number().int().min(1).default(1),
  count: z.coerce.number().int().min(1).max(LINKS_MAX).default(LINKS_MAX),
});

/** GET /v1/receipts/links: the chain without its receipts. */
export function receiptLinksEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/receipts/links',
      summary: 'Digests of the receipts in their order: none can be left out unseen',
      request: { query: LinksQuery },
      responses: {
        200: { description: 'A piece of the chain', content: jsonContent(ReceiptLinksDocument) },
        ...errorResponses(400, 401, 403, 404, 503),
      },
    },
    forOperator: true,
    handle: async (c) => {
      const { first, count } = validate(LinksQuery, c.req.query());
      return c.json(await available(receiptsOf(ctx).links(first, count)));
    },
  };
}

/** GET /v1/receipts/{id}: a receipt, for the tenant whose answer it is of. */
export function receiptEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/receipts/{id}',
      summary: 'The receipt that X-Receipt-Id named, once its answer has ended',
      request: { params: z.object({ id: z.string() }) },
      responses: {
        200: { description: 'The signed receipt', content: jsonContent(ReceiptDocument) },
        ...errorResponses(401, 404, 503),
      },
    },
    handle: async (c) => {
      const id = c.req.param('id') ?? '';
      const text = await available(receiptsOf(ctx).find(id, c.get('tenant')));
      if (text === null) {
        const message = 'There is no such receipt of yours: its answer may not have ended.';
        throw new ApiError('receipt_not_found', message);
      }
      return c.body(text, 200, { 'Content-Type': 'application/json' });
    },
  };
}

function receiptsOf({ receipts }: ServerContext): Receipts {
  if (receipts !== null) return receipts;
  throw new ApiError('receipt_not_found', 'This server gives no receipts.');
}

/** The thread that keeps them can be gone; the server goes on without. */
async function available<T>(answer: Promise<T>): Promise<T> {
  return answer.catch((cause: unknown) => {
    const message = 'The receipts of this server cannot be read.';
    throw new ApiError('receipts_unavailable', message, undefined, { cause });
  });
}
