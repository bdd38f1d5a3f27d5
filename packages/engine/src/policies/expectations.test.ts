import { fileURLToPath } from 'node:url';
import { type Profile, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type EngineOptions } from '../create.ts';
import type { Engine } from '../engine.ts';
import type { EngineStats, GenerationRequest } from '../request/request.ts';
import { engineOptions, request } from '../testing/run.ts';
import type { PolicyName } from './policy.ts';

/**
 * What each policy must reach on a machine whose every time is a round number, so that the figures
 * follow from the law by hand. The real engine runs on the modelled device, in virtual time.
 *
 * The GPU: every kernel takes the same time, bytes and arithmetic none.
 * The bridge: a crossing takes its toll, and its bytes no time.
 */
interface Machine {
  /** A decode step's kernels. */
  readonly stepNs: number;
  /** A crossing, and what it takes more behind queued work. */
  readonly tollNs: number;
  readonly queuedTollNs: number;
  /** Copies block the thread that issues them until they are done; else issuing takes ISSUE_NS. */
  readonly blocks: boolean;
  /** Only where a step's time should grow with its rows. */
  readonly flopsPerSecond?: number;
}

/** Storyteller's step: begin, embed, five operations a layer, head, sample, advance. */
const LAYERS = 8;
const STEP_KERNELS = 1 + 1 + 5 * LAYERS + 1 + 2;
/** A chunk of prompts with its command: apply, embed, layers, select, head, sample, advance. */
const PROMPT_KERNELS = 1 + 1 + 5 * LAYERS + 1 + 1 + 2;
/** A decode step of rows beside it adds: begin, attention of each layer, head, sample, advance. */
const ROWS_BESIDE_KERNELS = 1 + LAYERS + 1 + 2;
const LAUNCH_NS = 5e3;
const GRAPH_LAUNCH_NS = 10e3;
const ISSUE_NS = 2e3;
const REQUEST_TOKENS_MAX = 512;

/** As fast as a large model's step, behind the bridge of a confidential B300. */
const CONFIDENTIAL: Machine = { stepNs: 9e6, tollNs: 22e3, queuedTollNs: 308e3, blocks: true };
/** The same behind a bridge as of a machine without confidential computing. */
const FREE: Machine = { stepNs: 9e6, tollNs: 9e3, queuedTollNs: 0, blocks: false };
/** A bridge that costs as much as a step does. */
const DEAR: Machine = { stepNs: 2.25e6, tollNs: 1.5e6, queuedTollNs: 3e6, blocks: true };

const kernelNs = ({ stepNs }: Machine) => stepNs / STEP_KERNELS;
const promptNs = (machine: Machine) => PROMPT_KERNELS * kernelNs(machine);

function profileOf({ stepNs, tollNs, queuedTollNs, blocks, flopsPerSecond }: Machine): Profile {
  const cost = {
    idleTollNs: tollNs,
    queuedTollNs,
    freshTollNs: 0,
    bandwidth: [{ bytes: 1, bytesPerSecond: 1e30 }],
    issuer: blocks
      ? { blockedUntil: 'done' as const }
      : { blockedUntil: 'issued' as const, issueNs: ISSUE_NS },
  };
  const both = { pinned: cost, pageable: cost };
  const base = referenceProfile('b300-cc');
  return {
    ...base,
    crossings: { h2d: both, d2h: both },
    contextSerialises: blocks,
    submission: {
      launchNs: LAUNCH_NS,
      launchWithWaitNs: LAUNCH_NS,
      graphLaunchNs: GRAPH_LAUNCH_NS,
      graphNodeNs: 0,
    },
    roofline: {
      ...base.roofline,
      copyBytesPerSecond: 1e30,
      bf16FlopsPerSecond: flopsPerSecond ?? 1e30,
      fp8FlopsPerSecond: 1e30,
      kernelNs: stepNs / STEP_KERNELS,
    },
  };
}

interface Load {
  readonly rows: number;
  readonly outputTokens: number;
  readonly options?: Partial<EngineOptions>;
}

