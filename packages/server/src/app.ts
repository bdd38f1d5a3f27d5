// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.
import '@hono/node-server/utils/response';
import { OpenAPIHono } from '@hono/zod-openapi';
import { isAnthropicPath, messageError } from './anthropic/errors.ts';
import { authorizationOf, TENANT_HEADER } from './http/auth.ts';
import { CorsPolicy } from './http/cors.ts';
import { ApiError, toApiError } from './http/errors.ts';
import { REPLICA_HEADER, replicaText } from './http/replica-header.ts';
import { requestIdFrom } from './http/request-id.ts';
import { logAccess } from './logging/access-log.ts';
import type { AppContext, AppEnv, ServerContext } from './openai/context.ts';
import { attestationEndpoint, REPORT_PATH } from './routes/attestation.ts';
import { bridgeEndpoint } from './routes/bridge.ts';
import { chatEndpoint } from './routes/chat.ts';
import { completionsEndpoint } from './routes/completions.ts';
import { consoleEndpoints } from './routes/console.ts';
import { embeddingsEndpoint } from './routes/embeddings.ts';
import { ENCRYPTED_PATH, encryptedEndpoint, encryptionKeysEndpoint } from './routes/encrypted.ts';
import type { Endpoint } from './routes/endpoint.ts';
import { bridgeEventsEndpoint, timelineEndpoint } from './routes/live.ts';
import { countTokensEndpoint, messagesEndpoint } from './routes/messages.ts';
import { modelEndpoint, modelsEndpoint } from './routes/models.ts';
import { openApiEndpoint } from './routes/openapi.ts';
import { pageEndpoint } from './routes/page.ts';
import { planChoicesEndpoint, planEndpoint, whatIfEndpoint } from './routes/plan.ts';
import { receiptEndpoint, receiptKeyEndpoint, receiptLinksEndpoint } from './routes/receipts.ts';
import { requestEndpoint, requestsEndpoint } from './routes/requests.ts';
import {
  cancelResponseEndpoint,
  deleteResponseEndpoint,
  responseEndpoint,
  responseItemsEndpoint,
  responsesEndpoint,
} from './routes/responses.ts';
import { rerankEndpoints, scoreEndpoints } from './routes/scores.ts';
import { isSleepingEndpoint, sleepEndpoint, wakeUpEndpoint } from './routes/sleep.ts';
import { healthEndpoint, metricsEndpoint, versionEndpoint } from './routes/status.ts';
import { detokenizeEndpoint, tokenizeEndpoint } from './routes/tokenize.ts';

type App = OpenAPIHono<AppEnv>;

/** An envelope's own request brings the key, inside. */

/** The HTTP application: middleware, routes and errors. It listens to nothing by itself. */
export function createApp(ctx: ServerContext): App {
  const app: App = new OpenAPIHono<AppEnv>();
  const endpoints = [
    chatEndpoint(ctx),
    completionsEndpoint(ctx),
    messagesEndpoint(ctx),
    countTokensEndpoint(ctx),
    responsesEndpoint(ctx),
    // Before the responses themselves: these are no ids.
    cancelResponseEndpoint(ctx),
    responseItemsEndpoint(ctx),
    responseEndpoint(ctx),
    deleteResponseEndpoint(ctx),
    embeddingsEndpoint(ctx),
    ...scoreEndpoints(ctx),
    ...rerankEndpoints(ctx),
    modelsEndpoint(ctx),
    modelEndpoint(ctx),
    tokenizeEndpoint(ctx),
    detokenizeEndpoint(ctx),
    healthEndpoint(ctx),
    versionEndpoint(ctx),
    metricsEndpoint(ctx),
    bridgeEndpoint(ctx),
    timelineEndpoint(ctx),
    bridgeEventsEndpoint(ctx),
    planChoicesEndpoint(ctx),
    planEndpoint(ctx),
    whatIfEndpoint(ctx),
    requestsEndpoint(ctx),
    requestEndpoint(ctx),
    ...(ctx.hasSleepMode ? [sleepEndpoint(ctx), wakeUpEndpoint(ctx), isSleepingEndpoint(ctx)] : []),
    attestationEndpoint(ctx),
    encryptionKeysEndpoint(ctx),
    encryptedEndpoint(ctx, () => app.fetch),
    // Before the receipts themselves: these are no ids.
    receiptKeyEndpoint(ctx),
    receiptLinksEndpoint(ctx),
    receiptEndpoint(ctx),
    pageEndpoint(),
    ...consoleEndpoints(),
    openApiEndpoint(ctx, () => app),
  ];
  const routeOf = (path: string) =>
    endpoints.find((each) => matches(each, path))?.route.path ?? path.slice(0, MAX_LOGGED_PATH);
  useMiddleware(app, ctx, (c) => logWhenClosed(c, ctx, routeOf(c.req.path)));
  for (const endpoint of endpoints) register(app, ctx, endpoint);
  app.notFound((c) => {
    throw missing(endpoints, c.req.method, c.req.path);
  });
  app.onError((thrown, c) => {
    const error = toApiError(thrown);
    c.set('errorCode', error.code);
    if (error.code === 'internal_error') ctx.log.error(describeFault(error.cause));
    if (error.code === 'method_not_allowed') c.header('Allow', allowed(endpoints, c.req.path));
    for (const [name, value] of Object.entries(error.headers)) c.header(name, value);
    const body = isAnthropicPath(c.req.path) ? messageError(error, c.get('requestId')) : error.body;
    return c.json(body, error.status);
  });
  return app;
}

