// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.
import '@hono/node-server/utils/response';
import { OpenAPIHono } from '@hono/zod-openapi';
import { CorsPolicy } from './http/cors.ts';
import { ApiError, toApiError } from './http/errors.ts';
import { requestIdFrom } from './http/request-id.ts';
import type { AppEnv, ServerContext } from './openai/context.ts';
import { attestationEndpoint } from './routes/attestation.ts';
import { bridgeEndpoint } from './routes/bridge.ts';
import { chatEndpoint } from './routes/chat.ts';
import { completionsEndpoint } from './routes/completions.ts';
import type { Endpoint } from './routes/endpoint.ts';
import { modelEndpoint, modelsEndpoint } from './routes/models.ts';
import { openApiEndpoint } from './routes/openapi.ts';
import { receiptEndpoint, receiptKeyEndpoint, receiptLinksEndpoint } from './routes/receipts.ts';
import { healthEndpoint, metricsEndpoint, versionEndpoint } from './routes/status.ts';
import { detokenizeEndpoint, tokenizeEndpoint } from './routes/tokenize.ts';

type App = OpenAPIHono<AppEnv>;

/** The HTTP application: middleware, routes and errors. It listens to nothing by itself. */
export function createApp(ctx: ServerContext): App {
  const app: App = new OpenAPIHono<AppEnv>();
  const endpoints = [
    chatEndpoint(ctx),
    completionsEndpoint(ctx),
    modelsEndpoint(ctx),
    modelEndpoint(ctx),
    tokenizeEndpoint(ctx),
    detokenizeEndpoint(ctx),
    healthEndpoint(ctx),
    versionEndpoint(ctx),
    metricsEndpoint(ctx),
    bridgeEndpoint(ctx),
    attestationEndpoint(ctx),
    // Before the receipts themselves: these are no ids.
    receiptKeyEndpoint(ctx),
    receiptLinksEndpoint(ctx),
    receiptEndpoint(ctx),
    openApiEndpoint(ctx, () => app),
  ];
  useMiddleware(app, ctx);
  for (const endpoint of endpoints) register(app, ctx, endpoint);
  app.notFound((c) => {
    throw missing(endpoints, c.req.method, c.req.path);
  });
  app.onError((thrown, c) => {
    const error = toApiError(thrown);
    if (error.code === 'internal_error') ctx.log.error(describeFault(error.cause));
    if (error.code === 'method_not_allowed') c.header('Allow', allowed(endpoints, c.req.path));
    for (const [name, value] of Object.entries(error.headers)) c.header(name, value);
    return c.json(error.body, error.status);
  });
  return app;
}

function useMiddleware(app: App, ctx: ServerContext): void {
  const cors = new CorsPolicy(ctx.allowedOrigins);
  const { hosts } = ctx;
  app.use(async (c, next) => {
    c.set('arrivedNs', ctx.clock.nowNs());
    const origin = c.req.header('origin');
    const requestId = requestIdFrom(c.req.header('x-request-id'));
    const commonHeaders = { 'X-Request-Id': requestId, ...cors.headersFor(origin) };
    c.set('requestId', requestId);
    c.set('commonHeaders', commonHeaders);
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
    if (c.req.path !== '/health') {
      const host = c.req.header('host');
      hosts?.check(host);
      cors.check(c.req.header('origin'), host);
      c.set('tenant', ctx.keys.tenantOf(c.req.header('authorization')));
    }
    await next();
  });
}

function register(app: App, ctx: ServerContext, { route, forOperator, handle }: Endpoint): void {
  app.openAPIRegistry.registerPath(route);
  app.on(route.method.toUpperCase(), route.path.replace(/\{(\w+)\}/g, ':$1{.+}'), (c) => {
    if (forOperator === true) ctx.keys.requireOperator(c.req.header('authorization'));
    return handle(c);
  });
}

function allowed(endpoints: readonly Endpoint[], path: string): string {
  const here = endpoints.filter(({ route }) =>
    new RegExp(`^${route.path.replace(/\{\w+\}/g, '.+')}$`).test(path),
  );
  return here.map(({ route }) => (route.method === 'get' ? 'GET, HEAD' : 'POST')).join(', ');
}

function missing(endpoints: readonly Endpoint[], method: string, path: string): ApiError {
  const methods = allowed(endpoints, path);
  if (methods === '') {
    return new ApiError('route_not_found', `There is no route ${method} ${path.slice(0, 200)}.`);
  }
  return new ApiError('method_not_allowed', `This route takes ${methods}, not ${method}.`);
}

/** Where an unforeseen error came from, without its message: that might carry text of a request. */
function describeFault(cause: unknown): string {
  if (!(cause instanceof Error)) return 'a request failed: something that is no error was thrown';
  const frames = (cause.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return [`a request failed: ${cause.name}`, ...frames].join('\n');
}
