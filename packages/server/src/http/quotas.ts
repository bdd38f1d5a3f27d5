import type { Clock } from '@bridgekeeper/bridge';
import type { EngineShare } from '@bridgekeeper/engine';
import { ApiError } from './errors.ts';
import type { KeyLimits } from './key-file.ts';

/** What one tenant has open, and how many tokens it may still have now. */
interface Account {
  limits: KeyLimits;
  open: number;
  readonly tokens: Bucket;
  readonly requests: Bucket;
}

/** What comes evenly, up to a minute's worth. */
interface Bucket {
  /** Below zero: more was taken than there was. */
  left: number;
  refilledNs: number;
}

/** What the tenants share. */
export interface SharedRoom {
  readonly maxRows: number;
  /** Places in the queue of all tenants. */
  readonly maxWaiting: number;
}

/** An answer that was let in. */
export interface Admission {
  /** It has ended, with this many tokens generated. */
  close(generatedTokens: number): void;
}

/**
 * Holds each key to its limits. Tokens come evenly, up to a minute's worth; prompts are paid for
 * when they come and answers when they have ended, so that none is cut off for it.
 */
export class Quotas {
  readonly #accounts = new Map<string, Account>();
  #limits: ReadonlyMap<string, KeyLimits>;
  readonly #defaults: KeyLimits;
  #room: SharedRoom;
  readonly #clock: Pick<Clock, 'nowNs'>;
  #open = 0;

  /** `limits` by tenant; every other tenant has the limits `defaults`. */
  constructor(
    limits: ReadonlyMap<string, KeyLimits>,
    defaults: KeyLimits,
    room: SharedRoom,
    clock: Pick<Clock, 'nowNs'>,
  ) {
    this.#limits = limits;
    this.#defaults = defaults;
    this.#room = room;
    this.#clock = clock;
  }

  /** From now on these hold: what is open stays so, and what was used stays used. */
  change(limits: ReadonlyMap<string, KeyLimits>, room: SharedRoom): void {
    this.#limits = limits;
    this.#room = room;
    for (const [tenant, account] of this.#accounts) {
      if (account.open === 0 && !limits.has(tenant)) {
        this.#accounts.delete(tenant);
        continue;
      }
      const { tokensPerMinute, requestsPerMinute } = account.limits;
      account.limits = this.#limitsOf(tenant);
      // Nothing was counted yet against a limit that is new.
      if (tokensPerMinute === undefined) this.#fill(account.tokens, account.limits.tokensPerMinute);
      if (requestsPerMinute !== undefined) continue;
      this.#fill(account.requests, account.limits.requestsPerMinute);
    }
  }

  /** What part of the engine a tenant's requests use. */
  shareOf(tenant: string): EngineShare {
    const { weight, maxRunning } = this.#limitsOf(tenant);
    return { owner: tenant, weight, ...(maxRunning === undefined ? {} : { maxRows: maxRunning }) };
  }

  /**
   * Lets in an answer of so many choices, with all their prompts' tokens. Throws ApiError
   * `rate_limited`, with the time after which it may be let in.
   */
  admit(tenant: string, choices: number, promptTokens: number): Admission {
    const account = this.#accountOf(tenant);
    const { maxRunning = this.#room.maxRows, tokensPerMinute, requestsPerMinute } = account.limits;
    const maxWaiting = account.limits.maxWaiting ?? this.#fairWaiting();
    if (account.open + choices > maxRunning + maxWaiting) {
      const message = `This key has ${account.open} requests open and asks for ${choices} more; `;
      throw new ApiError(
        'rate_limited',
        `${message}${maxRunning} may run and ${maxWaiting} wait.`,
        undefined,
        { retryAfterSeconds: 1 },
      );
    }
    this.#require(account.tokens, tokensPerMinute, 'tokens');
    this.#require(account.requests, requestsPerMinute, 'requests');
    this.#open += choices;
    account.open += choices;
    account.tokens.left -= promptTokens;
    account.requests.left -= 1;
    return {
      close: (generatedTokens) => {
        this.#open -= choices;
        account.open -= choices;
        account.tokens.left -= generatedTokens;
      },
    };
  }

  /**
   * How many of a key may wait that has no bound of its own: as many as there are places left in
   * the queue of all. So one key alone takes half of it, and a key that comes later finds room.
   */
  #fairWaiting(): number {
    if (this.#limits.size <= 1) return Number.POSITIVE_INFINITY;
    const { maxRows, maxWaiting } = this.#room;
    return Math.max(0, maxWaiting - Math.max(0, this.#open - maxRows));
  }

  /** Throws ApiError `rate_limited` unless there is one left. */
  #require(bucket: Bucket, perMinute: number | undefined, what: string): void {
    if (perMinute === undefined) return;
    const nowNs = this.#clock.nowNs();
    const earned = ((nowNs - bucket.refilledNs) / 60e9) * perMinute;
    // Of less than one a minute, one comes all the same in time.
    bucket.left = Math.min(Math.max(1, perMinute), bucket.left + earned);
    bucket.refilledNs = nowNs;
    if (bucket.left >= 1) return;
    const retryAfterSeconds = ((1 - bucket.left) * 60) / perMinute;
    const message = `This key has used its ${perMinute} ${what} a minute.`;
    throw new ApiError('rate_limited', message, undefined, { retryAfterSeconds });
  }

  #fill(bucket: Bucket, perMinute: number | undefined): void {
    bucket.left = perMinute ?? 0;
    bucket.refilledNs = this.#clock.nowNs();
  }

  #limitsOf(tenant: string): KeyLimits {
    return this.#limits.get(tenant) ?? this.#defaults;
  }

  #accountOf(tenant: string): Account {
    const known = this.#accounts.get(tenant);
    if (known !== undefined) return known;
    const limits = this.#limitsOf(tenant);
    const bucket = (perMinute = 0) => ({ left: perMinute, refilledNs: this.#clock.nowNs() });
    const tokens = bucket(limits.tokensPerMinute);
    const account = { limits, open: 0, tokens, requests: bucket(limits.requestsPerMinute) };
    this.#accounts.set(tenant, account);
    return account;
  }
}
