import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { Traffic } from '../traffic/traffic.ts';
import { ownRoutes } from './pipeline.ts';

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