const MAX_LOGGED_PATH = 100;
/** They need no key: what they say is the same for everybody. */
const OPEN_PATHS: ReadonlySet<string> = new Set(['/', '/console', '/health', ENCRYPTED_PATH]);

/** Logs the request once its connection is done with it. */
function logWhenClosed(c: AppContext, ctx: ServerContext, route: string): void {
  const { outgoing } = c.env;
  outgoing?.once('close', () => {
    const generation = c.get('generation');
    const usage = generation?.usage();
    logAccess(ctx.log, {
      requestId: c.get('requestId'),
      tenant: c.get('tenant'),
      method: c.req.method,
      route,
      status: outgoing.writableFinished ? outgoing.statusCode : CLIENT_LEFT,
      error: c.get('errorCode') ?? generation?.error?.code,
      durationNs: ctx.clock.nowNs() - c.get('arrivedNs'),
      answer: usage && {
        promptTokens: usage.prompt_tokens,
        cachedTokens: usage.prompt_tokens_details.cached_tokens,
        generatedTokens: usage.completion_tokens,
        firstTokenNs: generation?.firstTokenNs,
      },
    });
  });
}

/** As nginx has it. */
const CLIENT_LEFT = 499;

function useMiddleware(app: App, ctx: ServerContext, logLater: (c: AppContext) => void): void {
  const cors = new CorsPolicy(ctx.allowedOrigins);
  const { hosts } = ctx;
  const replica = ctx.replica === null ? {} : { [REPLICA_HEADER]: replicaText(ctx.replica) };
  app.use(async (c, next) => {
    c.set('arrivedNs', ctx.clock.nowNs());
    const origin = c.req.header('origin');
    const requestId = requestIdFrom(c.req.header('x-request-id'));
    const commonHeaders = { 'X-Request-Id': requestId, ...replica, ...cors.headersFor(origin) };
    c.set('requestId', requestId);
    c.set('commonHeaders', commonHeaders);
    if (ctx.logsAccess) logLater(c);
    // Not through `c.res`: that would replace the mark of a response that was already sent.
    for (const [name, value] of Object.entries(commonHeaders)) c.header(name, value);
    const preflight =
      c.req.method === 'OPTIONS'
        ? cors.preflightFor(origin, c.req.header('access-control-request-headers'))
        : undefined;
    if (preflight !== undefined) return c.body(null, 204, preflight);
    await next();
    return undefined;
  });
  app.use(async (c, next) => {
    const authorization = authorizationOf((name) => c.req.header(name));
    if (c.req.path !== '/health') {
      const host = c.req.header('host');
      hosts?.check(host);
      const origin = c.req.header('origin');
      cors.check(origin, host);
      if (origin === undefined) {
        cors.checkFetch(c.req.header('sec-fetch-site'), c.req.header('sec-fetch-dest'));
      }
    }
    const isProven =
      c.req.path === REPORT_PATH && ctx.keys.provesKey(authorization, c.req.query('nonce'));
    const isOpen = OPEN_PATHS.has(c.req.path) || c.req.path.startsWith('/console/');
    const needsKey = !isOpen && !isProven;
    if (needsKey) c.set('tenant', ctx.keys.tenantOf(authorization, c.req.header(TENANT_HEADER)));
    await next();
  });
}

function register(app: App, ctx: ServerContext, { route, forOperator, handle }: Endpoint): void {
  app.openAPIRegistry.registerPath(route);
  app.on(route.method.toUpperCase(), route.path.replace(/\{(\w+)\}/g, ':$1{.+}'), (c) => {
    if (forOperator === true) {
      ctx.keys.requireOperator(authorizationOf((name) => c.req.header(name)));
    }
    return handle(c);
  });
}

function matches({ route }: Endpoint, path: string): boolean {
  return new RegExp(`^${route.path.replace(/\{\w+\}/g, '.+')}$`).test(path);
}

function allowed(endpoints: readonly Endpoint[], path: string): string {
  const here = endpoints.filter((each) => matches(each, path));
  return here.map(({ route }) => METHODS[route.method]).join(', ');
}

const METHODS = { get: 'GET, HEAD', post: 'POST', delete: 'DELETE' } as const;

function missing(endpoints: readonly Endpoint[], method: string, path: string): ApiError {
  const methods = allowed(endpoints, path);
  if (methods === '') {
    const message = `There is no route ${method} ${path.slice(0, 200)}.`;
    return new ApiError('route_not_found', message);
  }
  return new ApiError('method_not_allowed', `This route takes ${methods}, not ${method}.`);
}

/** Where an unforeseen error came from, without its message: that might carry text of a request. */
function describeFault(cause: unknown): string {
  if (!(cause instanceof Error)) return 'a request failed: something that is no error was thrown';
  const frames = (cause.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return [`a request failed: ${cause.name}`, ...frames].join('\n');
}
