// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.

import {
  type BinaryRequest,
  EnvelopeError,
  KEYS_MEDIA_TYPE,
  type OpenedRequest,
  openRequest,
  REQUEST_MEDIA_TYPE,
  RESPONSE_MEDIA_TYPE,
  readRequest,
} from '@bridgekeeper/envelope';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { z } from '@hono/zod-openapi';
import { SealedReply } from '../encryption/sealed-reply.ts';
import { TENANT_HEADER } from '../http/auth.ts';
import { ApiError } from '../http/errors.ts';
import type { AppContext, AppEnv, ServerContext } from '../openai/context.ts';
import { type Endpoint, errorResponses } from './endpoint.ts';

/** Where RFC 9540 has clients look. */
export const ENCRYPTED_PATH = '/.well-known/ohttp-gateway';

/** What an envelope adds to a request: its head, headers and padding. */
const ENVELOPE_BYTES_MAX = 128 * 1024;

const Binary = z.string().openapi({ format: 'binary' });

/** GET /.well-known/ohttp-gateway: the key to encrypt to. It is believed for the report alone. */
export function encryptionKeysEndpoint({ encryption }: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: ENCRYPTED_PATH,
      summary: 'The key that requests can be encrypted to; only the report proves it',
      responses: {
        200: {
          description: 'Key configurations of RFC 9458',
          content: { [KEYS_MEDIA_TYPE]: { schema: Binary } },
        },
      },
    },
    handle: async (c) =>
      c.body(await encryption.keys.current(), 200, {
        'Content-Type': KEYS_MEDIA_TYPE,
        'Cache-Control': 'no-store',
      }),
  };
}

type Dispatch = (request: Request, env: AppEnv['Bindings']) => Response | Promise<Response>;

/** POST /.well-known/ohttp-gateway: any other request, in an envelope that only we can open. */
export function encryptedEndpoint(ctx: ServerContext, dispatch: () => Dispatch): Endpoint {
  return {
    route: {
      method: 'post',
      path: ENCRYPTED_PATH,
      summary: 'A request of this API that only this server can read (chunked Oblivious HTTP)',
      request: { body: { content: { [REQUEST_MEDIA_TYPE]: { schema: Binary } } } },
      responses: {
        200: {
          description: 'Its answer, which only the client can read; errors of the API are within',
          content: { [RESPONSE_MEDIA_TYPE]: { schema: Binary } },
        },
        ...errorResponses(413),
        400: { description: 'It cannot be opened with a key of this server' },
      },
    },
    handle: async (c) => {
      const message = await ctx.bodies.readWrapped(c, ENVELOPE_BYTES_MAX);
      const opened = await openEnvelope(ctx, message);
      if (opened === null) return badEnvelope(c);
      const { outgoing, incoming } = c.env;
      if (outgoing === undefined || !('socket' in outgoing)) return badEnvelope(c);
      const reply = new SealedReply(outgoing as never, opened.answer, c.get('commonHeaders'));
      const env = { incoming: incoming!, outgoing: reply as never };
      takeFromGateway(c, ctx, opened.inner);
      const refusal = refusalOf(ctx, opened);
      const response = refusal
        ? Response.json(refusal.body, { status: refusal.status, headers: refusal.headers })
        : await dispatch()(opened.inner, env);
      if (response !== RESPONSE_ALREADY_SENT) await reply.sendWhole(response);
      return RESPONSE_ALREADY_SENT;
    },
  };
}

/**
 * A gateway that cannot look inside says outside whose request it is. A key within goes before.
 */
function takeFromGateway(c: AppContext, { keys }: ServerContext, { headers }: Request): void {
  const authorization = c.req.header('authorization');
  if (authorization === undefined || !keys.isGateway(authorization)) return;
  if (headers.has('authorization') || headers.has('x-api-key')) return;
  headers.set('authorization', authorization);
  headers.set(TENANT_HEADER, c.req.header(TENANT_HEADER) ?? '');
}

interface Opened extends OpenedRequest {
  readonly inner: Request;
}

/** null, for whatever reason: whoever sent it is told nothing that an attacker could use. */
async function openEnvelope(
  { encryption }: ServerContext,
  message: Uint8Array,
): Promise<Opened | null> {
  try {
    const opened = await openRequest(message, (id) => encryption.keys.find(id));
    return { ...opened, inner: requestOf(readRequest(opened.request)) };
  } catch (error) {
    if (error instanceof EnvelopeError) return null;
    throw error;
  }
}

/** Throws EnvelopeError for what is no request of this API. */
function requestOf({ method, path, headers, body }: BinaryRequest): Request {
  try {
    const url = new URL(path, 'http://localhost');
    if (!path.startsWith('/') || url.host !== 'localhost' || url.pathname === ENCRYPTED_PATH) {
      throw new EnvelopeError('malformed', 'it is for another server');
    }
    const content = body.length === 0 ? {} : { body };
    return new Request(url, { method, headers: headers.map(([...pair]) => pair), ...content });
  } catch (cause) {
    throw new EnvelopeError('malformed', 'it is no request', { cause });
  }
}

/** What was sent before, or long ago, is answered with an error, within the envelope. */
function refusalOf({ encryption, clock }: ServerContext, { enc, inner }: Opened): ApiError | null {
  const dateSeconds = Date.parse(inner.headers.get('date') ?? '') / 1000;
  switch (encryption.replays.admit(enc, dateSeconds, clock.unixSeconds())) {
    case 'fresh':
      return null;
    case 'stale':
      return new ApiError('envelope_stale', 'The date within the envelope is not that of now.');
    case 'replayed':
      return new ApiError('envelope_replayed', 'This envelope was opened before.');
    case 'full':
      return new ApiError('queue_full', 'Too many envelopes are being opened.');
  }
}

/** RFC 9458, section 5.3. */
function badEnvelope(c: AppContext): Response {
  const type = 'https://iana.org/assignments/http-problem-types#ohttp-key';
  const problem = { type, title: 'This is in no envelope that can be opened here.' };
  return c.body(JSON.stringify(problem), 400, { 'Content-Type': 'application/problem+json' });
}
