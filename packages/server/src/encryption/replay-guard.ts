/** How far a request's date may be from this server's, in seconds. */
const WINDOW_SECONDS = 300;
/** Envelopes that are remembered. With more of them in twice the window, new ones have to wait. */
const REMEMBERED_MAX = 2 ** 18;

export type Admission = 'fresh' | 'stale' | 'replayed' | 'full';

/**
 * Lets each envelope pass once: those of the window are remembered, older ones are refused for
 * their date. A clock that is set back opens no window again; one that is set forward shuts out
 * everybody until it is right, or until the next start, which has new keys.
 */
export class ReplayGuard {
  readonly #rememberedMax: number;
  /** Until when each is remembered, in the order in which they came. */
  readonly #seen = new Map<string, number>();
  #latestSeconds = 0;

  constructor(rememberedMax = REMEMBERED_MAX) {
    this.#rememberedMax = rememberedMax;
  }

  /** `enc` is the envelope's encapsulated key; NaN is a date that is none. */
  admit(enc: Uint8Array, dateSeconds: number, nowSeconds: number): Admission {
    this.#latestSeconds = Math.max(this.#latestSeconds, nowSeconds);
    this.#forget();
    const isTimely = Math.abs(dateSeconds - this.#latestSeconds) <= WINDOW_SECONDS;
    if (!isTimely) return 'stale';
    const name = Buffer.from(enc).toString('base64');
    if (this.#seen.has(name)) return 'replayed';
    if (this.#seen.size >= this.#rememberedMax) return 'full';
    this.#seen.set(name, this.#latestSeconds + 2 * WINDOW_SECONDS);
    return 'fresh';
  }

  #forget(): void {
    for (const [name, untilSeconds] of this.#seen) {
      if (untilSeconds >= this.#latestSeconds) return;
      this.#seen.delete(name);
    }
  }
}