interface Reading {
  /** From a request's submission to its first token. */
  readonly ttftNs: number;
  /** The rest is of the last requests' second half, when the policy has found its pace. */
  readonly nsPerToken: number;
  /** Between two events of one request. */
  readonly eventGapNs: number;
  readonly crossingsPerToken: number;
  /** Part of the time that the launching thread was blocked by crossings. */
  readonly blockedShare: number;
  readonly stepsPerLaunch: number;
}

const crossings = ({ bridge }: EngineStats) =>
  bridge.totals.reduce((sum, each) => sum + each.crossings, 0);
const blockedNs = ({ bridge }: EngineStats) =>
  bridge.lanes.find(({ kind }) => kind === 'inline')!.blockedNs;

/** The engine under a policy on a machine, whose toll its bursts are derived from. */
async function open(policy: PolicyName, machine: Machine, options: Partial<EngineOptions>) {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: profileLaw(profileOf(machine)) });
  const engine = await createEngine(
    engineOptions(device, {
      policy,
      dummy: true,
      burst: { tollNs: machine.tollNs + machine.queuedTollNs, interTokenLimitNs: 80e6 },
      // One page holds a whole request: no command is needed once a row decodes.
      pageTokens: REQUEST_TOKENS_MAX,
      maxModelTokens: REQUEST_TOKENS_MAX,
      ...options,
    }),
  );
  return { engine, clock, device };
}

/** `rows` equal requests at once, to their end, watched from the first row's place. */
async function read(policy: PolicyName, machine: Machine, load: Load): Promise<Reading> {
  // Room for all of them and as much again, so that none waits.
  const options = { maxRows: 2 * load.rows, ...load.options };
  const { engine, clock } = await open(policy, machine, options);
  const events: { readonly atNs: number; readonly tokens: number; readonly stats: EngineStats }[] =
    [];
  const submittedNs = clock.nowNs();
  await Promise.all(
    Array.from(
      { length: load.rows },
      (_, row) =>
        new Promise<void>((resolve) => {
          const wanted = request(`r${row}`, [1, 2, 3], { maxTokens: load.outputTokens });
          engine.submit(wanted, ({ tokens, finish }) => {
            if (row === 0 && tokens.length > 0) {
              events.push({ atNs: clock.nowNs(), tokens: tokens.length, stats: engine.stats() });
            }
            if (finish !== undefined) resolve();
          });
        }),
    ),
  );
  await engine.shutdown(0);
  // A policy that looks at each launch a step late has nothing to wait for behind the last one,
  // whose token comes with the one before it.
  const settled = events.slice(Math.floor(events.length / 2), -1);
  const last = settled.at(-1)!;
  const first = settled[0]!;
  const tokens = settled.slice(1).reduce((sum, event) => sum + event.tokens, 0);
  const elapsedNs = last.atNs - first.atNs;
  return {
    ttftNs: events[0]!.atNs - submittedNs,
    nsPerToken: elapsedNs / tokens,
    eventGapNs: elapsedNs / (settled.length - 1),
    crossingsPerToken: (crossings(last.stats) - crossings(first.stats)) / (tokens * load.rows),
    blockedShare: (blockedNs(last.stats) - blockedNs(first.stats)) / elapsedNs,
    stepsPerLaunch: last.stats.stepsPerLaunch,
  };
}

const quantile = (values: readonly number[], q: number) => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
};

/** Within 0.1 % of a positive value, or closer. */
const near = (value: number) => expect.closeTo(value, -Math.floor(Math.log10(0.002 * value)));

