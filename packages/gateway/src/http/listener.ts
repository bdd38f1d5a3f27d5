import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { RouteTenant } from '@bridgekeeper/control/api';
import {
  type Admission,
  ApiError,
  authorizationOf,
  CorsPolicy,
  ENCRYPTED_PATH,
  type HostPolicy,
  type Quotas,
  REPORT_PATH,
  requestIdFrom,
  toApiError,
} from '@bridgekeeper/server/edge';
import { type BodyFacts, readBodyFacts } from '../choose/request-prefix.ts';
import type { Fleet, Pool, Replica } from '../fleet.ts';
import { apiOf } from '../relay/api.ts';
import { forwardedLines, PREFIX_HEADER, REPLICA_HEADER } from '../relay/headers.ts';
import { Relay, type RelayParts, type RelayRequest, sendError } from '../relay/relay.ts';
import { type BodyBudget, readBody } from './body.ts';
import type { Homes } from './locate.ts';

export interface FrontParts extends RelayParts {
  readonly fleet: Fleet;
  readonly quotas: Quotas;
  readonly homes: Homes;
  readonly budget: BodyBudget;
  readonly maxBodyBytes: number;
  readonly allowedOrigins: readonly string[];
  readonly hosts: HostPolicy | undefined;
  /** Whether a client may read what tells of all tenants. */
  readonly operatorMay: (authorization: string | undefined) => boolean;
  readonly health: (transport: Transport) => {
    readonly isReady: boolean;
    readonly document: object;
  };
  readonly metrics: () => Promise<{ readonly text: string; readonly contentType: string }>;
  readonly version: string;
  readonly unixSeconds: () => number;
  /** A request that was answered here, or refused before a replica saw it. */
  readonly answered: (status: number, code: string | null) => void;
  readonly opened: (relay: Relay) => void;
  readonly sealed: (isSealed: boolean) => void;
  /** Something that nobody foresaw. */
  readonly failed: (cause: unknown) => void;
  readonly isStopping: () => boolean;
}

/** What a connection's other end can read of a request on its way here. */
export type Transport = 'tls' | 'loopback' | 'plain';

/** One request as it goes through the gateway. */
interface Call {
  readonly incoming: IncomingMessage;
  readonly response: ServerResponse;
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly id: string;
  readonly commonHeaders: Readonly<Record<string, string>>;
  readonly arrivedNs: number;
}

const JSON_ROUTES = new Set([
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/responses',
  '/v1/messages',
  '/v1/messages/count_tokens',
  '/v1/embeddings',
  '/v1/score',
  '/score',
  '/v1/rerank',
  '/v2/rerank',
  '/rerank',
  '/tokenize',
  '/detokenize',
]);
/** Things that a replica keeps: the id is the name of its home. */
const KEPT = /^\/v1\/(?:responses|receipts)\/([A-Za-z0-9_-]{1,128})(?:\/(?:cancel|input_items))?$/;
const RECEIPT_KEY = '/v1/receipts/key';
const MODELS = '/v1/models';

/** Of the head and padding around what is encrypted. */
const ENVELOPE_BYTES_MAX = 128 * 1024;

/** Answers every request: itself, or through a replica. */
export function createListener(parts: FrontParts): RequestListener {
  const cors = new CorsPolicy(parts.allowedOrigins);
  return (incoming, response) => {
    const { headers } = incoming;
    const id = requestIdFrom(text(headers['x-request-id']));
    const call: Call = {
      incoming,
      response,
      method: incoming.method ?? 'GET',
      path: (incoming.url ?? '/').split('?', 1)[0]!,
      authorization: authorizationOf((name) => text(headers[name])),
      id,
      commonHeaders: { 'x-request-id': id, ...cors.headersFor(headers.origin) },
      arrivedNs: parts.nowNs(),
    };
    response.on('error', () => undefined);
    incoming.on('error', () => undefined);
    void handle(call, parts, cors).catch((thrown: unknown) => {
      const error = toApiError(thrown);
      if (error.code === 'internal_error') parts.failed(error.cause);
      parts.answered(error.status, error.code);
      if (thrown instanceof KeyIsGone) return sendKeyIsGone(call);
      sendError(response, error, { api: apiOf(call.path), id, commonHeaders: call.commonHeaders });
      return undefined;
    });
  };
}

async function handle(call: Call, parts: FrontParts, cors: CorsPolicy): Promise<void> {
  const { headers } = call.incoming;
  if (call.path === '/health') {
    const { isReady, document } = parts.health(transportOf(call.incoming));
    return answer(call, parts, isReady ? 200 : 503, document);
  }
  if (!/^\/[\x21-\x7e]*$/.test(call.incoming.url ?? '')) throw noRoute(call);
  parts.hosts?.check(headers.host);
  const preflight =
    call.method === 'OPTIONS'
      ? cors.preflightFor(headers.origin, text(headers['access-control-request-headers']))
      : undefined;
  if (preflight !== undefined) {
    call.response.writeHead(204, { ...call.commonHeaders, ...preflight });
    return void call.response.end();
  }
  cors.check(headers.origin, headers.host);
  if (headers.origin === undefined) {
    cors.checkFetch(text(headers['sec-fetch-site']), text(headers['sec-fetch-dest']));
  }
  if (call.path === '/metrics') return answerMetrics(call, parts);
  const tenant = tenantOf(call, parts);
  if (await answerHere(call, tenant, parts)) return undefined;
  return passOn(call, tenant, parts);
}

