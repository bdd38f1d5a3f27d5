import {
  aloneNs,
  type CrossingCost,
  type Profile,
  parseProfile,
  profileLaw,
  referenceProfile,
} from '@bridgekeeper/bridge';
import { openCpuDevice, SystemClock, splitDevice } from '@bridgekeeper/device';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ProbeDocument } from './document.ts';
import { limitsOf } from './limits.ts';
import { measureCollectives } from './measure/collectives.ts';
import { type ProbeOptions, probe } from './probe.ts';
import { reportLines } from './report/text.ts';
import { select } from './runs.ts';
import { Sampler } from './sampler.ts';
import { WAYS, Workbench } from './workbench.ts';

const clock = new SystemClock();

function options(changes: Partial<ProbeOptions> = {}): ProbeOptions {
  return {
    device: 'model',
    law: null,
    quick: true,
    gpus: undefined,
    force: false,
    context: { version: '0', command: 'probe', startedAt: new Date(0) },
    nowNs: () => clock.nowNs(),
    stop: new AbortController().signal,
    onStep: () => {},
    ...changes,
  };
}

async function profileOf(changes: Partial<ProbeOptions>): Promise<Profile> {
  const { profile, isComplete, steps } = await probe(options({ gpus: 2, ...changes }));
  expect(steps.filter(({ outcome }) => outcome !== 'measured')).toEqual([]);
  expect(isComplete).toBe(true);
  return parseProfile(JSON.parse(JSON.stringify(profile)));
}

const within = (value: number, truth: number, share = 0.05) =>
  expect(Math.abs(value - truth), `${value} for ${truth}`).toBeLessThanOrEqual(share * truth + 1);

const SIZES = [64, 4_096, 65_536, 1_048_576, 16_777_216, 67_108_864];

function sameCost(measured: CrossingCost, law: CrossingCost): void {
  within(measured.idleTollNs, law.idleTollNs);
  within(measured.queuedTollNs, law.queuedTollNs);
  within(measured.freshTollNs, law.freshTollNs);
  expect(measured.issuer.blockedUntil).toBe(law.issuer.blockedUntil);
  if (measured.issuer.blockedUntil === 'issued' && law.issuer.blockedUntil === 'issued') {
    // Issuing is measured with a step's copy, its staging included.
    const { issueNs, issueBytesPerSecond = Number.POSITIVE_INFINITY } = law.issuer;
    within(measured.issuer.issueNs, issueNs + (4_096 * 1e9) / issueBytesPerSecond);
  }
  for (const bytes of SIZES) within(aloneNs(measured, bytes), aloneNs(law, bytes));
  within(rateOf(measured), rateOf(law));
}

/** Of a large copy, without its toll. */
const rateOf = (cost: CrossingCost) => 1e9 / (aloneNs(cost, 67_108_864) - cost.idleTollNs);