describe.each([1, 7])('%i rows behind a bridge that blocks', (rows) => {
  const load = { rows, outputTokens: 200 };
  const { stepNs, tollNs, queuedTollNs } = CONFIDENTIAL;
  /** A command crosses, the prompt is computed, its result crosses: nothing can overlap. */
  const leastTtftNs = tollNs + LAUNCH_NS + promptNs(CONFIDENTIAL) + tollNs;

  test('drain-first pays launch and drain in every step, on an idle stream', async () => {
    const periodNs = GRAPH_LAUNCH_NS + stepNs + tollNs;
    expect(await read('drain-first', CONFIDENTIAL, load)).toEqual({
      ttftNs: near(leastTtftNs),
      nsPerToken: near(periodNs),
      eventGapNs: near(periodNs),
      crossingsPerToken: near(1 / rows),
      blockedShare: near(tollNs / periodNs),
      stepsPerLaunch: 1,
    });
  });

  test('overlap pays the toll behind queued work, blocked for the whole step', async () => {
    const periodNs = GRAPH_LAUNCH_NS + stepNs + tollNs + queuedTollNs;
    // The first token is looked at a step late, and the thread was blocked for that one, too: its
    // command crosses and is applied, and its drain waits for it.
    const applyNs = kernelNs(CONFIDENTIAL);
    const nextNs = tollNs + LAUNCH_NS + applyNs + stepNs + tollNs + queuedTollNs;
    expect(await read('overlap', CONFIDENTIAL, load)).toEqual({
      ttftNs: near(leastTtftNs + queuedTollNs + nextNs),
      nsPerToken: near(periodNs),
      eventGapNs: near(periodNs),
      crossingsPerToken: near(1 / rows),
      blockedShare: near((stepNs + tollNs + queuedTollNs) / periodNs),
      stepsPerLaunch: 1,
    });
  });

  test('drain-worker hides drain and launch behind the next step', async () => {
    expect(await read('drain-worker', CONFIDENTIAL, load)).toEqual({
      ttftNs: near(leastTtftNs),
      nsPerToken: near(stepNs),
      eventGapNs: near(stepNs),
      crossingsPerToken: near(1 / rows),
      blockedShare: 0,
      stepsPerLaunch: 1,
    });
  });

  test('resident drains every step while its lane keeps up, at no cost', async () => {
    expect(await read('resident', CONFIDENTIAL, load)).toEqual({
      ttftNs: near(leastTtftNs),
      nsPerToken: near(stepNs),
      eventGapNs: near(stepNs),
      crossingsPerToken: near(1 / rows),
      blockedShare: 0,
      stepsPerLaunch: 1,
    });
  });

  test('resident drains once for K steps where its lane would not keep up', async () => {
    // A drain of 330 us may take 70 % of a launch: two steps of 300 us.
    const machine = { ...CONFIDENTIAL, stepNs: 0.3e6, tollNs: 0.33e6 };
    const steps = 2;
    // After the prompt's token an even number of them.
    expect(await read('resident', machine, { rows, outputTokens: 201 })).toMatchObject({
      nsPerToken: near(machine.stepNs),
      eventGapNs: near(steps * machine.stepNs),
      crossingsPerToken: near(1 / (steps * rows)),
      blockedShare: 0,
      stepsPerLaunch: steps,
    });
  });
});

describe('behind a bridge that does not block', () => {
  const load = { rows: 3, outputTokens: 200 };
  const { stepNs, tollNs } = FREE;

  test('overlap hides its copies behind the next step, at the price of issuing them', async () => {
    const found = await read('overlap', FREE, load);
    expect(found.nsPerToken).toEqual(near(stepNs));
    expect(found.blockedShare).toEqual(near(ISSUE_NS / stepNs));
    expect(found.crossingsPerToken).toEqual(near(1 / 3));
  });

  test('drain-first still waits for every drain', async () => {
    const found = await read('drain-first', FREE, load);
    expect(found.nsPerToken).toEqual(near(GRAPH_LAUNCH_NS + stepNs + tollNs));
  });

  test('resident needs no bursts', async () => {
    const found = await read('resident', FREE, load);
    expect(found).toMatchObject({ nsPerToken: near(stepNs), stepsPerLaunch: 1, blockedShare: 0 });
  });
});

describe('a drain that takes longer than half a step', () => {
  const load = { rows: 2, outputTokens: 200 };
  const { stepNs, tollNs, queuedTollNs } = DEAR;

  test('drain-worker is slowed by no more than what two launches in flight leave', async () => {
    const found = await read('drain-worker', DEAR, load);
    // A launch is planned when the one before the last was drained.
    expect(found.nsPerToken).toEqual(
      near(Math.max(stepNs, (stepNs + tollNs + GRAPH_LAUNCH_NS) / 2)),
    );
  });

  test('what overlap and drain-first lose to it follows from their tolls', async () => {
    const first = await read('drain-first', DEAR, load);
    const overlap = await read('overlap', DEAR, load);
    expect(first.nsPerToken).toEqual(near(GRAPH_LAUNCH_NS + stepNs + tollNs));
    expect(overlap.nsPerToken).toEqual(near(GRAPH_LAUNCH_NS + stepNs + tollNs + queuedTollNs));
  });
});

