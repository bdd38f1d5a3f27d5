import { profileLaw, referenceProfile, run, until, wakeAt } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { describe, expect, test } from 'vitest';
import { type EngineOptions, prepareModel } from '../create.ts';
import { PrefixTree } from '../kv/prefix-tree.ts';
import { PageWorld } from '../kv/testing/page-world.ts';
import { createTierPolicy } from '../kv/tiers/policies.ts';
import { describeModel } from '../models/describe.ts';
import type { Runner } from '../runner/runner.ts';
import type { StepRoutes } from '../runner/step-routes.ts';
import { Scheduler } from '../scheduler/scheduler.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { smallConfig } from '../selftest/model-folder.ts';
import { engineOptions, request } from '../testing/run.ts';
import { ownRoutes, Pipeline } from './pipeline.ts';
import { createPolicy, type LaunchRecord, POLICY_NAMES, type PolicyName } from './policy.ts';

const BURST = { tollNs: 0, interTokenLimitNs: 50e6 };

const STEP_NS = 10e6;

/** What a policy is made from, on a modelled GPU whose steps take some 10 ms. */
async function partsOnModel(overrides: Partial<EngineOptions> = {}) {
  const clock = new VirtualClock();
  clock.runFreely();
  const base = referenceProfile('b300-native');
  // A step of Storyteller has 45 kernels.
  const roofline = { ...base.roofline, kernelNs: STEP_NS / 45 };
  const law = profileLaw({ ...base, roofline });
  const device = openModelDevice({ clock, law, keepsKv: overrides.spec !== undefined });
  const options = engineOptions(device, { dummy: true, burst: BURST, ...overrides });
  const { speculation } = options;
  const { scheduler, runner, traffic, prefillRate } = await prepareModel(options);
  let arrivals = 0;
  const arrive = (maxTokens: number, length = 3) => {
    const prompt = Array.from({ length }, (_, at) => arrivals + at);
    const wanted = request(`r${arrivals}`, prompt, { maxTokens });
    const sequence = new Sequence(wanted, 0n, arrivals++, clock.nowNs());
    scheduler.add(sequence);
    return sequence;
  };
  const parts = {
    scheduler,
    runner,
    traffic,
    clock,
    burst: BURST,
    speculation,
    mover: null,
    prefillRate,
  };
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
  return { pipeline, clock, parts, arrive, close };
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

test('a launch that is due is not asked whether another one is done', async () => {
  const { pipeline, clock, close } = await decoding(2);
  await clock.sleepUntilNs(clock.nowNs() + 1e9);
  expect(await run(pipeline.due(() => clock.nowNs()))).toBe(true);
  await close();
});

test('nothing is waited for where nothing is on its way, or prompts are there', async () => {
  const { pipeline, clock, arrive, close } = await decoding(0);
  const calledNs = clock.nowNs();
  expect([await run(pipeline.due(() => NEVER_NS)), clock.nowNs()]).toEqual([true, calledNs]);
  await run(pipeline.launch(1));
  await run(pipeline.launch(1));
  arrive(2);
  const laterNs = clock.nowNs();
  expect([await run(pipeline.due(() => NEVER_NS)), clock.nowNs()]).toEqual([true, laterNs]);
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
  // Nothing waits: nothing is hurried.
  pipeline.hurry();
  const calledNs = clock.nowNs();
  const due = run(pipeline.due(() => NEVER_NS));
  pipeline.hurry();
  expect([await due, clock.nowNs()]).toEqual([true, calledNs]);
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

test('whoever looks is told of each launch once it is taken in', async () => {
  const { parts, device, arrive } = await partsOnModel();
  const told: LaunchRecord[] = [];
  const onLaunch = (launch: LaunchRecord) => told.push(launch);
  const pipeline = new Pipeline({ ...parts, onLaunch }, await ownRoutes(parts.traffic));
  arrive(5);
  arrive(5, 97);
  await run(pipeline.launch(1));
  await run(pipeline.commit());
  await run(pipeline.launch(2));
  await run(pipeline.launch(2));
  expect(told).toHaveLength(1);
  await pipeline.settle();
  expect(told).toMatchObject([
    { steps: 1, rows: 0, promptTokens: 100 },
    { steps: 2, rows: 2, promptTokens: 0 },
    { steps: 2, rows: 2, promptTokens: 0 },
  ]);
  const [prompts, first, second] = told as [LaunchRecord, LaunchRecord, LaunchRecord];
  expect(first.startedNs).toBeGreaterThan(prompts.doneNs);
  // The device goes on with what is queued.
  expect(second.startedNs).toBe(first.doneNs);
  const stepNs = (second.doneNs - second.startedNs) / 2;
  expect(stepNs).toBeGreaterThanOrEqual(STEP_NS);
  expect(stepNs).toBeLessThan(1.2 * STEP_NS);
  // What adapts to launches has learnt from these.
  expect(pipeline.chunk.reason).toMatch(/^\d+ tokens take \S+ ms/);
  expect(parts.prefillRate.launchNs).toBeGreaterThan(0);
  await device.close();
});

test('the launching thread is busy for what it does itself, and for no wait', async () => {
  const { pipeline, clock, parts, arrive, close } = await decoding(2);
  const { launchNs } = referenceProfile('b300-native').submission;
  const workNs = 0.4e6;
  // Before these, nothing was on its way: it may have had nothing to do.
  expect((await run(pipeline.commit()))!.hostNs).toBeNull();
  await clock.sleepUntilNs(clock.nowNs() + workNs);
  await run(pipeline.launch(1));
  expect(await run(pipeline.due(() => clock.nowNs() + 1e6))).toBe(true);
  const busy = (await run(pipeline.commit()))!;
  expect(busy.hostNs).toBe(workNs);
  expect(busy.deviceNs).toBeGreaterThanOrEqual(STEP_NS);
  expect(busy.deviceNs).toBeLessThan(1.2 * STEP_NS);
  // Prompts are launched operation by operation: bursts are not.
  arrive(2);
  await clock.sleepUntilNs(clock.nowNs() + workNs);
  const calledNs = clock.nowNs();
  await run(pipeline.launch(1));
  expect(clock.nowNs() - calledNs).toBeGreaterThan(launchNs);
  const beside = (await run(pipeline.commit()))!;
  expect(beside.hostNs).toBe(workNs);
  expect(parts.scheduler.busy).toBe(true);
  await close();
});

test('what launching takes counts where it is a burst, and not where prompts are', async () => {
  const { parts, clock, device, arrive } = await partsOnModel();
  const launchNs = 0.2e6;
  const start: Runner['start'] = function* (plan, routes) {
    const started = yield* parts.runner.start(plan, routes);
    yield* until(wakeAt(clock, clock.nowNs() + launchNs));
    return started;
  };
  const runner = { start } as Pick<Runner, 'start'> as Runner;
  const pipeline = new Pipeline({ ...parts, runner }, await ownRoutes(parts.traffic));
  const hostNs = async () => (await run(pipeline.commit()))!.hostNs;
  arrive(200);
  await run(pipeline.launch(1));
  await run(pipeline.commit());
  await run(pipeline.launch(1));
  await run(pipeline.launch(1));
  expect(await hostNs()).toBeNull();
  await run(pipeline.launch(1));
  const ofBurst = await hostNs();
  expect(ofBurst).toBeGreaterThanOrEqual(launchNs);
  expect(ofBurst).toBeLessThan(1.2 * launchNs);
  arrive(2);
  await run(pipeline.launch(1));
  expect(await hostNs()).toBeLessThan(0.1 * launchNs);
  await pipeline.settle();
  await device.close();
});

describe('drafts', () => {
  const speculation = { drafts: 3, lookupMin: 1, lookupMax: 2 };
  /** All of its texts repeat themselves. */
  const ONE_WORD = describeModel(smallConfig({ config: { vocab_size: 1 } }));

  test('are none where none were asked for', async () => {
    const { pipeline, close } = await decoding(1);
    expect(pipeline.drafts).toBeNull();
    await close();
  });

  test.each(POLICY_NAMES)('are made under %s where they pay, and it says why', async (name) => {
    const { parts, device, arrive } = await partsOnModel({ speculation, spec: ONE_WORD });
    const policy = await createPolicy(name, parts);
    expect(policy.drafts()).toEqual({ drafts: 0, reason: 'no row has decoded yet' });
    arrive(100);
    let tokens = 0;
    for (let step = 0; parts.scheduler.busy; step++) {
      expect(step).toBeLessThan(300);
      for (const event of await run(policy.step())) tokens += event.tokens.length;
    }
    await policy.settle();
    expect(tokens).toBe(100);
    expect(policy.drafts()).toMatchObject({
      drafts: 3,
      reason: expect.stringMatching(/^a step with 3 drafts .* and takes \S+ ms instead of /),
    });
    await device.close();
  });

  test('are none where so many rows have no graph with them', async () => {
    const { parts, device, arrive } = await partsOnModel({
      speculation: { ...speculation, drafts: 31 },
    });
    const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
    for (let row = 0; row < 8; row++) arrive(3);
    await run(pipeline.launch(1));
    await run(pipeline.commit());
    await run(pipeline.launch(1));
    const reason = 'steps of 8 rows have no drafts: they would cost too much';
    expect(pipeline.drafts).toEqual({ drafts: 0, reason });
    await pipeline.settle();
    await device.close();
  });
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
      for (let step = 0; one.admittedNs === undefined; step++) {
        expect(step).toBeLessThan(100);
        await run(policy.step());
      }
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
  expect(policy.chunk().tokens).toBe(128);
  expect(policy.drafts()).toBeNull();
  await policy.settle();
  await device.close();
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** What comes of it in so many turns, in which all of virtual time goes by; else nothing does. */
async function soon<T>(promise: PromiseLike<T>): Promise<T> {
  let isThere = false;
  promise.then(
    () => (isThere = true),
    () => (isThere = true),
  );
  for (let turns = 0; turns < 10_000 && !isThere; turns++) await turn();
  expect(isThere).toBe(true);
  return promise;
}

test('nothing is launched, nor waited for, where there is nothing', async () => {
  const { parts, device } = await partsOnModel();
  const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
  expect(await soon(run(pipeline.launch(1)))).toBe(false);
  expect(await soon(run(pipeline.commit()))).toBeNull();
  await device.close();
});

/** What lets every restore take as long as it likes. */
class SlowStore extends PageWorld {
  override whenSettled = () => new Promise<void>(() => {});
}

/** A policy over few pages and a store, where one request waits for pages of it. */
async function waitingForStore(name: PolicyName, mover: PageWorld) {
  const { parts: own, device } = await partsOnModel();
  const [pages, pageTokens] = [8, 16];
  const prices = { recomputeNs: () => 10, launchNs: () => 0, writeNs: () => 1, readNs: () => 1 };
  const tiers = { mover, prices, policy: createTierPolicy('lru', prices) };
  const tree = new PrefixTree({ pages, pageTokens, isEnabled: true, tiers });
  const limits = { maxRows: 8, maxBatchTokens: 128, pageTokens, maxLines: 8, maxCountTokens: 64 };
  const scheduler = new Scheduler({ ...limits, chunkedPrefill: true }, tree);
  // Time runs freely, and would be past the moment at which nobody waits any longer.
  const time = { stands: false };
  const never = new Promise<void>(() => {});
  const clock = {
    nowNs: () => own.clock.nowNs(),
    sleepUntilNs: (wakeNs: number) => (time.stands ? never : own.clock.sleepUntilNs(wakeNs)),
  };
  const parts = { ...own, scheduler, mover, clock };
  const policy = await createPolicy(name, parts);
  const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
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
  const waits = arrive(40, 0);
  const close = () => device.close();
  return { scheduler, policy, pipeline, device, clock, time, arrive, serve, waits, close };
}

test.each(POLICY_NAMES)('%s computes who arrives while others wait for a store', async (name) => {
  const { scheduler, policy, time, arrive, serve, close } = await waitingForStore(
    name,
    new SlowStore(8, 64),
  );
  time.stands = true;
  let goesOn = false;
  const waiting = run(policy.step()).then(() => {
    goesOn = true;
  });
  await turn();
  expect([scheduler.isRestoring, scheduler.hasPrompts, goesOn]).toEqual([true, false, false]);
  const late = arrive(5, 300);
  policy.hurry();
  time.stands = false;
  await soon(waiting);
  await serve(late);
  await close();
});

test.each(POLICY_NAMES)('%s goes on once a store has brought what was waited for', async (name) => {
  const mover = new SlowStore(8, 64);
  const { policy, time, serve, waits, close } = await waitingForStore(name, mover);
  time.stands = true;
  let settle = () => {};
  mover.whenSettled = () => new Promise((resolve) => (settle = resolve));
  const waiting = run(policy.step());
  await turn();
  mover.endRestores();
  settle();
  expect(await soon(waiting)).toEqual([]);
  mover.whenSettled = () => Promise.resolve();
  await serve(waits);
  await close();
});

test.each(POLICY_NAMES)('%s waits for no store that is late', async (name) => {
  const mover = new SlowStore(8, 64);
  const { scheduler, policy, clock, serve, waits, close } = await waitingForStore(name, mover);
  const askedNs = clock.nowNs();
  expect([await soon(run(policy.step())), scheduler.isRestoring]).toEqual([[], true]);
  // It was to come at once, and has 10 s.
  const waitedNs = clock.nowNs() - askedNs;
  expect(waitedNs).toBeGreaterThanOrEqual(10e9);
  expect(waitedNs).toBeLessThan(10.1e9);
  await serve(waits);
  await close();
});

test('what is on its way is not held up by who waits for a store', async () => {
  const { pipeline, time, arrive, close } = await waitingForStore('resident', new SlowStore(8, 64));
  time.stands = true;
  arrive(5, 300);
  expect(await soon(run(pipeline.launch(1)))).toBe(true);
  expect(await soon(run(pipeline.launch(1)))).toBe(false);
  expect((await run(pipeline.commit()))!.events).toHaveLength(1);
  await close();
});

test('a launch is queued behind the moves that were planned with it', async () => {
  const mover = new SlowStore(8, 64);
  const { pipeline, device, arrive, close } = await waitingForStore('resident', mover);
  arrive(5, 300);
  const before = device.counters();
  let queued = () => {};
  mover.queueMoves = () => new Promise<void>((resolve) => (queued = resolve));
  const launching = run(pipeline.launch(1));
  await turn();
  expect(device.counters()).toEqual(before);
  queued();
  expect(await launching).toBe(true);
  expect(device.counters()).not.toEqual(before);
  await pipeline.settle();
  await close();
});

test('a command that is lost is heard of, though nothing comes of its launch', async () => {
  const { parts, arrive } = await partsOnModel();
  const lost = new Error('the lane is gone');
  const never = () => new Promise(() => undefined);
  const routes = {
    command: { crossNow: () => Promise.reject(lost) },
    drain: { crossNow: never, cross: never },
    mode: 'behind',
  } as unknown as StepRoutes;
  const pipeline = new Pipeline(parts, routes);
  arrive(5);
  expect(await run(pipeline.launch(1))).toBe(true);
  await expect(soon(run(pipeline.commit()))).rejects.toBe(lost);
});
