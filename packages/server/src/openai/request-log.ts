import type { Clock } from '@bridgekeeper/bridge';
import type { Generation } from './generation.ts';

/** What is known of a request besides its answer. */
export interface RequestHead {
  /** As the header X-Request-Id and the log have it. */
  readonly id: string;
  /** As the answer itself has it. */
  readonly answerId: string;
  readonly tenant: string;
  readonly route: string;
  readonly model: string;
  readonly receiptId: string | null;
  readonly pageTokens: number;
}

/** One request's life, without a word of its text. Times are of the server's clock. */
export interface RequestLife {
  /** As the header X-Request-Id and the log have it. */
  readonly id: string;
  readonly answer_id: string;
  readonly tenant: string;
  readonly route: string;
  readonly model: string;
  /** Whole microseconds. */
  readonly arrived_us: number;
  readonly state: 'open' | 'done';
  /** Of each choice; null: it is not done. */
  readonly finish_reasons: readonly (string | null)[];
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly generated_tokens: number;
  /** From the arrival; null: there was none yet. */
  readonly first_token_ms: number | null;
  /** From the arrival to the end, or to now. */
  readonly total_ms: number;
  /** Of the choice that waited longest: what the engine says of it; null: it is not done. */
  readonly timing: {
    readonly queued_ms: number;
    readonly prefill_ms: number;
    readonly decode_ms: number;
    readonly preemptions: number;
  } | null;
  /** Its share of what crossed, by purpose and direction. */
  readonly crossings: readonly {
    readonly purpose: string;
    readonly direction: string;
    readonly crossings: number;
    readonly bytes: number;
  }[];
  readonly receipt_id: string | null;
  /** Tokens of a KV page: what its pages follow from. */
  readonly page_tokens: number;
}

interface Entry {
  readonly head: RequestHead;
  readonly generation: Generation;
}

const REQUESTS_KEPT = 1_000;
const ms = (ns: number) => Math.round(ns / 1e3) / 1e3;

/** The last requests, newest first, for people who look; texts are never kept. */
export class RequestLog {
  readonly #clock: Clock;
  readonly #kept: number;
  /** In order of arrival. Of one that has ended the generation, with its texts, is not kept. */
  readonly #entries = new Map<string, Entry | RequestLife>();

  constructor(clock: Clock, kept = REQUESTS_KEPT) {
    this.#clock = clock;
    this.#kept = kept;
  }

  add(head: RequestHead, generation: Generation): void {
    const entry: Entry = { head, generation };
    const { id } = head;
    // A client may send the same id again: the newer one is meant.
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    if (this.#entries.size > this.#kept) {
      const [oldest] = this.#entries.keys();
      this.#entries.delete(oldest!);
    }
    void generation.settled.then(() => {
      if (this.#entries.get(id) !== entry) return;
      this.#entries.set(id, lifeOf(entry, this.#clock.nowNs(), 'done'));
    });
  }

  /** Newest first, of one tenant unless `tenant` is null; those that came before `before`. */
  list(tenant: string | null, limit: number, before?: string): RequestLife[] {
    const lives: RequestLife[] = [];
    let isPast = before === undefined || !this.#entries.has(before);
    for (const [id, entry] of [...this.#entries].reverse()) {
      if (lives.length === limit) break;
      const life = this.#lifeOf(entry);
      if (isPast && isOf(life, tenant)) lives.push(life);
      if (id === before) isPast = true;
    }
    return lives;
  }

  get(id: string, tenant: string | null): RequestLife | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    const life = this.#lifeOf(entry);
    return isOf(life, tenant) ? life : undefined;
  }

  #lifeOf(entry: Entry | RequestLife): RequestLife {
    return 'state' in entry ? entry : lifeOf(entry, this.#clock.nowNs(), 'open');
  }
}

/** A `cache_salt` makes tenants of one key. */
function isOf(life: RequestLife, tenant: string | null): boolean {
  return tenant === null || life.tenant === tenant;
}

function lifeOf({ head, generation }: Entry, nowNs: number, state: 'open' | 'done'): RequestLife {
  const { id, answerId, tenant, route, model, receiptId, pageTokens } = head;
  const usage = generation.usage();
  const timings = generation.choices.flatMap(({ outcome }) => outcome?.timing ?? []);
  const slowest = timings.sort((a, b) => b.queuedNs - a.queuedNs)[0];
  const { arrivedNs, firstTokenNs } = generation;
  return {
    id,
    answer_id: answerId,
    tenant,
    route,
    model,
    arrived_us: Math.round(arrivedNs / 1e3),
    state,
    finish_reasons: generation.choices.map(({ outcome }) => outcome?.reason ?? null),
    prompt_tokens: usage.prompt_tokens,
    cached_tokens: usage.prompt_tokens_details.cached_tokens,
    generated_tokens: usage.completion_tokens,
    first_token_ms: firstTokenNs === undefined ? null : ms(firstTokenNs),
    total_ms: ms(nowNs - arrivedNs),
    timing: slowest
      ? {
          queued_ms: ms(slowest.queuedNs),
          prefill_ms: ms(slowest.prefillNs),
          decode_ms: ms(slowest.decodeNs),
          preemptions: slowest.preemptions,
        }
      : null,
    crossings: generation.crossings().map(({ purpose, direction, crossings, bytes }) => {
      return { purpose, direction, crossings, bytes };
    }),
    receipt_id: receiptId,
    page_tokens: pageTokens,
  };
}
