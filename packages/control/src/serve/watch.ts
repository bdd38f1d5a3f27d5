import type { RoutingChange } from '../api/routing.ts';
import type { Committed, Term } from '../lead/term.ts';
import type { Store, StoredEvent } from '../store/store.ts';

/** What is kept for those who come back within a moment. */
const CHANGES_KEPT = 10_000;
/** What may wait for one who reads slowly; then its stream is ended, and it begins anew. */
const WAITING_MAX = 20_000;
const EVENTS_PER_READ = 500;

/** Resolves after a while, or once the signal aborts. */
type Wait = (signal: AbortSignal) => Promise<void>;

/** One who watches: what waits for it, and whether it is still served. */
class Watcher<T> {
  readonly #waiting: T[] = [];
  #wake: (() => void) | null = null;
  #isOver = false;

  push(items: readonly T[]): void {
    if (this.#isOver) return;
    if (this.#waiting.length + items.length > WAITING_MAX) {
      this.end();
      return;
    }
    this.#waiting.push(...items);
    this.#wake?.();
  }

  end(): void {
    this.#isOver = true;
    this.#waiting.length = 0;
    this.#wake?.();
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** What has come, at once if something has; empty if `wait` was over first. */
  async next(wait: Wait): Promise<readonly T[]> {
    if (this.#waiting.length === 0 && !this.#isOver) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const over = new AbortController();
      await Promise.race([woken, wait(over.signal)]);
      // Else one more would wait with each thing that comes.
      over.abort();
      this.#wake = null;
    }
    return this.#waiting.splice(0);
  }
}

/** What a term wrote, for all who watch it. They are ended with it, and come to the next. */
export class Watch {
  readonly #store: Store;
  readonly #routing: RoutingChange[] = [];
  readonly #routingWatchers = new Set<Watcher<RoutingChange>>();
  readonly #eventWatchers = new Set<Watcher<StoredEvent>>();
  readonly #hostWatchers = new Map<string, Set<Watcher<string>>>();
  /** Before the first routing change that is kept. */
  #routingFrom: number;
  #isOver = false;

  constructor(store: Store, { sequence }: Pick<Term, 'sequence'>) {
    this.#store = store;
    this.#routingFrom = sequence;
  }

  committed({ sequence, atMs, changes, routing }: Committed): void {
    this.#routing.push(...routing);
    if (this.#routing.length > CHANGES_KEPT) {
      const gone = this.#routing.splice(0, this.#routing.length - CHANGES_KEPT);
      this.#routingFrom = gone.at(-1)!.sequence;
    }
    for (const watcher of this.#routingWatchers) watcher.push(routing);
    if (this.#eventWatchers.size > 0) {
      const first = sequence - changes.length + 1;
      const events = changes.map(({ kind, id, from, body }, index) => {
        return { sequence: first + index, atMs, kind, id, version: from + 1, body };
      });
      for (const watcher of this.#eventWatchers) watcher.push(events);
    }
    for (const { kind, id } of changes) {
      if (kind !== 'host') continue;
      for (const watcher of this.#hostWatchers.get(id) ?? []) watcher.push([id]);
    }
  }

  /** Routing changes after that sequence and from now on; null: they are not kept any more. */
  routing(from: number): Watcher<RoutingChange> | null {
    if (from < this.#routingFrom) return null;
    const watcher = this.#watcher<RoutingChange>();
    watcher.push(this.#routing.filter(({ sequence }) => sequence > from));
    this.#routingWatchers.add(watcher);
    return watcher;
  }

  /** Events after that sequence, the stored ones first, and each once. */
  async *events(from: number, wait: Wait): AsyncGenerator<StoredEvent | null> {
    const watcher = this.#watcher<StoredEvent>();
    this.#eventWatchers.add(watcher);
    try {
      let last = from;
      for (;;) {
        const stored = await this.#store.events(last, EVENTS_PER_READ);
        if (stored.length === 0) break;
        for (const event of stored) yield event;
        last = stored.at(-1)!.sequence;
      }
      while (!watcher.isOver) {
        const events = await watcher.next(wait);
        if (events.length === 0) yield null;
        for (const event of events) {
          if (event.sequence <= last) continue;
          last = event.sequence;
          yield event;
        }
      }
    } finally {
      this.#eventWatchers.delete(watcher);
    }
  }

  /** Told when a host’s row changes: it may have a new command. */
  host(host: string): Watcher<string> {
    const watcher = this.#watcher<string>();
    const watchers = this.#hostWatchers.get(host) ?? new Set();
    watchers.add(watcher);
    this.#hostWatchers.set(host, watchers);
    return watcher;
  }

  leave(watcher: Watcher<RoutingChange>): void {
    this.#routingWatchers.delete(watcher);
  }

  leaveHost(host: string, watcher: Watcher<string>): void {
    const watchers = this.#hostWatchers.get(host);
    watchers?.delete(watcher);
    if (watchers?.size === 0) this.#hostWatchers.delete(host);
  }

  /** One who comes when it is over hears so at once. */
  #watcher<T>(): Watcher<T> {
    const watcher = new Watcher<T>();
    if (this.#isOver) watcher.end();
    return watcher;
  }

  end(): void {
    this.#isOver = true;
    for (const watcher of [...this.#routingWatchers, ...this.#eventWatchers]) watcher.end();
    for (const watchers of this.#hostWatchers.values()) {
      for (const watcher of watchers) watcher.end();
    }
  }
}
