import { expect, test } from 'vitest';
import { dstackChanges, readDstackGoal } from './dstack.ts';

const FILE = JSON.stringify({
  version: 0,
  name: 'dstack',
  partitionInfo: [
    { partitionId: 0, gpuModuleIds: [2, 1] },
    { partitionId: 3, gpuModuleIds: [3, 4] },
    { partitionId: 4, gpuModuleIds: [4] },
  ],
});

test('what dstack wants to be active is what it lists, by modules', () => {
  expect(readDstackGoal(FILE, ' 0 3\n')).toEqual([
    { id: 'dstack-0', modules: [1, 2] },
    { id: 'dstack-3', modules: [3, 4] },
  ]);
  expect(readDstackGoal(FILE, '')).toEqual([]);
  const bad = expect.objectContaining({ code: 'bad-plan' });
  for (const ids of ['9', '0 0', '3 4', '-1', '00', '0;reboot']) {
    expect(() => readDstackGoal(FILE, ids)).toThrow(bad);
  }
  expect(() => readDstackGoal('{}', '0')).toThrow(bad);
});

test('what is not wanted any more goes, and nothing of others', () => {
  const pair = { id: 'dstack-0', modules: [1, 2] };
  const other = { id: 'chat', modules: [5] };
  expect(dstackChanges([pair], [pair, other])).toEqual({ gone: [], fresh: [] });
  expect(dstackChanges([], [pair, other])).toEqual({ gone: ['dstack-0'], fresh: [] });
  const moved = { id: 'dstack-0', modules: [3, 4] };
  expect(dstackChanges([moved], [pair])).toEqual({ gone: ['dstack-0'], fresh: [moved] });
});
