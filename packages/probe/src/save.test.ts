import { referenceProfile } from '@bridgekeeper/bridge';
import { measuredProfilePath } from '@bridgekeeper/server';
import { expect, test } from 'vitest';
import type { ProbeDocument } from './document.ts';
import { savingOf } from './save.ts';

const variables = { XDG_CONFIG_HOME: '/config' };
const profile = referenceProfile('h100-native');
const facts = { law: null, gpuUuid: 'GPU-1', otherProcesses: 0 };

const saving = (changes: object = {}, factChanges: object = {}) =>
  savingOf(
    {
      profile,
      isComplete: true,
      ...changes,
      facts: { ...facts, ...factChanges },
    } as unknown as ProbeDocument,
    variables,
  );

test('the profile of this machine goes where auto reads it', () => {
  const result = saving();
  expect(result).toMatchObject({ saves: true, path: measuredProfilePath('GPU-1', variables) });
  expect(result.saves && JSON.parse(result.text)).toEqual(profile);
});

test.each([
  ['an imposed law', {}, { law: 'b300-cc' }],
  ['half a measurement', { isComplete: false }, {}],
  ['a machine without a GPU', {}, { gpuUuid: null }],
  ['a busy GPU', {}, { otherProcesses: 1 }],
])('never %s', (_, changes, factChanges) => {
  expect(saving(changes, factChanges)).toMatchObject({ saves: false });
});
