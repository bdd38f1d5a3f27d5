import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import type { ServerContext } from '../openai/context.ts';
import { ReportDocument } from '../openai/schema/evidence.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

export const REPORT_PATH = '/v1/attestation/report';

const Query = z.object({
  nonce: z
    .string()
    .regex(/^[0-9a-fA-F]{64}$/, 'must be 64 hex digits')
    .optional(),
  /** Given: the quote binds the signing key, as other services' do. */
  signing_algo: z.string().optional(),
  signing_address: z.string().optional(),
  include_tls_fingerprint: z.enum(['true', 'false']).optional(),
  model: z.string().optional(),
});

/** GET /v1/attestation/report: who answers here, signed by the hardware where that can sign. */
export function attestationEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: REPORT_PATH,
      summary: 'Evidence of this server and its machine, bound to a nonce',
      request: { query: Query },
      responses: {
        200: {
          description: 'The report; `bridgekeeper verify` judges it',
          content: jsonContent(ReportDocument),
        },
        ...errorResponses(400, 401, 404, 429, 503),
      },
    },
    handle: async (c) => {
      const query = validate(Query, c.req.query());
      const binding = bindingOf(ctx, query);
      return c.json(await ctx.attestation.report(query.nonce, binding));
    },
  };
}

function bindingOf(ctx: ServerContext, query: z.output<typeof Query>) {
  const { signing_algo, signing_address, include_tls_fingerprint } = query;
  if (signing_algo !== undefined && signing_algo !== 'ed25519') {
    const message = 'This server signs with ed25519 only.';
    throw new ApiError('unsupported_value', message, 'signing_algo');
  }
  const key = ctx.receipts?.signer.key;
  if (signing_address !== undefined && signing_address.toLowerCase() !== key) {
    const message = 'No key of this server has that address.';
    throw new ApiError('route_not_found', message, 'signing_address');
  }
  if (include_tls_fingerprint === 'true') return 'signing-address-tls';
  return signing_algo === undefined && signing_address === undefined
    ? 'statement'
    : 'signing-address';
}
