import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Crossing } from './crossing.ts';
import { InvariantError } from './invariant.ts';
import { FRESH_CHANNEL, type Situation } from './law.ts';
import { type Profile, parseProfile } from './profile.ts';
import { aloneNs, profileLaw } from './profile-law.ts';
import { REFERENCE_PROFILE_NAMES, referenceProfile } from './reference-profiles.ts';

/** Round numbers: toll 10 us idle, 30 us queued, 40 us more when fresh; 1 GB/s to 4 GB/s. */
function roundProfile(changes: Partial<Profile> = {}): Profile {
  const blocking = {
    idleTollNs: 10_000,
    queuedTollNs: 20_000,
    freshTollNs: 40_000,
    bandwidth: [
      { bytes: 1_000, bytesPerSecond: 1e9 },
      { bytes: 100_000, bytesPerSecond: 4e9 },
    ],
    issuer: { blockedUntil: 'done' as const },
  };
  const free = { ...blocking, issuer: { blockedUntil: 'issued' as const, issueNs: 3_000 } };
  return parseProfile({
    ...referenceProfile('b300-cc'),
    crossings: {
      h2d: { pinned: blocking, pageable: free },
      d2h: { pinned: blocking, pageable: blocking },
    },
    contexts: {
      ...referenceProfile('b300-cc').contexts,
      aggregateRate: [
        { contexts: 1, factor: 1 },
        { contexts: 3, factor: 2 },
      ],
    },
    ...changes,
  });
}

function crossing(bytes: number, changes: Partial<Crossing> = {}): Crossing {
  const plain = { direction: 'h2d', purpose: 'command', tenant: 'a', memory: 'pinned' } as const;
  return { bytes, ...plain, ...changes };
}

function at(issuedNs: number, changes: Partial<Situation> = {}): Situation {
  return { issuedNs, streamReadyNs: 0, channel: FRESH_CHANNEL, contexts: 1, ...changes };
}

const law = profileLaw(roundProfile());

test('idle stream: toll, then bytes at the rate of their size', () => {
  // 1000 bytes at 1 GB/s are 1000 ns.
  const small = law.schedule(crossing(1_000), at(5_000));
  expect(small.startedNs).toBe(5_000);
  expect(small.completedNs).toBe(5_000 + 10_000 + 1_000);
  // 200,000 bytes at 4 GB/s are 50,000 ns.
  expect(law.schedule(crossing(200_000), at(0)).completedNs).toBe(60_000);
  // 10,000 bytes lie halfway between the points in both logarithms: 2 GB/s.
  expect(law.schedule(crossing(10_000), at(0)).completedNs).toBe(15_000);
  expect(law.schedule(crossing(0), at(0)).completedNs).toBe(10_000);
});

test('queued stream: it waits for the work, and the toll is higher', () => {
  const schedule = law.schedule(crossing(1_000), at(5_000, { streamReadyNs: 90_000 }));
  expect(schedule.startedNs).toBe(90_000);
  expect(schedule.completedNs).toBe(90_000 + 30_000 + 1_000);
  const ready = law.schedule(crossing(1_000), at(5_000, { streamReadyNs: 5_000 }));
  expect(ready.completedNs).toBe(5_000 + 10_000 + 1_000);
});

test('an issuer that stages what it copies goes on once it is staged', () => {
  const round = roundProfile();
  const { pageable } = round.crossings.h2d;
  // 3 us, and 10,000 bytes at 5 GB/s.
  const issuer = { blockedUntil: 'issued', issueNs: 3_000, issueBytesPerSecond: 5e9 } as const;
  const h2d = { ...round.crossings.h2d, pageable: { ...pageable, issuer } };
  const staging = profileLaw(roundProfile({ crossings: { ...round.crossings, h2d } }));
  const queued = at(5_000, { streamReadyNs: 90_000 });
  const copy = crossing(10_000, { memory: 'pageable' });
  expect(staging.schedule(copy, queued).issuerFreeNs).toBe(5_000 + 3_000 + 2_000);
  expect(staging.schedule(copy, queued).completedNs).toBe(law.schedule(copy, queued).completedNs);
});

test('fresh host memory costs more once', () => {
  const schedule = law.schedule(crossing(1_000), at(0, { hostIsFresh: true }));
  expect(schedule.completedNs).toBe(10_000 + 40_000 + 1_000);
});

test('the issuer stands still until the end, or only while it issues', () => {
  const queued = at(5_000, { streamReadyNs: 90_000 });
  const blocked = law.schedule(crossing(1_000), queued);
  expect(blocked.issuerFreeNs).toBe(blocked.completedNs);
  const free = law.schedule(crossing(1_000, { memory: 'pageable' }), queued);
  expect(free.completedNs).toBe(blocked.completedNs);
  expect(free.issuerFreeNs).toBe(8_000);
});

test('a serialising context carries one crossing at a time, whatever its direction', () => {
  const first = law.schedule(crossing(1_000), at(0));
  const second = law.schedule(
    crossing(1_000, { direction: 'd2h' }),
    at(2_000, { channel: first.channel }),
  );
  expect(second.startedNs).toBe(11_000);
  expect(second.completedNs).toBe(22_000);
});

