import { Session } from 'node:inspector/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { ChainCache } from '@bridgekeeper/attest';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { type VerifyCase, verifyCase } from './cases.ts';

/** What the measured thread is started with. */
export interface VerifyOrder {
  readonly one: VerifyCase;
  /** Verifications before those that are measured. */
  readonly warmUps: number;
  readonly repeats: number;
  /** Verifications at a time. */
  readonly parallel: number;
}

/** What it found: each repeat's time, verdicts, and the heap once garbage was collected. */
export interface VerifyFindings {
  readonly elapsedMs: readonly number[];
  readonly verdict: string;
  /** By status. */
  readonly claims: Readonly<Record<string, number>>;
  readonly heapBeforeBytes: number;
  readonly heapAfterBytes: number;
}

const { one, warmUps, repeats, parallel } = workerData as VerifyOrder;
const chains = new ChainCache();
const inspector = new Session();
inspector.connect();

const round = () => Promise.all(Array.from({ length: parallel }, () => verifyCase(one, chains)));

async function heapBytes(): Promise<number> {
  await inspector.post('HeapProfiler.collectGarbage');
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

type Measured = Pick<VerifyFindings, 'elapsedMs' | 'verdict' | 'claims'>;

/** Keeps no result: they are not the verifier's memory. */
async function measure(count: number): Promise<Measured> {
  const elapsedMs: number[] = [];
  const verdicts = new Set<string>();
  const claims: Record<string, number> = {};
  for (let repeat = 0; repeat < count; repeat++) {
    const startedNs = HOST_CLOCK.nowNs();
    const results = await round();
    elapsedMs.push((HOST_CLOCK.nowNs() - startedNs) / 1e6);
    for (const { verdict } of results) verdicts.add(verdict.result);
    if (repeat > 0) continue;
    for (const { status } of results[0]!.claims) claims[status] = (claims[status] ?? 0) + 1;
  }
  return { elapsedMs, verdict: [...verdicts].join(), claims };
}

await measure(warmUps);
const heapBeforeBytes = await heapBytes();
const measured = await measure(repeats);
const findings: VerifyFindings = {
  ...measured,
  heapBeforeBytes,
  heapAfterBytes: await heapBytes(),
};
parentPort!.postMessage(findings);