/** A report may be asked for with a proof of the key, which shows it to nobody. */
function tenantOf({ path, authorization, incoming }: Call, { fleet }: FrontParts): RouteTenant {
  if (path === REPORT_PATH && authorization?.startsWith('Bridgekeeper-Proof ')) {
    const nonce = new URL(incoming.url!, 'http://gateway').searchParams.get('nonce');
    return fleet.tenantByProof(authorization, nonce);
  }
  return fleet.tenantOf(authorization);
}

async function answerMetrics(call: Call, parts: FrontParts): Promise<void> {
  if (!parts.operatorMay(call.authorization)) {
    throw new ApiError(
      'operator_only',
      'This tells of all tenants: only an operator key reads it.',
    );
  }
  const { text: body, contentType } = await parts.metrics();
  call.response.writeHead(200, { ...call.commonHeaders, 'content-type': contentType });
  call.response.end(body);
}

/** What the gateway knows by itself. */
async function answerHere(call: Call, tenant: RouteTenant, parts: FrontParts): Promise<boolean> {
  const { method, path } = call;
  if (method !== 'GET' && method !== 'HEAD') return false;
  if (path === '/version') answer(call, parts, 200, { version: parts.version });
  else if (path === MODELS) {
    const data = modelsOf(tenant, parts);
    answer(call, parts, 200, { object: 'list', data });
  } else if (path.startsWith(`${MODELS}/`)) {
    const name = decodeURIComponent(path.slice(MODELS.length + 1));
    const model = modelsOf(tenant, parts).find(({ id }) => id === name);
    if (model === undefined) {
      throw new ApiError('model_not_found', 'There is no such model here: see GET /v1/models.');
    }
    answer(call, parts, 200, model);
  } else return false;
  return true;
}

function modelsOf(tenant: RouteTenant, { fleet, unixSeconds }: FrontParts) {
  return fleet
    .poolsOf(tenant)
    .filter(({ route }) => route.state !== 'stopped')
    .flatMap(({ route }) => route.models)
    .map((id) => ({ id, object: 'model', created: unixSeconds(), owned_by: 'bridgekeeper' }));
}

function answer(call: Call, parts: FrontParts, status: number, document: object): void {
  const body = JSON.stringify(document);
  parts.answered(status, null);
  call.response.writeHead(status, {
    ...call.commonHeaders,
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
  });
  call.response.end(body);
}

/** What a request is passed on by. */
interface Way {
  readonly pool: Pool;
  readonly digest: RelayRequest['digest'];
  readonly only: Replica | null;
}

async function passOn(call: Call, tenant: RouteTenant, parts: FrontParts): Promise<void> {
  const { method, path } = call;
  if (parts.isStopping()) throw new ApiError('shutting_down', 'The gateway is shutting down.');
  const isSealed = method === 'POST' && path === ENCRYPTED_PATH;
  const isJson = method === 'POST' && JSON_ROUTES.has(path);
  if (!isSealed && !isJson && !isKept(call) && !isProof(call)) throw noRoute(call);
  if (isJson) requireJson(call);
  const maxBytes = parts.maxBodyBytes + (isSealed ? ENVELOPE_BYTES_MAX : 0);
  const bytes = await readBody(call.incoming, maxBytes, parts.budget);
  const body = { bytes, release: () => parts.budget.give(bytes.length) };
  let admission: Admission | null = null;
  try {
    const way = isJson
      ? await wayOfJson(call, tenant, readBodyFacts(bytes), parts)
      : await wayOfOthers(call, tenant, parts);
    if (isJson || isSealed) {
      // Tokens are not known here: four bytes are about one.
      const promptTokens = isJson ? Math.ceil(bytes.length / 4) : 0;
      admission = parts.quotas.admit(tenant.tenant, 1, promptTokens);
      parts.sealed(isSealed);
    }
    // The client may have left while its body was read, or another replica asked.
    if (call.response.destroyed) {
      body.release();
      return admission?.close(0);
    }
    const request = requestOf(call, tenant, way);
    const relay = new Relay(request, body, call.response, admission, parts);
    parts.opened(relay);
    relay.start();
  } catch (error) {
    body.release();
    throw error;
  }
}

function requestOf(call: Call, tenant: RouteTenant, way: Way): RelayRequest {
  const { incoming, id, arrivedNs, commonHeaders, method } = call;
  // Within an envelope the replica finds a key of its own: this one is for us.
  const isSealed = call.path === ENCRYPTED_PATH;
  return {
    method,
    path: incoming.url!,
    lines: forwardedLines(incoming.rawHeaders),
    authorization: isSealed ? null : (call.authorization ?? null),
    api: apiOf(call.path),
    id,
    tenant,
    ...way,
    arrivedNs,
    commonHeaders,
  };
}

