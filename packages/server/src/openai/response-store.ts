import { Dict, type TemplateValue } from '@bridgekeeper/engine/text';

/** What is known of its form here. */
interface KeptDocument {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created_at: number;
}

/** A response that is kept, with all that was said up to its end. */
export interface KeptResponse {
  readonly response: KeptDocument;
  /** Of its own request. */
  readonly input: readonly Dict[];
  /** Its own. */
  readonly output: readonly Dict[];
  /** Everything before it, its input and its output. */
  readonly conversation: readonly Dict[];
}

export interface StoreLimits {
  /** Of all tenants together; 0: nothing is kept. */
  readonly maxBytes: number;
  /** Of one tenant. */
  readonly maxResponses: number;
  readonly keptSeconds: number;
}

interface Entry extends KeptResponse {
  readonly bytes: number;
}

interface Shelf {
  /** In order of their coming. */
  readonly kept: Map<string, Entry>;
  bytes: number;
}

/**
 * Keeps responses in memory, so that a conversation can go on without being sent again. When there
 * is no more room, the tenant that holds most loses its oldest: none can push out what others hold
 * within an equal part. A tenant can reach nothing of another's.
 */
export class ResponseStore {
  readonly #limits: StoreLimits;
  readonly #unixSeconds: () => number;
  readonly #shelves = new Map<string, Shelf>();
  #bytes = 0;

  constructor(limits: StoreLimits, unixSeconds: () => number) {
    this.#limits = limits;
    this.#unixSeconds = unixSeconds;
  }

  /** Whether anything is kept at all. */
  get isOpen(): boolean {
    return this.#limits.maxBytes > 0;
  }

  /** What all responses take that are kept now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** One too large for the store is not kept. */
  keep(tenant: string, kept: KeptResponse): void {
    this.expire();
    const { maxBytes, maxResponses } = this.#limits;
    const entry = { ...kept, bytes: bytesOf(kept) };
    if (entry.bytes > maxBytes) return;
    let shelf = this.#shelves.get(tenant);
    if (shelf === undefined) {
      shelf = { kept: new Map(), bytes: 0 };
      this.#shelves.set(tenant, shelf);
    }
    shelf.kept.set(entry.response.id, entry);
    shelf.bytes += entry.bytes;
    this.#bytes += entry.bytes;
    if (shelf.kept.size > maxResponses) this.#removeOldest(tenant);
    while (this.#bytes > maxBytes) this.#removeOldest(this.#largest());
  }

  find(tenant: string, id: string): KeptResponse | undefined {
    this.expire();
    return this.#shelves.get(tenant)?.kept.get(id);
  }

  /** Those of these items that a tenant's responses hold, by their ids. */
  findItems(tenant: string, ids: ReadonlySet<string>): ReadonlyMap<string, Dict> {
    const found = new Map<string, Dict>();
    if (ids.size === 0) return found;
    for (const { input, output } of this.#shelves.get(tenant)?.kept.values() ?? []) {
      for (const items of [input, output]) {
        for (const item of items) {
          const id = item.get('id');
          if (typeof id === 'string' && ids.has(id)) found.set(id, item);
        }
      }
    }
    return found;
  }

  /** Whether it was there. */
  remove(tenant: string, id: string): boolean {
    const shelf = this.#shelves.get(tenant);
    const entry = shelf?.kept.get(id);
    if (shelf === undefined || entry === undefined) return false;
    shelf.kept.delete(id);
    shelf.bytes -= entry.bytes;
    this.#bytes -= entry.bytes;
    if (shelf.kept.size === 0) this.#shelves.delete(tenant);
    return true;
  }

  #removeOldest(tenant: string): void {
    const [oldest] = this.#shelves.get(tenant)!.kept.keys();
    this.remove(tenant, oldest!);
  }

  #largest(): string {
    const shelves = [...this.#shelves];
    return shelves.reduce((most, each) => (each[1].bytes > most[1].bytes ? each : most))[0];
  }

  /** Removes what was kept for its time. */
  expire(): void {
    const since = this.#unixSeconds() - this.#limits.keptSeconds;
    for (const [tenant, { kept }] of this.#shelves) {
      for (const [id, { response }] of kept) {
        if (response.created_at > since) break;
        this.remove(tenant, id);
      }
    }
  }
}

/** What several responses share is counted for each. */
function bytesOf({ response, conversation }: KeptResponse): number {
  const items = conversation.reduce((sum, item) => sum + valueBytes(item), 0);
  return items + 2 * JSON.stringify(response).length;
}

/** What a value takes in memory, and rather more than less. */
function valueBytes(value: TemplateValue): number {
  if (typeof value === 'string') return 32 + 2 * value.length;
  if (Array.isArray(value)) return value.reduce<number>((sum, each) => sum + valueBytes(each), 64);
  if (!(value instanceof Dict)) return 32;
  let bytes = 256;
  for (const [key, each] of value.entries()) bytes += 64 + valueBytes(key) + valueBytes(each);
  return bytes;
}
