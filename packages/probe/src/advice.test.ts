import { type Profile, parseProfile, referenceProfile } from '@bridgekeeper/bridge';
import type { MeasuredRun } from '@bridgekeeper/report';
import { expect, test } from 'vitest';
import { adviseOn } from './advice.ts';

const base = referenceProfile('b300-cc');
const change = (changes: Partial<Profile>) => parseProfile({ ...base, ...changes });

const answerTo = (question: RegExp, profile: Profile, runs: readonly MeasuredRun[] = []) =>
  adviseOn(profile, runs).find((advice) => question.test(advice.question))!;

test('contexts help where they together move more, and no more of them than needed', () => {
  const question = /contexts help/;
  expect(answerTo(question, base).answer).toMatch(/^No/);
  const rates = [
    { contexts: 1, factor: 1 },
    { contexts: 2, factor: 1.9 },
    { contexts: 4, factor: 3.1 },
    { contexts: 8, factor: 3.2 },
  ];
  const helped = change({ contexts: { ...base.contexts, aggregateRate: rates } });
  const { answer, because } = answerTo(question, helped);
  expect(answer).toBe('Yes: 4 of them move 3.1x of one; load and spill through 4');
  expect(because).toContain('1.12 s to open');
});

test('the better memory, by size', () => {
  const { answer } = answerTo(/memory to the device/, base);
  expect(answer).toBe('either for small crossings, pageable for large ones');
  expect(answerTo(/memory to the device/, referenceProfile('h100-cc')).answer).toBe('pinned');
});

test('the policy is the one that auto takes, with its bursts', () => {
  const { h2d, d2h } = base.crossings;
  // 330 us may take 70 % of a launch: two steps of 300 us.
  const dear = { ...d2h, pinned: { ...d2h.pinned, queuedTollNs: 308_000 } };
  const { answer, because } = answerTo(/step policy/, change({ crossings: { h2d, d2h: dear } }));
  expect(answer).toBe(
    'resident; decode steps to a launch by the time of a step: 2 at 300 us, ' +
      '1 at 1 ms, 1 at 5 ms',
  );
  expect(because).toContain('K = 1');
  const few = change({ contexts: { ...base.contexts, max: 2 } });
  expect(answerTo(/step policy/, few).answer).toBe('drain-first');
});

test('who blocks, and what is forbidden', () => {
  expect(answerTo(/hold up/, base).answer).toMatch(/^Yes: pinned H2D, pinned D2H, pageable D2H\./);
  expect(answerTo(/must not be used/, base).answer).toContain('host-registration');
  const native = referenceProfile('h100-native');
  expect(answerTo(/hold up/, native).answer).toMatch(/^Yes: pageable D2H\./);
  expect(answerTo(/must not be used/, native).answer).toBe('nothing of what was tried');
});
