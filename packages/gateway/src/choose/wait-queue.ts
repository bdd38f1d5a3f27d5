/** A request that waits for a place. */
export interface Waiting {
  readonly tenant: string;
  /** The tenant's share under contention. */
  readonly weight: number;
}

interface Line<W> {
  readonly waiting: Set<W>;
  /** Virtual time: requests begun over its weight. */
  served: number;
}

/**
 * Requests that wait, by tenant: the tenant that has had the least for its weight goes next, its
 * own requests in their order. A tenant that comes back begins with what the least served of those
 * that wait has had: being idle earns nothing.
 */
export class WaitQueue<W extends Waiting> {
  readonly #lines = new Map<string, Line<W>>();
  #length = 0;
  /** What the last one that went had been served. */
  #now = 0;

  get length(): number {
    return this.#length;
  }

  add(request: W): void {
    const line = this.#lines.get(request.tenant) ?? { waiting: new Set<W>(), served: 0 };
    if (line.waiting.size === 0) line.served = Math.max(line.served, this.#now);
    this.#lines.set(request.tenant, line);
    line.waiting.add(request);
    this.#length += 1;
  }

  remove(request: W): void {
    const line = this.#lines.get(request.tenant);
    if (line?.waiting.delete(request)) this.#length -= 1;
  }

  /** Takes out the one that goes next of those that `may`; undefined: none does. */
  take(may: (request: W) => boolean): W | undefined {
    let best: { readonly line: Line<W>; readonly request: W } | undefined;
    for (const [tenant, line] of this.#lines) {
      // Nothing is owed to it, and it owes nothing: it would begin as a new one does.
      if (line.waiting.size === 0 && line.served <= this.#now) this.#lines.delete(tenant);
      if (best !== undefined && line.served >= best.line.served) continue;
      for (const request of line.waiting) {
        if (!may(request)) continue;
        best = { line, request };
        break;
      }
    }
    if (best === undefined) return undefined;
    const { line, request } = best;
    line.waiting.delete(request);
    this.#length -= 1;
    this.#now = Math.max(this.#now, line.served);
    line.served += 1 / request.weight;
    return request;
  }
}