describe('the length of a burst', () => {
  const stepsOf = async (stepNs: number, tollNs: number, interTokenLimitNs: number) => {
    const machine = { stepNs, tollNs, queuedTollNs: 0, blocks: true };
    const burst = { tollNs, interTokenLimitNs };
    const load = { rows: 1, outputTokens: 400, options: { burst } };
    const { stepsPerLaunch, nsPerToken } = await read('resident', machine, load);
    expect(nsPerToken).toEqual(near(stepNs));
    return stepsPerLaunch;
  };

  test.each([
    ['one step where its lane has time for a drain of each', 5e6, 330e3, 80e6, 1],
    ['one where it is busy for 69 %', 0.48e6, 330e3, 80e6, 1],
    ['two where it would be for a little over 70', 0.465e6, 330e3, 80e6, 2],
    ['more for a faster step', 0.3e6, 1e6, 80e6, 5],
    ['no longer than tokens may take to come', 1e6, 0.75e6, 1.9e6, 1],
    ['at least one', 40e6, 8e6, 20e6, 1],
  ])('%s', async (_, stepNs, tollNs, limitNs, steps) => {
    expect(await stepsOf(stepNs, tollNs, limitNs)).toBe(steps);
  });
});

test('a queue that waits for pages does not cut bursts short', async () => {
  // Seven pages, one for a request; each that runs keeps another free. So four run, three wait.
  const load = { rows: 7, outputTokens: 201, options: { maxRows: 7 } };
  const machine = { ...CONFIDENTIAL, stepNs: 0.3e6, tollNs: 0.33e6 };
  const found = await read('resident', machine, load);
  expect(found.eventGapNs).toEqual(near(2 * machine.stepNs));
});

