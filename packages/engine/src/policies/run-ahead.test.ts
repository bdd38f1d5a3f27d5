import { profileLaw, referenceProfile, run } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { createEngine, prepareModel } from '../create.ts';
import type { EngineStats } from '../request/request.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { engineOptions, request } from '../testing/run.ts';
import { createPolicy, POLICY_NAMES } from './policy.ts';

const BURST = { tollNs: 330_000, interTokenLimitNs: 50e6 };

function openDevice() {
  const clock = new VirtualClock();
  clock.runFreely();
  return openModelDevice({ clock, law: profileLaw(referenceProfile('b300-cc')) });
}

/** Each launch's tokens come to the host in one crossing. */
const drains = ({ bridge }: Pick<EngineStats, 'bridge'>) =>
  bridge.totals.find(({ purpose }) => purpose === 'tokens')?.crossings ?? 0;

test.each([
  ['drain-first', 0],
  ['overlap', 1],
  ['drain-worker', 1],
] as const)('%s is %i launches ahead of what it has looked at', async (policy, ahead) => {
  const engine = await createEngine(engineOptions(openDevice(), { policy, dummy: true }));
  let tokens = 0;
  await new Promise<void>((resolve) => {
    engine.submit(request('r', [1, 2, 3], { maxTokens: 40 }), (event) => {
      tokens += event.tokens.length;
      // What ran ahead of this is for nothing.
      if (tokens === 11) engine.cancel('r');
      if (event.finish !== undefined) resolve();
    });
  });
  await engine.shutdown(0);
  expect(drains(engine.stats())).toBe(11 + ahead);
});

test.each(POLICY_NAMES)(
  '%s has nothing on its way before there is work, and once it has settled',
  async (name) => {
    const device = openDevice();
    const { clock } = device;
    const options = engineOptions(device, { dummy: true, burst: BURST });
    const { scheduler, runner, traffic, prefillRate } = await prepareModel(options);
    const parts = { scheduler, runner, traffic, clock, burst: BURST, mover: null, prefillRate };
    const policy = await createPolicy(name, parts);
    expect([await run(policy.step()), await run(policy.step())]).toEqual([[], []]);
    const sequence = new Sequence(request('r', [1, 2, 3], { maxTokens: 200 }), 0n, 0, 0);
    scheduler.add(sequence);
    let tokens = 0;
    for (let step = 0; tokens < 20; step++) {
      expect(step).toBeLessThan(100);
      for (const event of await run(policy.step())) tokens += event.tokens.length;
    }
    sequence.cancelled = true;
    scheduler.retireCancelled(clock.nowNs());
    expect(scheduler.busy).toBe(false);
    await policy.settle();
    const settled = drains({ bridge: traffic.snapshot() });
    await clock.sleepUntilNs(clock.nowNs() + 1e9);
    expect(drains({ bridge: traffic.snapshot() })).toBe(settled);
    await device.close();
  },
);
