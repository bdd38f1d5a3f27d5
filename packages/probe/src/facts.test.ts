import { expect, test } from 'vitest';
import { refusalOf } from './facts.ts';

const ready = { gpusReady: true, confidential: true, law: null, otherProcesses: 0 };

test('a machine that is ready and idle is measured', () => {
  expect(refusalOf(ready, false)).toBeNull();
  const unknown = { gpusReady: null, confidential: null, law: null, otherProcesses: null };
  expect(refusalOf(unknown, false)).toBeNull();
});

test('a GPU that was not set ready is refused with the command that does it', () => {
  const state = { ...ready, gpusReady: false };
  expect(refusalOf(state, true)).toEqual({
    code: 'not-ready',
    message: expect.stringContaining('nvidia-smi conf-compute -srs 1'),
  });
  // Without confidential computing there is nothing to set ready.
  expect(refusalOf({ ...state, confidential: false }, false)).toBeNull();
});

test('a busy GPU is measured only by force', () => {
  const busy = { ...ready, otherProcesses: 2 };
  expect(refusalOf(busy, false)).toEqual({
    code: 'gpu-in-use',
    message: expect.stringMatching(/^2 other process.*--force/),
  });
  expect(refusalOf(busy, true)).toBeNull();
});