describe('prompts that arrive', () => {
  /** When each event of a request comes, from its submission on. */
  const watch = (engine: Engine, clock: VirtualClock, wanted: GenerationRequest) => {
    const atNs: number[] = [];
    const submittedNs = clock.nowNs();
    const ended = new Promise<number[]>((resolve) => {
      engine.submit(wanted, ({ tokens, finish }) => {
        if (tokens.length > 0) atNs.push(clock.nowNs() - submittedNs);
        if (finish !== undefined) resolve(atNs);
      });
    });
    return { atNs, ended };
  };

  test.each([
    // What is queued on the GPU when the prompt comes, in steps.
    ['drain-first', 1],
    ['overlap', 2],
    ['drain-worker', 2],
    ['resident', 2],
  ] as const)(
    'under %s wait for the launches that are queued, and not longer',
    async (policy, steps) => {
      const { engine, clock } = await open(policy, CONFIDENTIAL, { maxRows: 4 });
      const startBlockedNs = blockedNs(engine.stats());
      const first = watch(engine, clock, request('long', [1, 2, 3], { maxTokens: 150 }));
      await clock.sleepUntilNs(clock.nowNs() + 40 * CONFIDENTIAL.stepNs);
      const before = first.atNs.length;
      const second = watch(engine, clock, request('late', [4, 5, 6], { maxTokens: 20 }));
      const [ttftNs] = await second.ended;
      await first.ended;
      await engine.shutdown(0);
      const { stepNs, tollNs, queuedTollNs } = CONFIDENTIAL;
      const behindNs = policy === 'overlap' ? queuedTollNs : 0;
      const stepMostNs = stepNs + tollNs + GRAPH_LAUNCH_NS + behindNs;
      // Whenever the batch changes, a command crosses and is applied.
      const changeNs = tollNs + LAUNCH_NS + kernelNs(CONFIDENTIAL);
      // Its own launch computes the prompt and a step of the other row; overlap looks a step late.
      const ownNs = tollNs + LAUNCH_NS + promptNs(CONFIDENTIAL) + stepMostNs;
      const lateNs = policy === 'overlap' ? stepMostNs + changeNs : 0;
      expect(ttftNs).toBeLessThanOrEqual(steps * stepMostNs + ownNs + lateNs);
      expect(ttftNs).toBeGreaterThan(promptNs(CONFIDENTIAL));
      // The other request is delayed by the prompt once.
      const gaps = first.atNs.slice(before - 1).map((at, i, all) => at - (all[i - 1] ?? at));
      expect(Math.max(...gaps)).toBeLessThanOrEqual(stepMostNs + ownNs);
      // Lanes of their own take the crossings off the launching thread, commands as well.
      const isOff = policy === 'drain-worker' || policy === 'resident';
      expect(blockedNs(engine.stats()) === startBlockedNs).toBe(isOff);
      const usualNs = stepMostNs + changeNs;
      expect(gaps.filter((gap) => gap > usualNs)).toHaveLength(1);
    },
  );

  test('under overlap show first tokens once the launch behind theirs is drained', async () => {
    const { engine, clock } = await open('overlap', CONFIDENTIAL, {
      maxRows: 4,
      maxBatchTokens: 64,
      prefixCaching: false,
    });
    // The first and the beginning of the second fill a launch; the rest goes beside the first row.
    const all = [60, 64].map((tokens) =>
      watch(
        engine,
        clock,
        request(`p${tokens}`, new Array(tokens).fill(tokens), { maxTokens: 20 }),
      ),
    );
    const ends = await Promise.all(all.map(({ ended }) => ended));
    await engine.shutdown(0);
    const { stepNs, tollNs, queuedTollNs } = CONFIDENTIAL;
    // The drain of a launch blocks the thread until the launch is done: only then does it look at
    // the results of the one before, though they have been there for as long.
    const launchNs = (workNs: number) => tollNs + LAUNCH_NS + workNs + tollNs + queuedTollNs;
    const ofFirstNs = launchNs(promptNs(CONFIDENTIAL));
    const besideNs = ROWS_BESIDE_KERNELS * kernelNs(CONFIDENTIAL);
    const ofSecondNs = launchNs(promptNs(CONFIDENTIAL) + besideNs);
    const ofBothNs = launchNs(kernelNs(CONFIDENTIAL) + stepNs);
    expect(ends[0]![0]).toEqual(near(ofFirstNs + ofSecondNs));
    expect(ends[1]![0]).toEqual(near(ofFirstNs + ofSecondNs + ofBothNs));
    // Nothing is launched behind the last launch.
    expect(ends[1]!.at(-1)).toBe(ends[1]!.at(-2));
  });

  test.each([0.1, 0.5])(
    'under resident wait for the step that runs, and for none that need not be queued (%d)',
    async (part) => {
      const { stepNs, tollNs } = CONFIDENTIAL;
      const { engine, clock } = await open('resident', CONFIDENTIAL, { maxRows: 4 });
      const first = watch(engine, clock, request('long', [1, 2, 3], { maxTokens: 60 }));
      const startedNs = clock.nowNs();
      await clock.sleepUntilNs(startedNs + 20.5 * stepNs);
      // A step's token is there once it is done and drained: the next one runs since its end.
      const endNs = startedNs + first.atNs.at(-1)! - tollNs;
      await clock.sleepUntilNs(endNs + (1 + part) * stepNs);
      const second = watch(engine, clock, request('late', [4, 5, 6], { maxTokens: 20 }));
      const [ttftNs] = await second.ended;
      await first.ended;
      await engine.shutdown(0);
      // Its command crosses while that step runs; its launch has a step of the other row as well.
      const besideNs = ROWS_BESIDE_KERNELS * kernelNs(CONFIDENTIAL);
      const launchNs = promptNs(CONFIDENTIAL) + besideNs;
      expect(ttftNs).toEqual(near((1 - part) * stepNs + launchNs + tollNs));
    },
  );

  test('under resident run ahead as far as crossing up and down takes', async () => {
    // A crossing takes 0.8 of a step: command and drain of a launch take longer than one launch,
    // but not than two.
    const stepNs = 4.5e6;
    const machine = { stepNs, tollNs: 0.8 * stepNs, queuedTollNs: 0, blocks: true };
    const { engine, clock } = await open('resident', machine, {
      burst: { tollNs: machine.tollNs, interTokenLimitNs: stepNs },
      maxRows: 16,
      maxBatchTokens: 64,
      prefixCaching: false,
    });
    // From decoding it learns how long a step takes.
    await watch(engine, clock, request('decode', [1], { maxTokens: 40 })).ended;
    // One prompt fills a launch; rows are there for all of them.
    const prompt = Array.from({ length: 64 }, (_, i) => i);
    const ends = await Promise.all(
      Array.from(
        { length: 12 },
        (_, i) => watch(engine, clock, request(`p${i}`, prompt, { maxTokens: 1 })).ended,
      ),
    );
    await engine.shutdown(0);
    const [early, late] = [ends[3]![0]!, ends[11]![0]!];
    expect((late - early) / 8).toEqual(near(promptNs(machine)));
  });
});

