import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Profile, ProfileError, parseProfile } from './profile.ts';
import {
  isReferenceProfileName,
  REFERENCE_PROFILE_NAMES,
  referenceProfile,
} from './reference-profiles.ts';

/** A reference profile as JSON that may be changed. */
// biome-ignore lint/suspicious/noExplicitAny: tests break it in every way
function json(): any {
  return JSON.parse(JSON.stringify(referenceProfile('b300-cc')));
}

function faultOf(document: unknown): ProfileError {
  try {
    parseProfile(document);
  } catch (error) {
    if (error instanceof ProfileError) return error;
    throw error;
  }
  throw new Error('the profile was accepted');
}

test.each(REFERENCE_PROFILE_NAMES)('%s is valid, names itself and says its sources', (name) => {
  const profile = referenceProfile(name);
  expect(profile.name).toBe(name);
  expect(profile.source.length).toBeGreaterThan(100);
  expect(profile.confidential).toBe(name.includes('-cc'));
  expect(profile.forbidden.length).toBe(profile.confidential ? 4 : 0);
});

test('the published numbers of b300-cc are in it', () => {
  const { h2d, d2h } = referenceProfile('b300-cc').crossings;
  // A small copy into memory allocated for it; of memory that is kept, a step makes ten in 1 %.
  expect(h2d.pinned.idleTollNs + referenceProfile('b300-cc').pinnedAllocationNs!).toBe(330_000);
  expect(10 * (h2d.pinned.idleTollNs + h2d.pinned.queuedTollNs)).toBeLessThan(0.011 * 31.2e6);
  const native = referenceProfile('b300-native').crossings.h2d.pinned.bandwidth.at(-1)!;
  const { bytesPerSecond } = h2d.pinned.bandwidth.at(-1)!;
  expect(bytesPerSecond / native.bytesPerSecond).toBeCloseTo(0.203, 3);
  const back = d2h.pinned.bandwidth.at(-1)!.bytesPerSecond;
  expect(back / native.bytesPerSecond).toBeCloseTo(0.211, 3);
});

test('a profile read back from JSON is the same, and cannot be changed', () => {
  const profile = parseProfile(json());
  expect(profile).toEqual(referenceProfile('b300-cc'));
  const changeable = profile as { -readonly [Key in keyof Profile]: Profile[Key] };
  expect(() => {
    changeable.contextSerialises = false;
  }).toThrow(TypeError);
});

test.each([[null], [7], ['text'], [[]], [undefined]])('%j is unreadable', (document) => {
  expect(faultOf(document).code).toBe('unreadable');
});

test.each([undefined, 3, 'bridgekeeper.profile/2'])('version %j is refused', (schema) => {
  const fault = faultOf({ ...json(), schema });
  expect(fault.code).toBe('wrong-version');
  expect(fault.message).toContain('"schema"');
});

const first = 'crossings.h2d.pinned.bandwidth.0';
const second = 'crossings.h2d.pinned.bandwidth.1';

test.each([
  { at: 'contexts.max', value: 0 },
  { at: 'memoryBoundSlowdown', value: 0.9 },
  { at: 'collectives.rateFactor', value: 1.1 },
  { at: 'submission', key: 'surpriseNs', value: 1 },
  { at: 'forbidden.0', value: 'telepathy' },
  { at: 'crossings.h2d.pinned.idleTollNs', value: -1 },
  { at: 'crossings.d2h.pageable.bandwidth', value: [] },
  { at: `${first}.bytes`, value: 0 },
  { at: `${second}.bytes`, value: 1 },
  // 16 times the bytes at 100 times the rate would arrive sooner.
  { at: `${second}.bytesPerSecond`, value: 8.5e11 },
  { at: 'crossings.h2d.pinned.issuer.blockedUntil', value: 'bored' },
  { at: 'contexts.aggregateRate.0', key: 'factor', value: 2 },
  { at: `${second}.bytes`, value: json().crossings.h2d.pinned.bandwidth[0].bytes },
  { at: 'contexts.aggregateRate.0', key: 'contexts', value: 2 },
  { at: 'submission.launchWithWaitNs', value: 1 },
  { at: 'description', value: '' },
  { at: 'source', value: '' },
  { at: 'gpu', value: '' },
  { at: 'name', value: 'no spaces please' },
])('a fault at $at is refused and named', ({ at, key, value }) => {
  const document = json();
  const path = [...at.split('.'), ...(key === undefined ? [] : [key])];
  const last = path.pop()!;
  let owner = document;
  for (const name of path) owner = owner[name];
  owner[last] = value;
  const fault = faultOf(document);
  expect(fault.code).toBe('invalid');
  expect(fault.message).toContain(`at "${at}"`);
});

test.each([
  { counts: [1, 1], at: 1 },
  { counts: [1, 3, 2], at: 2 },
])('counts of contexts must ascend: $counts', ({ counts, at }) => {
  const document = json();
  document.contexts.aggregateRate = counts.map((contexts) => ({ contexts, factor: 1 }));
  expect(faultOf(document).message).toBe(
    `profile at "contexts.aggregateRate.${at}.contexts": must ascend`,
  );
});

test('what is just within its bounds is accepted', () => {
  const document = json();
  Object.assign(document, { description: 'd', source: 's', gpu: 'g', memoryBoundSlowdown: 1 });
  document.submission.launchWithWaitNs = document.submission.launchNs;
  // Twice the bytes at twice the rate arrive at the same time.
  document.crossings.h2d.pinned.bandwidth = [
    { bytes: 1, bytesPerSecond: 1e6 },
    { bytes: 2, bytesPerSecond: 2e6 },
  ];
  expect(parseProfile(document)).toEqual(document);
});

test('three faults are named, and how many more there are', () => {
  const faulty = (count: number) => {
    const names = ['description', 'source', 'gpu', 'confidential', 'roofline'].slice(0, count);
    return faultOf({ ...json(), ...Object.fromEntries(names.map((name) => [name, null])) }).message;
  };
  expect(faulty(3)).toMatch(/at "description": .*; at "source": .*; at "gpu": [^;(]*$/);
  expect(faulty(5)).toMatch(/at "gpu": [^;]* \(and 2 more\)$/);
});

test('a version that this build does not read is said, but not at any length', () => {
  const found = (schema: unknown) => faultOf({ ...json(), schema }).message.split('found ')[1];
  expect(found('bridgekeeper.profile/2')).toBe('"bridgekeeper.profile/2"');
  expect(found('0123456789'.repeat(10))).toBe(`"${'0123456789'.repeat(6)}0123"`);
  expect(found(3)).toBe('number');
  expect(String(faultOf(null))).toMatch(/^ProfileError: /);
});

test('every profile that comes along has its name, and is read once', () => {
  const files = readdirSync(new URL('../profiles/', import.meta.url));
  expect(files.sort()).toEqual(REFERENCE_PROFILE_NAMES.map((name) => `${name}.json`).sort());
  for (const name of REFERENCE_PROFILE_NAMES) {
    expect(isReferenceProfileName(name)).toBe(true);
    expect(referenceProfile(name)).toBe(referenceProfile(name));
  }
  expect(isReferenceProfileName('b300')).toBe(false);
});