describe('on a modelled GPU the probe recovers the law that is imposed', () => {
  test.each(['b300-cc', 'b200-cc', 'h100-cc', 'b300-cc-tinfoil', 'h100-native'] as const)(
    '%s',
    async (name) => {
      const law = referenceProfile(name);
      const measured = await profileOf({ law, quick: false });
      for (const { direction, memory } of WAYS) {
        sameCost(measured.crossings[direction][memory], law.crossings[direction][memory]);
      }
      expect(measured.confidential).toBe(law.confidential);
      expect(measured.contextSerialises).toBe(law.contextSerialises);
      expect(measured.forbidden).toEqual(law.forbidden);
      expect(measured.contexts.max).toBe(Math.min(law.contexts.max, 19));
      within(measured.contexts.createNs, law.contexts.createNs);
      within(measured.contexts.destroyNs, law.contexts.destroyNs);
      for (const { factor } of measured.contexts.aggregateRate) within(factor, 1);
      within(measured.submission.launchNs, law.submission.launchNs);
      within(measured.submission.launchWithWaitNs, law.submission.launchWithWaitNs);
      within(measured.submission.graphLaunchNs, law.submission.graphLaunchNs);
      within(measured.submission.graphNodeNs, law.submission.graphNodeNs);
      within(measured.roofline.kernelNs, law.roofline.kernelNs);
      within(measured.roofline.copyBytesPerSecond, law.roofline.copyBytesPerSecond);
      within(measured.roofline.bf16FlopsPerSecond, law.roofline.bf16FlopsPerSecond);
    },
  );

  const duration = (min: number, max: number) => fc.integer({ min, max });
  const bandwidth = fc
    .record({
      first: fc.constantFrom(65_536, 1_048_576),
      slow: duration(1e9, 20e9),
      gain: fc.double({ min: 1, max: 3, noNaN: true }),
    })
    .map(({ first, slow, gain }) => [
      { bytes: first, bytesPerSecond: slow },
      { bytes: 16 * first, bytesPerSecond: slow * gain },
    ]);
  const cost = fc.record({
    idleTollNs: duration(2_000, 300_000),
    queuedTollNs: fc.oneof(fc.constant(0), duration(50_000, 400_000)),
    freshTollNs: fc.oneof(fc.constant(0), duration(50_000, 400_000)),
    bandwidth,
    issuer: fc.oneof(
      fc.constant({ blockedUntil: 'done' as const }),
      duration(1_000, 30_000).map((issueNs) => ({ blockedUntil: 'issued' as const, issueNs })),
    ),
  });
  const profiles = fc
    .record({
      h2d: fc.record({ pinned: cost, pageable: cost }),
      d2h: fc.record({ pinned: cost, pageable: cost }),
      contextSerialises: fc.boolean(),
      gain: fc.double({ min: 1, max: 3, noNaN: true }),
    })
    .map(({ h2d, d2h, contextSerialises, gain }) =>
      parseProfile({
        ...referenceProfile('b300-cc'),
        crossings: { h2d, d2h },
        contextSerialises,
        contexts: {
          ...referenceProfile('b300-cc').contexts,
          max: 4,
          aggregateRate: [
            { contexts: 1, factor: 1 },
            { contexts: 3, factor: gain },
          ],
        },
      }),
    );

  test('any law', async () => {
    await fc.assert(
      fc.asyncProperty(profiles, async (law) => {
        const measured = await profileOf({ law });
        for (const { direction, memory } of WAYS) {
          sameCost(measured.crossings[direction][memory], law.crossings[direction][memory]);
        }
        expect(measured.contextSerialises).toBe(law.contextSerialises);
        expect(measured.contexts.max).toBe(4);
        within(
          measured.contexts.aggregateRate.at(-1)!.factor,
          law.contexts.aggregateRate[1]!.factor,
        );
      }),
      { numRuns: 12, endOnFailure: true },
    );
  });
});

test('on the cpu, in real time, a law of long tolls shows through', async () => {
  const base = referenceProfile('b300-cc');
  const toll = (idleTollNs: number): CrossingCost => ({
    ...base.crossings.h2d.pinned,
    idleTollNs,
    // A difference of two times: it must stand out from what a busy machine does to either.
    queuedTollNs: 40e6,
    bandwidth: [{ bytes: 1_048_576, bytesPerSecond: 2e9 }],
  });
  const crossings = {
    h2d: { pinned: toll(1e6), pageable: toll(3e6) },
    d2h: { pinned: toll(1e6), pageable: toll(3e6) },
  };
  const law = parseProfile({ ...base, crossings, contexts: { ...base.contexts, max: 2 } });
  const { profile } = await probe(options({ device: 'cpu', law }));
  const { pinned, pageable } = profile!.crossings.h2d;
  // The machine may be slower than the law, and busy; it cannot be faster.
  expect(pinned.idleTollNs).toBeGreaterThan(0.95e6);
  expect(pageable.idleTollNs).toBeGreaterThan(1.5 * pinned.idleTollNs);
  expect(pinned.queuedTollNs).toBeGreaterThan(2 * pinned.idleTollNs);
  expect(pinned.issuer.blockedUntil).toBe('done');
  expect(profile!.contexts.max).toBe(2);
});

