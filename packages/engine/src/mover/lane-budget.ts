import { aloneNs, type Direction, type HostMemoryKind, type Profile } from '@bridgekeeper/bridge';

/** Where nothing is known of the bridge. */
const UNKNOWN_BYTES_PER_SECOND = 10e9;

/** For how long a crossing of so many bytes keeps an idle lane, in whole nanoseconds. */
export type LanePrice = (direction: Direction, bytes: number) => number;

export function lanePriceOf(profile: Profile | null, memory: HostMemoryKind): LanePrice {
  return (direction, bytes) =>
    Math.round(
      profile === null
        ? (bytes * 1e9) / UNKNOWN_BYTES_PER_SECOND
        : aloneNs(profile.crossings[direction][memory], bytes),
    );
}

/** How much one crossing counts against what was seen before. */
const NEWS_SHARE = 0.2;
/** What crossings took is believed up to this many times what was expected, or that part of it. */
const BELIEVED_RATIO = 10;

/** A price that follows what crossings take: little may be known of a bridge, or it may change. */
export class LaneMeter {
  readonly #expected: LanePrice;
  readonly #ratios = { h2d: 1, d2h: 1 };

  constructor(expected: LanePrice) {
    this.#expected = expected;
  }

  readonly price: LanePrice = (direction, bytes) =>
    Math.round(this.#expected(direction, bytes) * this.#ratios[direction]);

  /** A crossing of so many bytes kept the lane for so long; `news` is how much that counts. */
  observe(direction: Direction, bytes: number, laneNs: number, news = NEWS_SHARE): void {
    const ratio = laneNs / Math.max(1, this.#expected(direction, bytes));
    const believed = Math.min(BELIEVED_RATIO, Math.max(1 / BELIEVED_RATIO, ratio));
    this.#ratios[direction] += news * (believed - this.#ratios[direction]);
  }
}

/** The kind of host memory from which so many bytes cross sooner. */
export function hostMemoryFor(profile: Profile | null, bytes: number): HostMemoryKind {
  if (profile === null) return 'pinned';
  const nsOf = (memory: HostMemoryKind) =>
    aloneNs(profile.crossings.h2d[memory], bytes) + aloneNs(profile.crossings.d2h[memory], bytes);
  return nsOf('pageable') < nsOf('pinned') ? 'pageable' : 'pinned';
}

/** A crossing that is longer than this gains nothing from being longer still. */
const TOLL_SHARE = 0.005;
const CROSSING_BYTES_MIN = 4 * 2 ** 20;
const CROSSING_BYTES_MAX = 64 * 2 ** 20;
/** Longer ones are cut by the traffic, so that a step waits for no more (`PIECE_NS`). */
const CROSSING_NS_MAX = 10e6;

/** How much should cross at once: so much that its toll hardly counts, within what is not cut. */
export function crossingBytesFor(price: LanePrice): number {
  const tollNs = price('h2d', 1);
  let bytes = CROSSING_BYTES_MIN;
  while (
    bytes < CROSSING_BYTES_MAX &&
    tollNs > TOLL_SHARE * price('h2d', bytes) &&
    price('h2d', 2 * bytes) <= CROSSING_NS_MAX
  ) {
    bytes *= 2;
  }
  return bytes;
}

/** Of unused lane time, so much may be spent at once. */
const SAVED_NS_MAX = 1e9;

/** Caps spills: they may keep the lane for a share of the time, on average over about a second. */
export class LaneBudget {
  readonly #share: number;
  #savedNs = SAVED_NS_MAX;
  #seenNs: number;

  constructor(share: number, nowNs: number) {
    this.#share = share;
    this.#seenNs = nowNs;
  }

  /** Whether so much lane time is left; of what takes longer, as much as can be saved. */
  has(ns: number, nowNs: number): boolean {
    const earnedNs = (nowNs - this.#seenNs) * this.#share;
    this.#seenNs = nowNs;
    this.#savedNs = Math.min(SAVED_NS_MAX, this.#savedNs + earnedNs);
    return this.#savedNs >= Math.min(ns, SAVED_NS_MAX);
  }

  spend(ns: number): void {
    this.#savedNs -= ns;
  }
}
