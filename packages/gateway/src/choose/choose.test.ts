import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Candidate, choose, rank } from './choose.ts';
import { routeDigest } from './digest.ts';

const KEY = Buffer.alloc(32, 7).toString('base64url');
const digestOf = (text: string) => routeDigest(KEY, 'salt', text);

interface Named extends Candidate {
  readonly name: string;
}

const candidate = (name: string, changes: Partial<Named> = {}): Named => ({
  name,
  seed: digestOf(`replica ${name}`),
  weight: 1,
  inFlight: 0,
  inFlightMax: 1000,
  ...changes,
});
const fleet = (count: number) => Array.from({ length: count }, (_, at) => candidate(`r${at}`));
const AFFINITY = { inFlight: 0, splitAt: 4, loadFactor: 1.25 };

describe('the order of a digest', () => {
  it('changes only where a replica comes or goes', () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 2, max: 12 }), fc.nat(), (text, count, at) => {
        const all = fleet(count);
        const gone = all[at % count]!;
        const before = rank(all, digestOf(text)).filter((each) => each !== gone);
        const without = all.filter((each) => each !== gone);
        expect(rank(without, digestOf(text))).toEqual(before);
      }),
    );
  });

  it('gives each replica its weight of the digests', () => {
    const all = [candidate('a'), candidate('b'), candidate('c', { weight: 2 })];
    const counts = { a: 0, b: 0, c: 0 };
    for (let at = 0; at < 8000; at++) {
      counts[rank(all, digestOf(`prefix ${at}`))[0]!.name as 'a'] += 1;
    }
    // Of 8000, 2000 and 4000 are expected: five standard deviations are 194 and 224.
    expect(Math.abs(counts.a - 2000)).toBeLessThan(194);
    expect(Math.abs(counts.b - 2000)).toBeLessThan(194);
    expect(Math.abs(counts.c - 4000)).toBeLessThan(224);
  });

  it('is another for each tenant and each key', () => {
    const names = (salt: string, key = KEY) =>
      rank(fleet(12), routeDigest(key, salt, 'the same prompt')).map(({ name }) => name);
    const other = Buffer.alloc(32, 8).toString('base64url');
    expect(names('one')).not.toEqual(names('two'));
    expect(names('one')).not.toEqual(names('one', other));
    expect(routeDigest(KEY, 'a', 'b', 'c').name).not.toBe(routeDigest(KEY, 'a', 'bc').name);
  });
});

describe('the replica of a request', () => {
  it('is the same for the same prefix while none is too busy', () => {
    const first = choose(fleet(5), digestOf('p'), AFFINITY)!;
    expect(choose(fleet(5), digestOf('p'), AFFINITY)!.name).toBe(first.name);
  });

  it('is never full, and is one wherever one is not', () => {
    const loads = fc.array(fc.record({ load: fc.nat(5), weight: fc.integer({ min: 1, max: 9 }) }));
    fc.assert(
      fc.property(loads, fc.option(fc.string()), (all, text) => {
        const candidates = all.map(({ load, weight }, at) =>
          candidate(`r${at}`, { inFlight: load, inFlightMax: 4, weight }),
        );
        const chosen = choose(candidates, text === null ? null : digestOf(text), AFFINITY);
        const isFull = candidates.every(({ inFlight }) => inFlight >= 4);
        if (isFull) expect(chosen).toBeNull();
        else expect(chosen!.inFlight).toBeLessThan(4);
      }),
    );
  });

  it('keeps every replica near its fair share, even if all requests have one prefix', () => {
    const all = fleet(4).map((each) => ({ ...each }));
    for (let count = 1; count <= 400; count++) {
      const chosen = choose(all, digestOf('hot'), { ...AFFINITY, inFlight: 0 })!;
      (chosen as { inFlight: number }).inFlight += 1;
      for (const { inFlight } of all) {
        expect(inFlight).toBeLessThanOrEqual(Math.ceil((1.25 * count) / 4));
      }
    }
  });

  it('is of more replicas the more requests of one prefix there are', () => {
    const used = (inFlight: number) => {
      const all = fleet(8).map((each) => ({ ...each, inFlight: 20 }));
      const names = new Set<string>();
      for (let count = 0; count < 40; count++) {
        const chosen = choose(all, digestOf('hot'), { inFlight, splitAt: 4, loadFactor: 2 })!;
        (chosen as { inFlight: number }).inFlight += 1;
        names.add(chosen.name);
        if (names.size > 1 && inFlight === 0) break;
      }
      return names.size;
    };
    // Without a split, the first takes what its bound allows before the second has any.
    const all = fleet(8).map((each) => ({ ...each, inFlight: 20 }));
    const alone = { inFlight: 0, splitAt: 4, loadFactor: 2 };
    expect(new Set([1, 2, 3].map(() => choose(all, digestOf('hot'), alone)!.name)).size).toBe(1);
    expect(used(8)).toBe(3);
    expect(used(28)).toBe(8);
  });
});
