import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { prepareModel } from '../create.ts';
import { engineOptions } from '../testing/run.ts';
import { Traffic } from '../traffic/traffic.ts';
import { ownRoutes } from './pipeline.ts';
import { contextsOf, createPolicy, POLICY_NAMES } from './policy.ts';

test('a policy that gets one lane of two gives it back', async () => {
  const base = referenceProfile('b300-cc');
  // The launching thread's context, and one more.
  const profile = { ...base, contexts: { ...base.contexts, max: 2 } };
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: profileLaw(profile) });
  const traffic = new Traffic({ device, profile });
  await expect(ownRoutes(traffic)).rejects.toMatchObject({ code: 'too-many-contexts' });
  const route = await traffic.openRoute('again');
  expect(route.lanes).toHaveLength(1);
  await traffic.closeRoute(route);
});

test.each(POLICY_NAMES)('%s has as many contexts of its own as it says', async (name) => {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: profileLaw(referenceProfile('b300-cc')) });
  const options = engineOptions(device, { dummy: true });
  const { burst } = options;
  const { scheduler, runner, traffic, prefillRate } = await prepareModel(options);
  const parts = { scheduler, runner, traffic, clock, burst, mover: null, prefillRate };
  await createPolicy(name, parts);
  const own = traffic.snapshot().lanes.filter(({ kind }) => kind !== 'inline');
  expect(own).toHaveLength(contextsOf(name));
  await device.close();
});
