import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { VirtualClock } from '../clock/virtual-clock.ts';
import { contractCases } from '../contract/index.ts';
import { openModelDevice } from './model-device.ts';

const cases = contractCases.filter(({ arithmetic }) => !arithmetic);

test('the contract has cases without arithmetic', () => {
  expect(cases.length).toBeGreaterThan(5);
});

for (const name of ['b300-cc', null] as const) {
  test.each(cases)(`under law ${name ?? 'off'}: $name`, async (contractCase) => {
    const clock = new VirtualClock();
    clock.runFreely();
    const law = name === null ? null : profileLaw(referenceProfile(name));
    const device = openModelDevice({ clock, law });
    await contractCase.run(device);
    await device.close();
  });
}