test('a context that does not serialise has a queue for each direction', () => {
  const duplex = profileLaw(roundProfile({ contextSerialises: false }));
  const { channel } = duplex.schedule(crossing(1_000), at(0));
  const back = duplex.schedule(crossing(1_000, { direction: 'd2h' }), at(2_000, { channel }));
  expect(back.startedNs).toBe(2_000);
  const there = duplex.schedule(crossing(1_000), at(2_000, { channel: back.channel }));
  expect(there.startedNs).toBe(11_000);
  const again = { ...at(2_500), channel: back.channel };
  expect(duplex.schedule(crossing(1_000, { direction: 'd2h' }), again).startedNs).toBe(13_000);
});

test('contexts share the bridge as the curve says', () => {
  const timeFor = (contexts: number) =>
    law.schedule(crossing(300_000), at(0, { contexts })).completedNs - 10_000;
  expect(timeFor(1)).toBe(75_000);
  // Two together have 1.5 times the rate of one, so 0.75 each; three and more have 2 together.
  expect(timeFor(2)).toBe(100_000);
  expect(timeFor(3)).toBe(112_500);
  expect(timeFor(4)).toBe(150_000);
});

test('keys rotate after so many bytes of a channel, and the crossing pays for it', () => {
  const keyRotation = { everyBytes: 2_500, stallNs: 7_000 };
  const rotating = profileLaw(roundProfile({ keyRotation }));
  let channel = FRESH_CHANNEL;
  const stalls: number[] = [];
  for (let i = 0; i < 5; i++) {
    const schedule = rotating.schedule(crossing(1_000), at(1e6 * i, { channel }));
    stalls.push(schedule.completedNs - schedule.startedNs - 11_000);
    channel = schedule.channel;
  }
  expect(stalls).toEqual([0, 0, 7_000, 0, 7_000]);
  expect(channel.bytesSinceRotation).toBe(0);
  const large = rotating.schedule(crossing(10_000), at(0));
  expect(large.completedNs).toBe(15_000 + 4 * 7_000);
});

test('bytes cost from the first one on, and what is alone on an idle bridge costs the same', () => {
  for (const bytes of [0, 1, 999, 1_000, 10_000, 100_000, 200_000]) {
    const { completedNs } = law.schedule(crossing(bytes), at(0));
    expect(Math.round(aloneNs(law.profile.crossings.h2d.pinned, bytes))).toBe(completedNs);
  }
  expect(law.schedule(crossing(1), at(0)).completedNs).toBe(10_001);
});

test('the rate is interpolated in logarithms, between the two points around a size', () => {
  const { pinned } = roundProfile().crossings.h2d;
  const bandwidth = [
    { bytes: 100, bytesPerSecond: 1e6 },
    { bytes: 10_000, bytesPerSecond: 16e6 },
    { bytes: 1_000_000, bytesPerSecond: 1_024e6 },
  ];
  const nsOf = (bytes: number) => aloneNs({ ...pinned, idleTollNs: 0, bandwidth }, bytes);
  // Halfway in logarithms: 4 times 1e6, and 8 times 16e6.
  expect(nsOf(1_000)).toBeCloseTo(1_000 / 4e-3, 3);
  expect(nsOf(100_000)).toBeCloseTo(100_000 / 128e-3, 3);
  expect(nsOf(10_000)).toBeCloseTo(10_000 / 16e-3, 3);
});

test('fewer than no bytes, or a crossing without a context, is a broken promise', () => {
  expect(() => law.schedule(crossing(-1), at(0))).toThrow(InvariantError);
  expect(() => law.schedule(crossing(1), at(0, { contexts: 0 }))).toThrow(InvariantError);
});

test('launches cost what the profile says', () => {
  expect(law.launchNs()).toBe(26_000);
  expect(law.graphLaunchNs()).toBe(11_200);
});

test.each(REFERENCE_PROFILE_NAMES)(
  '%s: no crossing ends before it began or frees early',
  (name) => {
    const reference = profileLaw(referenceProfile(name));
    fc.assert(
      fc.property(
        fc.record({
          bytes: fc.nat(2 ** 32),
          more: fc.nat(2 ** 30),
          issuedNs: fc.nat(1e9),
          streamReadyNs: fc.nat(1e9),
          freeNs: fc.nat(1e9),
          contexts: fc.integer({ min: 1, max: 18 }),
          direction: fc.constantFrom('h2d' as const, 'd2h' as const),
          memory: fc.constantFrom('pinned' as const, 'pageable' as const),
        }),
        ({ bytes, more, freeNs, direction, memory, ...rest }) => {
          const channel = { h2dFreeAtNs: freeNs, d2hFreeAtNs: freeNs, bytesSinceRotation: 0 };
          const situation = { ...rest, channel };
          const one = reference.schedule(crossing(bytes, { direction, memory }), situation);
          const { issuedNs, streamReadyNs } = situation;
          expect(one.startedNs).toBe(Math.max(issuedNs, streamReadyNs, freeNs));
          expect(one.completedNs).toBeGreaterThan(one.startedNs);
          expect(one.issuerFreeNs).toBeGreaterThanOrEqual(issuedNs);
          expect(Number.isInteger(one.completedNs)).toBe(true);
          const larger = crossing(bytes + more, { direction, memory });
          const { completedNs } = reference.schedule(larger, situation);
          expect(completedNs).toBeGreaterThanOrEqual(one.completedNs);
        },
      ),
    );
  },
);
