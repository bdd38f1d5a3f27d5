import { invariant } from '@bridgekeeper/bridge';

/**
 * The KV pages of a device: who holds them, and which freed ones still hold reusable content. A
 * page is free, cached (no holder, but its content may be found again by key) or held (holders >
 * 0). Cached pages are given up oldest first, only when no free page is left.
 */
export class PagePool {
  readonly pages: number;
  readonly #free: number[] = [];
  readonly #holders: Int32Array;
  readonly #keyOf: (string | undefined)[];
  readonly #pageOf = new Map<string, number>();
  /** Cached pages in the order they were let go (a Map iterates in insertion order). */
  readonly #cached = new Map<number, true>();

  constructor(pages: number) {
    this.pages = pages;
    this.#holders = new Int32Array(pages);
    this.#keyOf = new Array(pages);
    for (let page = pages - 1; page >= 0; page--) this.#free.push(page);
  }

  /** Pages that `take` could hand out now. */
  get available(): number {
    return this.#free.length + this.#cached.size;
  }

  get held(): number {
    return this.pages - this.available;
  }

  /** A page with undefined content and one holder. Only when `available` is positive. */
  take(): number {
    let page = this.#free.pop();
    if (page === undefined) {
      page = this.#cached.keys().next().value;
      invariant(page !== undefined, 'take() needs an available page');
      this.#cached.delete(page);
      this.#forget(page);
    }
    this.#holders[page] = 1;
    return page;
  }

  /** The page whose content has `key`, with one more holder; undefined when there is none. */
  find(key: string): number | undefined {
    const page = this.#pageOf.get(key);
    if (page === undefined) return undefined;
    if (this.#holders[page] === 0) this.#cached.delete(page);
    this.#holders[page]! += 1;
    return page;
  }

  /** Says whether `find` would find it, and whether that would cost an available page. */
  peek(key: string): 'held' | 'cached' | undefined {
    const page = this.#pageOf.get(key);
    if (page === undefined) return undefined;
    return this.#holders[page] === 0 ? 'cached' : 'held';
  }

  /**
   * Declares that a held page's content is complete and has `key`. The first page of a key keeps
   * it.
   */
  publish(page: number, key: string): void {
    invariant(this.#holders[page]! > 0, 'only held pages are published');
    if (this.#keyOf[page] !== undefined || this.#pageOf.has(key)) return;
    this.#keyOf[page] = key;
    this.#pageOf.set(key, page);
  }

  /** One holder lets go. */
  release(page: number): void {
    invariant(this.#holders[page]! > 0, 'a page is released once per holder');
    this.#holders[page]! -= 1;
    if (this.#holders[page]! > 0) return;
    if (this.#keyOf[page] === undefined) this.#free.push(page);
    else this.#cached.set(page, true);
  }

  /** Forgets what cached pages hold: their content is lost. */
  forgetCached(): void {
    for (const page of this.#cached.keys()) {
      this.#forget(page);
      this.#free.push(page);
    }
    this.#cached.clear();
  }

  #forget(page: number): void {
    const key = this.#keyOf[page];
    if (key !== undefined) this.#pageOf.delete(key);
    this.#keyOf[page] = undefined;
  }
}