describe('sums over several GPUs', () => {
  const sums = async (changes: Partial<ProbeOptions>) => {
    const document = await probe(options(changes));
    expect(document.isComplete).toBe(true);
    return document;
  };
  const timesOf = ({ runs }: ProbeDocument) =>
    select(runs, 'collective').map(({ parameters, metrics }) => ({
      ...parameters,
      ns: metrics.operationNs!,
    }));

  test.each([
    ['h100-native', 2, 600, 160e9],
    ['b300-cc', 2, 13_100, 0.865 * 160e9],
    ['b200-cc', 4, 600 + 10_800, 0.843 * 160e9],
  ] as const)('of %s, %i of them, are found and imposed again', async (name, gpus, toll, rate) => {
    const first = await sums({ law: referenceProfile(name), gpus });
    const { links } = first.profile!;
    expect(links!.gpus).toBe(gpus);
    within(links!.pushed.tollNs, toll);
    within(links!.pushed.bandwidth.at(-1)!.bytesPerSecond, rate);
    within(links!.pulled.tollNs, toll + 4_400);
    within(links!.gathered.tollNs, toll + 4_400);
    for (const { parameter, residual } of first.fits) {
      if (parameter.startsWith('links.')) expect(residual).toBeLessThan(0.01);
    }
    const law = parseProfile(JSON.parse(JSON.stringify(first.profile)));
    const again = timesOf(await sums({ law, gpus }));
    expect(again).toHaveLength(timesOf(first).length);
    for (const [index, { ns, ...of }] of timesOf(first).entries()) {
      expect(again[index]).toMatchObject(of);
      within(again[index]!.ns, ns, 0.01);
    }
  });

  test('are not measured where there is one, and the report says why', async () => {
    const document = await sums({ law: referenceProfile('b300-cc') });
    expect(timesOf(document)).toEqual([]);
    expect(document.profile!.links).toBeUndefined();
    expect(reportLines(document, null).join('\n')).toMatch(/^collectives +not measured: there is/m);
  });

  test('on ranks of the cpu, in real time, take what a law adds', async () => {
    const collectives = { tollNs: 2e6, rateFactor: 1 };
    const law = parseProfile({ ...referenceProfile('h100-native'), collectives });
    const device = await openCpuDevice({ threads: 1 });
    const sampler = new Sampler(() => clock.nowNs(), new AbortController().signal);
    const limits = limitsOf({
      quick: true,
      deviceMemoryBytes: 2 ** 26,
      hostFreeBytes: 2 ** 26,
      hasLaw: true,
      isCpu: true,
    });
    const open = async () =>
      splitDevice(await openCpuDevice({ threads: 1, law: profileLaw(law) }), 2);
    const group = { gpus: 2, otherProcesses: 0, open };
    const few = { ...limits, collectiveBytes: 8_192 };
    const runs = await measureCollectives(await Workbench.open(device, few, sampler, group));
    await device.close();
    expect(runs.map(({ parameters: { name, bytes } }) => [name, bytes])).toEqual([
      ['all-reduce', 4_096],
      ['all-reduce', 8_192],
      ['all-gather', 4_096],
      ['all-gather', 8_192],
    ]);
    // A difference of two graphs: what else runs here may make the shorter one long.
    const most = Math.max(...runs.map(({ spread }) => spread.operationNs![1]));
    expect(most).toBeGreaterThan(0.9 * collectives.tollNs);
  });
});

test('what was measured before the operator stopped it is there, and marked', async () => {
  const stop = new AbortController();
  const document: ProbeDocument = await probe(
    options({
      law: referenceProfile('b300-cc'),
      stop: stop.signal,
      onStep: (_, index) => {
        if (index === 2) stop.abort();
      },
    }),
  );
  expect(document.isComplete).toBe(false);
  expect(document.profile).toBeNull();
  expect(document.runs.length).toBeGreaterThan(10);
  const outcomes = document.steps.map(({ outcome }) => outcome);
  expect(outcomes.slice(0, 3)).toEqual(['measured', 'measured', 'stopped']);
  expect(new Set(outcomes.slice(2))).toEqual(new Set(['stopped']));
});
