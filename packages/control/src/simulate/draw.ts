/** Chance from one seed: the same seed draws the same. */
export interface Draw {
  /** No faults from now on. */
  isCalm: boolean;
  /** From 0 to below `limit`. */
  below(limit: number): number;
  /** Whether a fault happens that has this probability. */
  chance(probability: number): boolean;
  of<T>(list: readonly T[]): T;
  weighted<T extends readonly [number, ...unknown[]]>(list: readonly T[]): Tail<T>;
  bytes(count: number): Uint8Array;
}

type Tail<T> = T extends readonly [number, ...infer R] ? R : never;

/** splitmix32. */
export function drawFrom(seed: number): Draw {
  let state = seed | 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
  const draw: Draw = {
    isCalm: false,
    below: (limit) => Math.floor(next() * limit),
    chance: (probability) => !draw.isCalm && next() < probability,
    of: (list) => list[draw.below(list.length)]!,
    weighted: (list) => {
      let rest = next() * list.reduce((sum, [weight]) => sum + weight, 0);
      for (const entry of list) {
        rest -= entry[0];
        if (rest < 0) return entry.slice(1) as Tail<(typeof list)[number]>;
      }
      return list.at(-1)!.slice(1) as Tail<(typeof list)[number]>;
    },
    bytes: (count) => Uint8Array.from({ length: count }, () => draw.below(256)),
  };
  return draw;
}
