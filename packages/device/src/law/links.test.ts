import { referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { collectiveNs, lawNsOfCollective, linksOf } from './links.ts';

const profile = referenceProfile('h100-native');
const plain = linksOf(profile, 2);

test('small sums cost their start, large ones what the links carry', () => {
  expect(collectiveNs(plain, 'all-reduce', 4096)).toBeLessThan(1_000);
  const large = 64 * 2 ** 20;
  const ns = collectiveNs(plain, 'all-reduce', large);
  expect(large / ns).toBeGreaterThan(300);
  expect(large / ns).toBeLessThan(330);
  const ofEight = collectiveNs(linksOf(profile, 8), 'all-reduce', large);
  expect(ofEight / ns).toBeCloseTo(1.75, 1);
});

test('encrypted links add a toll to each and take of the rate', () => {
  const collectives = { tollNs: 12_000, rateFactor: 0.8 };
  const encrypted = linksOf({ ...profile, collectives }, 2);
  for (const bytes of [4096, 2 ** 26]) {
    const added = collectiveNs(encrypted, 'all-gather', bytes) - 12_000;
    const start = collectiveNs(plain, 'all-gather', 0);
    const moved = collectiveNs(plain, 'all-gather', bytes) - start;
    expect(added - start).toBeCloseTo(moved / 0.8, 3);
  }
});

test('what was measured is what is taken, by each way to meet', () => {
  const cost = (tollNs: number, bytesPerSecond: number) => ({
    tollNs,
    bandwidth: [{ bytes: 1_048_576, bytesPerSecond }],
  });
  const links = {
    gpus: 2,
    pushed: cost(9_000, 100e9),
    pulled: cost(20_000, 200e9),
    gathered: cost(30_000, 300e9),
  };
  const measured = linksOf({ ...profile, links }, 2);
  expect(collectiveNs(measured, 'all-reduce', 1_000_000)).toBe(9_000 + 10_000);
  expect(collectiveNs(measured, 'all-reduce', 2_000_000)).toBe(20_000 + 10_000);
  expect(collectiveNs(measured, 'all-gather', 3_000_000)).toBe(30_000 + 10_000);
  // The same links between four: three ranks' bytes come to each.
  expect(collectiveNs(linksOf({ links }, 4), 'all-gather', 1_000_000)).toBe(30_000 + 10_000);
  expect(lawNsOfCollective({ links }, 2, 'all-reduce', 1_000_000)).toBe(19_000 - 600 - 6_250);
  const faster = { ...links, pushed: cost(100, 900e9) };
  expect(lawNsOfCollective({ links: faster }, 2, 'all-reduce', 1_000_000)).toBe(0);
});

test('a law takes what encrypted links take beyond plain ones, and else nothing', () => {
  const collectives = { tollNs: 12_000, rateFactor: 0.8 };
  const law = { ...profile, collectives };
  const bytes = 2 ** 20;
  const added = lawNsOfCollective(law, 2, 'all-reduce', bytes);
  expect(added).toBe(
    Math.round(
      collectiveNs(linksOf(law, 2), 'all-reduce', bytes) - collectiveNs(plain, 'all-reduce', bytes),
    ),
  );
  expect(added).toBeGreaterThan(12_000);
  expect(lawNsOfCollective({ ...profile, collectives: undefined }, 2, 'all-reduce', bytes)).toBe(0);
});
