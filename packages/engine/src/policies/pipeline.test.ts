import { profileLaw, referenceProfile, run } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { prepareModel } from '../create.ts';
import { PrefixTree } from '../kv/prefix-tree.ts';
import { PageWorld } from '../kv/testing/page-world.ts';
import { createTierPolicy } from '../kv/tiers/policies.ts';
import { Scheduler } from '../scheduler/scheduler.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { engineOptions, request } from '../testing/run.ts';
import { ownRoutes, Pipeline } from './pipeline.ts';
import { createPolicy, POLICY_NAMES } from './policy.ts';

const BURST = { tollNs: 0, interTokenLimitNs: 50e6 };

/** What a policy is made from, on a modelled GPU whose steps take some 10 ms. */
async function partsOnModel() {
  const clock = new VirtualClock();
  clock.runFreely();
  const base = referenceProfile('b300-native');
  // A step of Storyteller has 45 kernels.
  const roofline = { ...base.roofline, kernelNs: 10e6 / 45 };
  const device = openModelDevice({ clock, law: profileLaw({ ...base, roofline }) });
  const options = engineOptions(device, { dummy: true, burst: BURST });
  const { scheduler, runner, traffic, prefillRate } = await prepareModel(options);
  let arrivals = 0;
  const arrive = (maxTokens: number) => {
    const id = `r${arrivals}`;
    const wanted = request(id, [arrivals, 2, 3], { maxTokens });
    const sequence = new Sequence(wanted, 0n, arrivals++, clock.nowNs());
    scheduler.add(sequence);
    return sequence;
  };
  const parts = { scheduler, runner, traffic, clock, burst: BURST, mover: null, prefillRate };
  return { parts, clock, device, arrive };
}

/** A pipeline whose one request decodes, with so many launches on their way. */
async function decoding(launches: number, maxTokens = 200) {
  const { parts, clock, device, arrive } = await partsOnModel();
  const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
  arrive(maxTokens);
  await run(pipeline.launch(1));
  await run(pipeline.commit());
  for (let launch = 0; launch < launches; launch++) await run(pipeline.launch(1));
  expect(pipeline.length).toBe(launches);
  const close = async () => {
    await pipeline.settle();
    await device.close();
  };
  return { pipeline, clock, parts, close };
}

const NEVER_NS = 1e12;

test('the next launch is due when its policy says, or once nothing is on its way', async () => {
  const { pipeline, clock, close } = await decoding(1);
  const atNs = clock.nowNs() + 1000;
  expect([await run(pipeline.due(() => atNs)), clock.nowNs()]).toEqual([true, atNs]);
  expect(await run(pipeline.due(() => NEVER_NS))).toBe(true);
  expect(clock.nowNs() - atNs).toBeLessThan(1e9);
  await close();
});

test('with more on their way, the one that is done first is taken in first', async () => {
  const { pipeline, clock, close } = await decoding(2);
  const calledNs = clock.nowNs();
  expect(await run(pipeline.due(() => NEVER_NS))).toBe(false);
  expect(clock.nowNs() - calledNs).toBeLessThan(1e9);
  await close();
});

test('who arrives is not waited with', async () => {
  const { pipeline, clock, close } = await decoding(2);
  const calledNs = clock.nowNs();
  const due = run(pipeline.due(() => NEVER_NS));
  pipeline.hurry();
  expect([await due, clock.nowNs()]).toEqual([true, calledNs]);
  // Nothing waits: nothing is hurried.
  pipeline.hurry();
  await close();
});

test('nothing is launched where all that is left is on its way', async () => {
  const { pipeline, parts, close } = await decoding(2, 3);
  const drains = () =>
    parts.traffic.snapshot().totals.find(({ purpose }) => purpose === 'tokens')?.crossings;
  expect([await run(pipeline.launch(1)), pipeline.length]).toEqual([false, 2]);
  await pipeline.settle();
  expect(drains()).toBe(3);
  await close();
});