async function wayOfJson(
  call: Call,
  tenant: RouteTenant,
  facts: BodyFacts,
  parts: FrontParts,
): Promise<Way> {
  const { fleet, homes } = parts;
  const pool = fleet.poolFor(tenant, facts.model);
  const { previousResponse, cacheSalt, cacheKey, prefix } = facts;
  if (previousResponse !== null && KEPT.test(`/v1/responses/${previousResponse}`)) {
    const path = `/v1/responses/${previousResponse}`;
    const auth = call.authorization ?? null;
    const only = await homes.find(previousResponse, path, tenant, auth);
    if (only !== null && pool.replicas.has(only)) return { pool, digest: null, only };
  }
  const text = cacheKey ?? prefix;
  if (text === null) return { pool, digest: null, only: null };
  const kind = cacheKey === null ? 'prefix' : 'key';
  return { pool, digest: fleet.digestOf(tenant, kind, cacheSalt ?? '', text), only: null };
}

/** Envelopes, evidence, and what a replica keeps. */
async function wayOfOthers(call: Call, tenant: RouteTenant, parts: FrontParts): Promise<Way> {
  const { fleet, homes } = parts;
  const { path, incoming } = call;
  const id = KEPT.exec(path)?.[1];
  if (id !== undefined && path !== RECEIPT_KEY) {
    const kept = path.replace(/\/(?:cancel|input_items)$/, '');
    const only = await homes.find(id, kept, tenant, call.authorization ?? null);
    if (only !== null) return { pool: poolOf(only, fleet), digest: null, only };
    const code = path.startsWith('/v1/receipts/') ? 'receipt_not_found' : 'response_not_found';
    throw new ApiError(code, 'No replica keeps this for you.');
  }
  const name = text(incoming.headers[REPLICA_HEADER])?.split(';')[0];
  const pools = fleet.poolsOf(tenant);
  if (name !== undefined) {
    for (const pool of pools) {
      const only = [...pool.replicas].find((each) => each.route.replica === name);
      if (only?.route.state === 'serving') return { pool, digest: null, only };
    }
    if (path === ENCRYPTED_PATH) throw new KeyIsGone();
    throw new ApiError('no_replica', 'There is no such replica for you, or it is draining.');
  }
  const model = new URL(incoming.url!, 'http://gateway').searchParams.get('model');
  const pool = model === null ? pools[0] : fleet.poolFor(tenant, model);
  if (pool === undefined) throw new ApiError('model_not_found', 'No model is served to this key.');
  // By the tenant alone, or by what the client says that its requests have in common: the same
  // replica for the report, and for what is encrypted to its key.
  const given = text(incoming.headers[PREFIX_HEADER]);
  if (given !== undefined && !/^[0-9a-f]{64}$/.test(given)) {
    throw new ApiError('invalid_value', `${PREFIX_HEADER} must be 64 hex digits.`);
  }
  const digest = fleet.digestOf(tenant, 'sealed', given ?? '');
  const only = fleet.first(pool, digest);
  return { pool, digest, only };
}

function poolOf(replica: Replica, fleet: Fleet): Pool {
  const pool = [...fleet.pools].find(({ replicas }) => replicas.has(replica));
  if (pool !== undefined) return pool;
  throw new ApiError('no_replica', 'The replica that keeps this is gone.');
}

const isKept = ({ path, method }: Call) =>
  KEPT.test(path) && ['GET', 'HEAD', 'DELETE', 'POST'].includes(method);

/** What a client needs to verify a replica by. */
const isProof = ({ path, method }: Call) =>
  method === 'GET' && (path === REPORT_PATH || path === ENCRYPTED_PATH || path === RECEIPT_KEY);

/** What was encrypted to a replica that takes no requests any more. */
class KeyIsGone extends ApiError {
  constructor() {
    super('no_replica', 'The replica with this key takes no requests any more.');
  }
}

/** RFC 9458, section 5.3: the client verifies anew, and meets another replica. */
function sendKeyIsGone({ response, commonHeaders }: Call): void {
  const type = 'https://iana.org/assignments/http-problem-types#ohttp-key';
  const problem = { type, title: 'The replica with this key takes no requests any more.' };
  response.writeHead(400, { ...commonHeaders, 'content-type': 'application/problem+json' });
  response.end(JSON.stringify(problem));
}

function requireJson({ incoming }: Call): void {
  const type = incoming.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  const encoding = text(incoming.headers['content-encoding'])?.trim().toLowerCase();
  if (type === 'application/json' && (encoding ?? 'identity') === 'identity') return;
  const message = 'The body must be JSON: send "Content-Type: application/json", uncompressed.';
  throw new ApiError('unsupported_media_type', message);
}

function noRoute({ method, path }: Call): ApiError {
  return new ApiError('route_not_found', `There is no route ${method} ${path.slice(0, 200)}.`);
}

function transportOf({ socket }: IncomingMessage): Transport {
  if ((socket as TLSSocket).encrypted === true) return 'tls';
  const address = socket.remoteAddress ?? '';
  const isLoopback = /^(?:127\.|::1$|::ffff:127\.)/.test(address) || address === '';
  return isLoopback ? 'loopback' : 'plain';
}

function text(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
