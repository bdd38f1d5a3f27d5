import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import { flag, integer, texts, time, UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Suite } from '../suite.ts';
import { givenCase, madeCases, type VerifyCase } from './cases.ts';
import type { VerifyFindings, VerifyOrder } from './worker.ts';

/** Times that a thread is started afresh. */
const COLD_STARTS_MAX = 5;

const FLAGS = {
  evidence: flag(
    texts('files'),
    [],
    'evidence of real machines besides what is made up: folders, or files joined by +',
  ),
  at: flag(time(), undefined, 'judge that as of this time, as verify'),
  repeats: flag(integer(1, 1000), 20, 'measurements of each, after as many that warm'),
  parallel: flag(integer(1, 1024), 64, 'services at a time'),
  rounds: flag(integer(1, 1000), 10, 'times that many'),
};

/** What a verification takes: the first of a process, the later ones, and many at a time. */
export const VERIFY_SUITE: Suite<typeof FLAGS> = {
  name: 'verify',
  summary: 'what verifying takes: the first time, with warm caches, and many at a time',
  flags: FLAGS,
  async run({ evidence, at, repeats, parallel, rounds }, progress) {
    const nowMs = at ?? HOST_CLOCK.unixSeconds() * 1000;
    const given = await Promise.all(evidence.map((paths) => readGiven(paths, nowMs)));
    const [service, ...parts] = await madeCases();
    const runs: MeasuredRun[] = [];
    const add = (run: MeasuredRun) => {
      runs.push(run);
      const { input, caches, parallel, verdict } = run.parameters;
      const time = `${run.metrics.elapsedMs!.toFixed(1)} ms`;
      progress(`${input}, ${caches}, ${parallel} at a time: ${time}, ${verdict}`);
    };
    for (const one of [...given, ...parts, service]) {
      add(await measureCold(one, Math.min(COLD_STARTS_MAX, repeats)));
      add(await measureWarm({ one, warmUps: repeats, repeats, parallel: 1 }));
    }
    add(await measureWarm({ one: service, warmUps: 2, repeats: rounds, parallel }));
    return { device: { name: 'none', driver: null }, runs };
  },
};

/** Throws UsageError. */
async function readGiven(paths: string, nowMs: number): Promise<VerifyCase> {
  try {
    return await givenCase(paths, nowMs);
  } catch (error) {
    const { EvidenceFileError } = await import('@bridgekeeper/attest/node');
    if (!(error instanceof EvidenceFileError)) throw error;
    throw new UsageError('bad-file', error.message, { cause: error });
  }
}

/** The first verification of a thread: nothing is compiled, no certificate is known. */
async function measureCold(one: VerifyCase, repeats: number): Promise<MeasuredRun> {
  const all: VerifyFindings[] = [];
  for (let i = 0; i < repeats; i++) {
    all.push(await inThread({ one, warmUps: 0, repeats: 1, parallel: 1 }));
  }
  const times = all.flatMap(({ elapsedMs }) => elapsedMs);
  return runOf(one, 'cold', 1, all[0]!, times);
}

async function measureWarm(order: VerifyOrder): Promise<MeasuredRun> {
  const findings = await inThread(order);
  const { heapBeforeBytes, heapAfterBytes } = findings;
  const run = runOf(order.one, 'warm', order.parallel, findings, findings.elapsedMs);
  return { ...run, metrics: { ...run.metrics, heapBeforeBytes, heapAfterBytes } };
}

function runOf(
  { input }: VerifyCase,
  caches: string,
  parallel: number,
  { verdict, claims }: VerifyFindings,
  times: readonly number[],
): MeasuredRun {
  const counts = {
    verified: claims.verified ?? 0,
    unverified: claims.unverified ?? 0,
    refused: claims.refused ?? 0,
  };
  const repeats = times.map((elapsedMs) => ({
    elapsedMs,
    elapsedMsEach: elapsedMs / parallel,
    ...counts,
  }));
  return summarise({ input, caches, parallel, verdict }, repeats);
}

async function inThread(order: VerifyOrder): Promise<VerifyFindings> {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: order });
  const [[findings]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
  return findings as VerifyFindings;
}