test('resident lets those that arrive into the next launch at once', async () => {
  const waited = async (isTold: boolean) => {
    const { parts, device, arrive } = await partsOnModel();
    const policy = await createPolicy('resident', parts);
    arrive(400);
    for (let step = 0; step < 20; step++) await run(policy.step());
    let waitedNs = 0;
    for (let arrival = 0; arrival < 6; arrival++) {
      const stepping = run(policy.step());
      const one = arrive(400);
      if (isTold) policy.hurry();
      await stepping;
      while (one.admittedNs === undefined) await run(policy.step());
      waitedNs += one.admittedNs - one.arrivedNs;
      for (let step = 0; step < 9; step++) await run(policy.step());
    }
    await policy.settle();
    await device.close();
    return waitedNs;
  };
  expect(await waited(true)).toBeLessThan((await waited(false)) / 2);
});

test.each(POLICY_NAMES)('%s ends a request with its last token', async (name) => {
  const { parts, device, arrive } = await partsOnModel();
  const policy = await createPolicy(name, parts);
  arrive(12);
  let tokens = 0;
  for (let step = 0; parts.scheduler.busy; step++) {
    expect(step).toBeLessThan(50);
    for (const event of await run(policy.step())) tokens += event.tokens.length;
  }
  expect(tokens).toBe(12);
  const { steps, reason } = policy.stepsPerLaunch();
  expect([steps, reason]).toEqual([1, expect.stringMatching(/every step|launch of 1/)]);
  await policy.settle();
  await device.close();
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** What lets every restore take as long as it likes. */
class SlowStore extends PageWorld {
  override whenSettled = () => new Promise<void>(() => {});
}

test.each(POLICY_NAMES)('%s computes who arrives while others wait for a store', async (name) => {
  const { parts: own, device } = await partsOnModel();
  const [pages, pageTokens] = [8, 16];
  const mover = new SlowStore(pages, 64);
  const prices = { recomputeNs: () => 10, launchNs: () => 0, writeNs: () => 1, readNs: () => 1 };
  const tiers = { mover, prices, policy: createTierPolicy('lru', prices) };
  const tree = new PrefixTree({ pages, pageTokens, isEnabled: true, tiers });
  const limits = { maxRows: 8, maxBatchTokens: 128, pageTokens, maxLines: 8, maxCountTokens: 64 };
  const scheduler = new Scheduler({ ...limits, chunkedPrefill: true }, tree);
  // Time runs freely, and would be past the moment at which nobody waits any longer.
  let stands = false;
  const never = new Promise<void>(() => {});
  const clock = {
    nowNs: () => own.clock.nowNs(),
    sleepUntilNs: (wakeNs: number) => (stands ? never : own.clock.sleepUntilNs(wakeNs)),
  };
  const policy = await createPolicy(name, { ...own, scheduler, mover, clock });
  let arrivals = 0;
  const arrive = (length: number, first: number) => {
    const prompt = Array.from({ length }, (_, at) => first + at);
    const wanted = request(`r${arrivals}`, prompt, { maxTokens: 1 });
    const sequence = new Sequence(wanted, 0n, arrivals++, 0);
    scheduler.add(sequence);
    return sequence;
  };
  const serve = async (one: Sequence) => {
    for (let step = 0; one.phase !== 'finished'; step++) {
      expect(step).toBeLessThan(20);
      const stepping = run(policy.step());
      for (const [at, key] of one.pageKeys.entries()) mover.pages[one.pages[at] ?? -1] = key;
      await stepping;
    }
  };
  await serve(arrive(40, 0));
  await serve(arrive(120, 100));
  arrive(40, 0);
  stands = true;
  let goesOn = false;
  const waiting = run(policy.step()).then(() => {
    goesOn = true;
  });
  await turn();
  expect([scheduler.isRestoring, scheduler.hasPrompts, goesOn]).toEqual([true, false, false]);
  const late = arrive(5, 300);
  policy.hurry();
  stands = false;
  for (let turns = 0; turns < 10_000 && !goesOn; turns++) await turn();
  expect(goesOn).toBe(true);
  await waiting;
  await serve(late);
  await device.close();
});
