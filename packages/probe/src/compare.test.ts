import { referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { compare, parseCompared } from './compare.ts';
import { CompareError } from './errors.ts';

const a = referenceProfile('b300-cc');
const b = referenceProfile('b300-native');

const resultOf = (profile: unknown, gpuUuid: string, changes: object = {}) =>
  JSON.stringify({
    suite: 'probe',
    version: '0.1.0',
    startedAt: '2026-01-01T00:00:00.000Z',
    isComplete: true,
    isQuick: false,
    facts: { gpu: 'NVIDIA B300', gpuUuid, driver: '590', law: null },
    runs: [],
    profile,
    ...changes,
  });

test('two profiles side by side, with their ratios', () => {
  const sides = [a, b].map((profile) => parseCompared(JSON.stringify(profile), 'x'));
  const { ratios, parameters, warnings } = compare(sides[0]!, sides[1]!);
  expect(ratios.find(({ name }) => name === 'H2D')!.ratio).toBeCloseTo(55.7 / 11.3, 3);
  const toll = parameters.find(({ title }) => title === 'pinned H2D: toll')!;
  expect(toll.values[0]).toBe('22 us');
  expect(warnings).toHaveLength(2);
});

test('warns of other machines, other versions and unfinished probes', () => {
  const one = parseCompared(resultOf(a, 'GPU-1'), 'a.json');
  const same = parseCompared(resultOf(b, 'GPU-1'), 'b.json');
  expect(compare(one, same).warnings).toEqual([]);
  const facts = { gpu: 'NVIDIA B300', gpuUuid: 'GPU-2', driver: '580', law: 'b300-cc' };
  const changes = { version: '0.2.0', isComplete: false, facts };
  const other = parseCompared(resultOf(b, '', changes), 'b.json');
  expect(compare(one, other).warnings).toEqual([
    'they are two GPUs, by their UUIDs',
    'the drivers differ: 590 and 580',
    'the versions of bridgekeeper differ: 0.1.0 and 0.2.0',
    'b300-native: the probe did not come to its end',
    'b300-native: the times of an imposed law',
  ]);
});

test.each([
  ['no JSON', '{"suite":', 'not-json', 'is no JSON'],
  ['another suite', '{"suite":"serve","runs":[]}', 'not-a-result', 'is no result of probe'],
  [
    'a profile of another version',
    '{"schema":"bridgekeeper.profile/9"}',
    'bad-profile',
    'bridgekeeper.profile/1',
  ],
  [
    'a probe that was stopped',
    resultOf(null, 'GPU-1'),
    'no-profile',
    'ended before it had a profile',
  ],
  ['a corrupt profile', resultOf({ ...a, contexts: {} }, 'GPU-1'), 'bad-profile', 'at "contexts'],
])('refuses %s and names the file', (_, text, code, reason) => {
  const fault = caught(() => parseCompared(text, 'some.json'));
  expect(fault).toBeInstanceOf(CompareError);
  expect(fault).toMatchObject({ code, message: expect.stringMatching(/^some\.json: /) });
  expect(fault).toMatchObject({ message: expect.stringContaining(reason) });
});

function caught(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}
