import { ApiError } from './errors.ts';

/** What clients' libraries send: OpenAI's and those made like it, and Anthropic's. */
const REQUEST_HEADERS = [
  'accept',
  'anthropic-beta',
  'anthropic-dangerous-direct-browser-access',
  'anthropic-version',
  'authorization',
  'content-type',
  'idempotency-key',
  'openai-beta',
  'openai-organization',
  'openai-project',
  'user-agent',
  'x-api-key',
  'x-request-id',
];
const LIBRARY_HEADER = /^x-stainless-[a-z-]{1,64}$/;

/** Which browser origins may call. Without any, every page of another origin is refused. */
export class CorsPolicy {
  readonly #origins: ReadonlySet<string>;

  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins);
  }

  /**
   * A page can send some requests without asking first, and does not need to read the answer for
   * the work to be done. `origin`: the header, absent in requests of no browser. Throws ApiError
   * `origin_not_allowed` for another origin than `host`, unless it is allowed.
   */
  check(origin: string | undefined, host: string | undefined): void {
    if (origin === undefined || this.#allows(origin)) return;
    const isOwn = URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
    if (isOwn) return;
    const message =
      'Pages of that origin may not call this server: start it with --allowed-origins <origin>.';
    throw new ApiError('origin_not_allowed', message);
  }

  /**
   * What a page fetches without CORS, as an image, a script or a frame, brings no Origin, and shows
   * by its size or its time what it was. `site` and `destination`: what browsers say of it in
   * Sec-Fetch-Site and Sec-Fetch-Dest; other clients send neither. Throws ApiError
   * `origin_not_allowed` for pages of other origins; following a link shows them nothing.
   */
  checkFetch(site: string | undefined, destination: string | undefined): void {
    const isOther = site === 'cross-site' || site === 'same-site';
    if (!isOther || destination === 'document' || this.#origins.has('*')) return;
    const message = 'Pages of other origins may not embed what this server answers.';
    throw new ApiError('origin_not_allowed', message);
  }

  /** The headers of an answer to a page of `origin`. */
  headersFor(origin: string | undefined): Record<string, string> {
    if (origin === undefined || !this.#allows(origin)) return {};
    const everyone = this.#origins.has('*');
    return {
      'Access-Control-Allow-Origin': everyone ? '*' : origin,
      'Access-Control-Expose-Headers':
        'X-Request-Id, X-Receipt-Id, X-Receipt-Kept, X-Ignored-Fields, X-Bridgekeeper-Replica',
      ...(everyone ? {} : { Vary: 'Origin' }),
    };
  }

  /**
   * What a browser is told that asks before it calls, with the headers that it would send;
   * undefined where it may not.
   */
  preflightFor(
    origin: string | undefined,
    requestHeaders: string | undefined,
  ): Record<string, string> | undefined {
    const headers = this.headersFor(origin);
    if (headers['Access-Control-Allow-Origin'] === undefined) return undefined;
    const asked = (requestHeaders ?? '').toLowerCase().split(',');
    const library = asked.map((name) => name.trim()).filter((name) => LIBRARY_HEADER.test(name));
    return {
      ...headers,
      'Access-Control-Allow-Methods': 'GET, HEAD, POST, DELETE',
      'Access-Control-Allow-Headers': [...REQUEST_HEADERS, ...library].join(', '),
      'Access-Control-Max-Age': '600',
    };
  }

  #allows(origin: string): boolean {
    return this.#origins.has('*') || this.#origins.has(origin);
  }
}
