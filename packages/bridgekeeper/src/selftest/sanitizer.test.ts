import { expect, test } from 'vitest';
import { judge } from './sanitizer.ts';

const done = { code: 0, output: '' };

test('no findings and a good end is clean', () => {
  const log = '========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n';
  expect(judge('memcheck', log, done).outcome).toBe('clean');
  const race = '========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n';
  expect(judge('racecheck', race, done).outcome).toBe('clean');
});

test('findings of all processes are counted, and the first are told', () => {
  const log = [
    '========= COMPUTE-SANITIZER',
    '========= Invalid __global__ read of size 4 bytes',
    '=========     at attend+0x40',
    '=========     Host Frame: main',
    '========= ERROR SUMMARY: 2 errors',
    '========= ERROR SUMMARY: 1 error',
  ].join('\n');
  const { outcome, findings, details } = judge('memcheck', log, done);
  expect({ outcome, findings }).toEqual({ outcome: 'findings', findings: 3 });
  expect(details.slice(0, 2)).toEqual([
    'Invalid __global__ read of size 4 bytes',
    'at attend+0x40',
  ]);
});

test.each([
  ['a run that was ended', '', { code: null, output: 'last words' }, 'last words'],
  ['a selftest that failed', '= ERROR SUMMARY: 0 errors', { code: 1, output: 'FAIL x' }, 'FAIL x'],
  ['a run without a summary', '= Unable to attach', done, 'Unable to attach'],
])('%s has failed', (_, log, end, said) => {
  const { outcome, details } = judge('racecheck', log, end);
  expect(outcome).toBe('failed');
  expect(details.join('\n')).toContain(said);
});