/**
 * What a client of `resident` gets behind a bridge, against what it would get from `drain-worker`,
 * which runs one step ahead as well, on the same machine without a bridge.
 */
describe('a bridge that is not felt', () => {
  interface Felt {
    readonly elapsedNs: number;
    readonly ttftNs: readonly number[];
    readonly gapsNs: readonly number[];
    readonly stepsPerLaunch: number;
  }
  /** Requests of so many tokens, all at once or one after the other. */
  const LOADS = {
    'one stream': { requests: 1, tokens: 400, everySteps: 0 },
    'a full batch': { requests: 8, tokens: 300, everySteps: 0 },
    'arrivals at a rate': { requests: 40, tokens: 40, everySteps: 12.37 },
  } as const;

  async function feel(
    policy: PolicyName,
    machine: Machine,
    { requests, tokens, everySteps }: (typeof LOADS)[keyof typeof LOADS],
  ): Promise<Felt> {
    const { engine, clock } = await open(policy, machine, { maxRows: 16, prefixCaching: false });
    const startNs = clock.nowNs();
    const ttftNs: number[] = [];
    const gapsNs: number[] = [];
    const ended: Promise<void>[] = [];
    for (let index = 0; index < requests; index++) {
      const wanted = request(`r${index}`, [1, 2, index], { maxTokens: tokens });
      const submittedNs = clock.nowNs();
      let lastNs: number | undefined;
      ended.push(
        new Promise((resolve) => {
          engine.submit(wanted, (event) => {
            const nowNs = clock.nowNs();
            if (event.tokens.length > 0) {
              if (lastNs === undefined) ttftNs.push(nowNs - submittedNs);
              else gapsNs.push(nowNs - lastNs);
              lastNs = nowNs;
            }
            if (event.finish !== undefined) resolve();
          });
        }),
      );
      if (everySteps > 0) await clock.sleepUntilNs(submittedNs + everySteps * machine.stepNs);
    }
    await Promise.all(ended);
    const elapsedNs = clock.nowNs() - startNs;
    const { stepsPerLaunch } = engine.stats();
    await engine.shutdown(0);
    return { elapsedNs, ttftNs, gapsNs, stepsPerLaunch };
  }

  const loads = Object.keys(LOADS) as (keyof typeof LOADS)[];
  const cells = [0.3, 1, 5, 30].flatMap((stepMs) => loads.map((load) => [load, stepMs] as const));
  describe.each(cells)('%s, steps of %d ms', (name, stepMs) => {
    const load = LOADS[name];
    const stepNs = stepMs * 1e6;
    let off: Felt;
    beforeAll(async () => {
      off = await feel('drain-worker', { stepNs, tollNs: 0, queuedTollNs: 0, blocks: false }, load);
    });

    test.each([3e3, 30e3, 330e3, 1e6])('a toll of %d ns', async (tollNs) => {
      const machine = { stepNs, tollNs, queuedTollNs: 0, blocks: true };
      const on = await feel('resident', machine, load);
      // A lane makes one drain after the other, and may be busy for 70 % of a launch.
      const steps = Math.ceil(tollNs / (0.7 * stepNs));
      if (load.requests === 1) expect(on.stepsPerLaunch).toBe(steps);
      const launchNs = steps * stepNs;
      // Results back and the next command up, in launches; and the one that is drained.
      const queuedNs = (1 + Math.ceil((2 * tollNs) / launchNs)) * launchNs;
      const factor = tollNs < 1e6 ? 1.1 : 1.5;
      const isBurst = steps > 1;
      // Of the whole, what comes at its begin and at its end: the first command and the last drain,
      // launches of one step until it is known how long a step is, and the last launch's rest.
      const endsNs = 2 * tollNs + (isBurst ? 2 * tollNs + queuedNs : 0);
      expect(on.elapsedNs).toBeLessThanOrEqual(off.elapsedNs / 0.99 + endsNs);
      for (const q of [0.5, 0.99]) {
        // No command crosses before it is known, and no result before it is there.
        const mostTtftNs = quantile(off.ttftNs, q) + 2 * tollNs + (isBurst ? queuedNs : 0);
        expect(quantile(on.ttftNs, q)).toBeLessThanOrEqual(
          Math.max(factor * quantile(off.ttftNs, q), mostTtftNs * 1.01),
        );
        // Bursts come where, and only where, the lane cannot drain every step.
        const mostGapNs = isBurst ? launchNs + quantile(off.gapsNs, q) + tollNs : 0;
        expect(quantile(on.gapsNs, q)).toBeLessThanOrEqual(
          Math.max(factor * quantile(off.gapsNs, q), mostGapNs),
        );
      }
    });
  });
});

