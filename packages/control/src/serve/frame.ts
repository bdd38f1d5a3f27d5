import { createHash } from 'node:crypto';
import { OpenAPIHono, type z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { type Call, ErrorDocument } from '../api/routes.ts';
import { ControlError, type ControlErrorCode } from '../errors.ts';
import type { Term } from '../lead/term.ts';
import type { Store } from '../store/store.ts';
import type { CallerId, Handler, Input } from './handlers.ts';

/** Every call goes through here: who calls, what it says, and what is answered. */

const STATUS: Readonly<Record<ControlErrorCode, number>> = {
  'bad-request': 400,
  unauthenticated: 401,
  forbidden: 403,
  'join-refused': 403,
  'not-found': 404,
  conflict: 409,
  stale: 409,
  'plan-expired': 410,
  'too-large': 413,
  'host-lied': 422,
  'does-not-fit': 422,
  'over-quota': 429,
  'vmm-refused': 500,
  'vmm-unavailable': 500,
  'store-broken': 500,
  busy: 503,
  'not-leader': 503,
  'outcome-unknown': 503,
  'store-unavailable': 503,
  fenced: 503,
};

export interface FrameContext {
  readonly store: Store;
  /** Throws ControlError 'not-leader'. */
  readonly term: () => Term;
  /** Throws ControlError 'unauthenticated'. */
  readonly callerOf: (c: Context, term: Term) => CallerId;
  readonly bodyBytesMax: number;
  readonly version: string;
  readonly onCrash: (error: unknown) => void;
  /** A call of the API was answered: `ok`, or the code of its error. */
  readonly onAnswer: (call: string, code: string) => void;
}

const METRICS_CALLERS = { callers: ['operator', 'metrics'] } as const satisfies Pick<
  Call,
  'callers'
>;

export type Stream = (c: Context, term: Term, query: unknown) => Response;

/** The application with these calls, their OpenAPI document, and nothing else. */
export class Frame {
  readonly app = new OpenAPIHono();
  readonly #context: FrameContext;

  constructor(context: FrameContext) {
    this.#context = context;
    this.app.onError((error, c) => this.#refuse(c, error));
    this.app.notFound((c) =>
      this.#refuse(c, new ControlError('not-found', `there is no ${c.req.method} ${c.req.path}`)),
    );
    this.app.get('/healthz', (c) => c.json({ leads: this.#leads() }));
    this.app.get('/openapi.json', (c) => c.json(this.document()));
  }

  /**
   * `/metrics`, for operators and for what watches. Who does not lead knows no keys, and shows
   * nothing that names anybody.
   */
  addMetrics(exposition: () => Promise<{ readonly text: string; readonly contentType: string }>) {
    this.app.get('/metrics', async (c) => {
      if (this.#leads()) {
        demandRole(METRICS_CALLERS, this.#context.callerOf(c, this.#context.term()));
      }
      const { text, contentType } = await exposition();
      return c.body(text, 200, { 'content-type': contentType });
    });
  }

  document(): object {
    const document = this.app.getOpenAPI31Document({
      openapi: '3.1.0',
      info: { title: 'Bridgekeeper control', version: this.#context.version },
      security: [{ bearer: [] }],
    });
    const bearer = { type: 'http', scheme: 'bearer' } as const;
    return { ...document, components: { ...document.components, securitySchemes: { bearer } } };
  }

  add<C extends Call>(call: C, handler: Handler<C>): void {
    this.#route(call, async (c, term, caller) => {
      const body = await this.#body(c, call);
      const input = {
        params: parsed(call.params, c.req.param(), 'the path'),
        query: parsed(call.query, c.req.query(), 'the query'),
        body: body.value,
        caller,
        ifMatch: ifMatchOf(c),
      } as unknown as Input<C>;
      return c.json((await this.#answer(call, handler, term, input, c, body.text)) as object);
    });
  }

  addStream(call: Call, stream: Stream): void {
    this.#route(call, async (c, term) =>
      stream(c, term, parsed(call.query, c.req.query(), 'the query')),
    );
  }

  #route(
    call: Call,
    answer: (c: Context, term: Term, caller: CallerId) => Promise<Response>,
  ): void {
    const { method, path, summary, params, query, body, response, isStream } = call;
    const content = isStream === true ? 'text/event-stream' : 'application/json';
    this.app.openAPIRegistry.registerPath({
      method,
      path,
      summary,
      description: `For: ${call.callers.join(', ')}.`,
      request: {
        ...(params === undefined ? {} : { params }),
        ...(query === undefined ? {} : { query }),
        ...(body === undefined
          ? {}
          : { body: { content: { 'application/json': { schema: body } } } }),
      },
      responses: {
        200: { description: 'Done', content: { [content]: { schema: response } } },
        default: {
          description: 'Refused, with a code',
          content: { 'application/json': { schema: ErrorDocument } },
        },
      },
    });
    const name = `${method.toUpperCase()} ${path}`;
    const checked = async (c: Context) => {
      const term = this.#context.term();
      const caller = this.#context.callerOf(c, term);
      demandRole(call, caller);
      return answer(c, term, caller);
    };
    this.app.on(method.toUpperCase(), path.replaceAll(/\{(\w+)\}/g, ':$1'), async (c) => {
      try {
        const response = await checked(c);
        this.#context.onAnswer(name, 'ok');
        return response;
      } catch (error) {
        this.#context.onAnswer(name, error instanceof ControlError ? error.code : 'internal');
        throw error;
      }
    });
  }

  async #answer<C extends Call>(
    call: C,
    handler: Handler<C>,
    term: Term,
    input: Input<C>,
    c: Context,
    text: string,
  ): Promise<unknown> {
    const given = c.req.header('idempotency-key');
    if (!('write' in handler)) {
      if (given !== undefined && call.method !== 'get') {
        throw new ControlError('bad-request', 'Idempotency-Key: this call takes none');
      }
      return 'read' in handler ? handler.read(term, input) : handler.run(term, input);
    }
    const { caller } = input;
    const operation = given === undefined ? null : operationOf(call, c, caller, given, text);
    if (operation !== null) {
      const done = await this.#context.store.operation(operation.key);
      if (done !== null) {
        if (done.digest === operation.digest) return JSON.parse(done.result);
        throw new ControlError('conflict', 'Idempotency-Key: another request has had this key');
      }
    }
    return term.change({
      actor: caller.name,
      operation,
      make: (change) => handler.write(change, input),
    });
  }

  async #body(c: Context, { body }: Call): Promise<{ value: unknown; text: string }> {
    if (body === undefined) return { value: undefined, text: '' };
    const { bodyBytesMax } = this.#context;
    const text = await boundedText(c.req.raw, bodyBytesMax);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw new ControlError('bad-request', 'the body is no JSON');
    }
    return { value: parsed(body, json, 'the body'), text };
  }

  #leads(): boolean {
    try {
      this.#context.term();
      return true;
    } catch {
      return false;
    }
  }

  #refuse(c: Context, error: unknown): Response {
    const known = error instanceof ControlError ? error : null;
    if (known === null) this.#context.onCrash(error);
    const { code, message, nearest } = known ?? {
      code: 'internal',
      message: 'control failed; its log says more',
      nearest: null,
    };
    const status = known === null ? 500 : STATUS[known.code];
    const document = { error: { code, message, nearest } };
    return c.json(document, status as 400, {
      ...(status === 503 ? { 'Retry-After': '1' } : {}),
      // Behind one name there are several: on this connection it would only ever ask this one.
      ...(code === 'not-leader' ? { Connection: 'close' } : {}),
    });
  }
}

