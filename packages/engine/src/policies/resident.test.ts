import { profileLaw, referenceProfile, run } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { prepareModel } from '../create.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { engineOptions, request } from '../testing/run.ts';
import { createPolicy } from './policy.ts';
import { PrefillRate } from './prefill-rate.ts';

/** Runs one request under `resident`, with so much to do between two steps. */
async function stepsBeside(hostNs: number) {
  const clock = new VirtualClock();
  clock.runFreely();
  const base = referenceProfile('b300-native');
  // A step of Storyteller has 45 kernels, and some bytes to read.
  const roofline = { ...base.roofline, kernelNs: 0.3e6 / 45 };
  const device = openModelDevice({ clock, law: profileLaw({ ...base, roofline }) });
  const burst = { tollNs: 0, interTokenLimitNs: 50e6 };
  const options = engineOptions(device, { dummy: true, burst });
  const { scheduler, runner, traffic } = await prepareModel(options);
  const prefillRate = new PrefillRate();
  const parts = { scheduler, runner, traffic, clock, burst, mover: null, prefillRate };
  const policy = await createPolicy('resident', parts);
  scheduler.add(new Sequence(request('r', [1, 2, 3], { maxTokens: 200 }), 0n, 0, 0));
  let tokens = 0;
  for (let step = 0; scheduler.busy; step++) {
    expect(step).toBeLessThan(1000);
    for (const event of await run(policy.step())) tokens += event.tokens.length;
    await clock.sleepUntilNs(clock.nowNs() + hostNs);
  }
  await policy.settle();
  await device.close();
  const { steps, reason } = policy.stepsPerLaunch();
  return { tokens, steps, reason };
}

test('a launching thread that has nothing else to do is no reason for bursts', async () => {
  const { steps, tokens } = await stepsBeside(0);
  expect([steps, tokens]).toEqual([1, 200]);
});

test('launches are as long as the launching thread needs to keep up', async () => {
  // Busy for 0.4 ms a launch, of 70 % of it at most: two steps of 0.3 to 0.5 ms.
  const { steps, reason, tokens } = await stepsBeside(0.4e6);
  expect([steps, tokens]).toEqual([2, 200]);
  expect(reason).toContain('launching 0.4 ms: its thread is busy for');
});