describe.each(['resident', 'drain-worker', 'drain-first'] as const)(
  '32 streams and 128 prompts of 1024 tokens at once under %s',
  (policy) => {
    const MODEL = fileURLToPath(new URL('../../configs/qwen3-8b', import.meta.url));
    const weightBytes = 16.4e9;
    /** Reads the weights once. */
    const stepNs = 5e6;
    /** Of a prompt's token: 48 ms for 2048. */
    const tokenNs = 23.4e3;
    const interTokenLimitNs = 50e6;
    const flopsPerToken = 2 * 7.57e9;
    const base = profileOf({
      stepNs,
      tollNs: 22e3,
      queuedTollNs: 0,
      blocks: true,
      flopsPerSecond: flopsPerToken / (tokenNs / 1e9),
    });
    const copyBytesPerSecond = weightBytes / (stepNs / 1e9);
    const machine = { ...base, roofline: { ...base.roofline, copyBytesPerSecond, kernelNs: 2e3 } };

    async function flood(limitNs: number) {
      const clock = new VirtualClock();
      clock.runFreely();
      const device = openModelDevice({ clock, law: profileLaw(machine) });
      const engine = await createEngine(
        engineOptions(device, {
          policy,
          dummy: true,
          model: MODEL,
          burst: { tollNs: 22e3, interTokenLimitNs: limitNs },
          maxRows: 192,
          maxBatchTokens: 8192,
          maxModelTokens: 2048,
          prefixCaching: false,
        }),
      );
      const gapsNs: number[] = [];
      const ttftNs: number[] = [];
      let promptsNs = Number.POSITIVE_INFINITY;
      let prompted = 0;
      const open = (id: string, length: number, maxTokens: number, isStream: boolean) =>
        new Promise<void>((resolve) => {
          const submittedNs = clock.nowNs();
          let lastNs: number | undefined;
          const prompt = Array.from({ length }, (_, i) => (i * 7 + prompted) % 1000);
          engine.submit(request(id, prompt, { maxTokens }), ({ tokens, finish }) => {
            const nowNs = clock.nowNs();
            if (tokens.length > 0) {
              if (!isStream && lastNs === undefined) ttftNs.push(nowNs - submittedNs);
              // Of what streams got while the prompts were computed.
              const isBeside = lastNs !== undefined && lastNs >= promptsNs && prompted < 128;
              if (isStream && isBeside) gapsNs.push(nowNs - lastNs!);
              if (!isStream && lastNs === undefined) prompted += 1;
              lastNs = nowNs;
            }
            if (finish !== undefined) resolve();
          });
        });
      const streams = Array.from({ length: 32 }, (_, at) => open(`s${at}`, 64, 160, true));
      await clock.sleepUntilNs(clock.nowNs() + 40 * stepNs);
      promptsNs = clock.nowNs();
      const prompts = Array.from({ length: 128 }, (_, at) => open(`p${at}`, 1024, 16, false));
      await Promise.all([...streams, ...prompts]);
      const elapsedNs = clock.nowNs() - promptsNs;
      const { chunkTokens, chunkReason } = engine.stats();
      await engine.shutdown(0);
      return { gapsNs, ttftNs, elapsedNs, chunkTokens, chunkReason };
    }

    test('the streams go on within the limit, and the prompts are answered as early', async () => {
      const limited = await flood(interTokenLimitNs);
      const largest = await flood(10e9);
      expect(largest.chunkTokens).toBe(8192);
      expect(quantile(largest.gapsNs, 0.5)).toBeGreaterThan(3 * interTokenLimitNs);
      const budgetNs = stepNs + interTokenLimitNs;
      expect(quantile(limited.gapsNs, 0.99)).toBeLessThanOrEqual(budgetNs);
      expect(quantile(limited.gapsNs, 0.5)).toBeGreaterThan(0.85 * interTokenLimitNs);
      expect(quantile(limited.ttftNs, 0.5)).toBeLessThanOrEqual(
        1.01 * quantile(largest.ttftNs, 0.5),
      );
      // Until the last prompt, rows get four times the tokens, of 48 more steps: 2.5 ms each.
      expect(quantile(limited.ttftNs, 0.99)).toBeLessThanOrEqual(
        1.045 * quantile(largest.ttftNs, 0.99),
      );
      // A chunk and then a step of the rows, 64 times, would take longer.
      const apartNs = ((128 * 1024) / 2048) * (2048 * tokenNs + stepNs);
      expect(quantile(limited.ttftNs, 0.99)).toBeLessThan(0.93 * apartNs);
      expect(limited.elapsedNs).toBeLessThanOrEqual(1.01 * largest.elapsedNs);
      expect(limited.chunkReason).toMatch(
        /^2048 tokens take \d+ ms, of about 50 ms between steps of rows; up to 8192 where no row/,
      );
    });
  },
);