function demandRole({ callers }: Pick<Call, 'callers'>, { role }: CallerId): void {
  if (callers.includes(role)) return;
  const message = `a key of the role ${role} may not call this`;
  throw new ControlError('forbidden', `${message}: ${callers.join(' or ')} may`);
}

function operationOf(call: Call, c: Context, { name }: CallerId, given: string, text: string) {
  if (!/^[\x21-\x7e]{1,128}$/.test(given)) {
    throw new ControlError('bad-request', 'Idempotency-Key: must be 1 to 128 characters of ASCII');
  }
  const request = `${call.method} ${c.req.path}\n${c.req.header('if-match') ?? ''}\n${text}`;
  const digest = createHash('sha256').update(request).digest('hex');
  return { key: `${name}/${given}`, digest };
}

function ifMatchOf(c: Context): number | null {
  const text = c.req.header('if-match');
  if (text === undefined) return null;
  const match = /^"?(\d{1,15})"?$/.exec(text);
  if (match === null) throw new ControlError('bad-request', 'If-Match: must be a version');
  return Number(match[1]);
}

function parsed(schema: z.ZodType | undefined, value: unknown, what: string): unknown {
  if (schema === undefined) return undefined;
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue!.path.map(String).join('.');
  const where = path === '' ? what : `${path} in ${what}`;
  throw new ControlError('bad-request', `${where}: ${issue!.message}`);
}

async function boundedText(request: Request, bytesMax: number): Promise<string> {
  const tooLarge = () => new ControlError('too-large', `the body has over ${bytesMax} bytes`);
  if (Number(request.headers.get('content-length') ?? 0) > bytesMax) throw tooLarge();
  if (request.body === null) return '';
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of request.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += part.length;
    if (bytes > bytesMax) throw tooLarge();
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
