/** Which browser origins may call. Without any, browsers keep every page of other origins out. */
export class CorsPolicy {
  readonly #origins: ReadonlySet<string>;

  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins);
  }

  /** The headers of an answer to a page of `origin`. */
  headersFor(origin: string | undefined): Record<string, string> {
    if (origin === undefined) return {};
    const everyone = this.#origins.has('*');
    if (!everyone && !this.#origins.has(origin)) return {};
    return {
      'Access-Control-Allow-Origin': everyone ? '*' : origin,
      'Access-Control-Expose-Headers':
        'X-Request-Id, X-Receipt-Id, X-Receipt-Kept, X-Ignored-Fields',
      ...(everyone ? {} : { Vary: 'Origin' }),
    };
  }

  /** What a browser is told that asks before it calls; undefined where it may not. */
  preflightFor(origin: string | undefined): Record<string, string> | undefined {
    const headers = this.headersFor(origin);
    if (headers['Access-Control-Allow-Origin'] === undefined) return undefined;
    return {
      ...headers,
      'Access-Control-Allow-Methods': 'GET, HEAD, POST',
      'Access-Control-Allow-Headers': 'Authorization, Content-Type, X-Request-Id',
      'Access-Control-Max-Age': '600',
    };
  }
}