test('under resident fewer launches run ahead once a step takes longer', async () => {
  const tollNs = 0.9 * 0.3e6;
  const base = { stepNs: 0.3e6, tollNs, queuedTollNs: 0, blocks: true };
  const machine = { ...base, flopsPerSecond: 2.5e11 };
  const { engine } = await open('resident', machine, {
    burst: { tollNs, interTokenLimitNs: 1 },
    maxRows: 32,
  });
  // Every launch is one step, and has the first request's row in it.
  const inFlight: number[] = [];
  let tokens = 0;
  await new Promise<void>((resolve) => {
    engine.submit(request('first', [1, 2, 3], { maxTokens: 400 }), (event) => {
      tokens += event.tokens.length;
      // Its prompt was two graphs, and one token. A launch of prompts and this row is no graph, and
      // takes two steps of sampling.
      const { graphLaunches, steps } = engine.stats();
      inFlight.push(graphLaunches - 2 + (steps - tokens) - (tokens - 1));
      if (tokens === 100) {
        for (let row = 0; row < 31; row++) {
          engine.submit(request(`r${row}`, [1, 2, 3], { maxTokens: 400 }), () => undefined);
        }
      }
      if (event.finish !== undefined) resolve();
    });
  });
  await engine.shutdown(0);
  expect([inFlight[90], inFlight[300]]).toEqual([2, 1]);
});

describe('when the last request has ended', () => {
  test.each([
    ['drain-first', ['inline']],
    ['overlap', ['inline']],
    ['drain-worker', ['inline', 'lane-0', 'lane-1']],
    ['resident', ['inline', 'lane-0', 'lane-1']],
  ] as const)('%s drains what ran ahead, and launches nothing more', async (policy, lanes) => {
    const { engine, clock, device } = await open(policy, CONFIDENTIAL, { maxRows: 4 });
    for (const id of ['first', 'second']) {
      await new Promise<void>((resolve) => {
        engine.submit(request(id, [1, 2, 3], { maxTokens: 21 }), ({ finish }) => {
          if (finish !== undefined) resolve();
        });
      });
      await clock.sleepUntilNs(clock.nowNs() + 20 * CONFIDENTIAL.stepNs);
      const { bridge, graphLaunches } = engine.stats();
      expect(bridge.lanes.map((lane) => lane.id)).toEqual(lanes);
      expect(crossings(engine.stats())).toBe(device.counters().copies);
      await clock.sleepUntilNs(clock.nowNs() + 20 * CONFIDENTIAL.stepNs);
      expect(engine.stats().graphLaunches).toBe(graphLaunches);
    }
    await engine.shutdown(0);
  });
});
