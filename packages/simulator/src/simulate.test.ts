import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { findMutants } from './mutants/find.ts';
import { FLEET_MUTANTS } from './mutants/fleet-mutants.ts';
import { MUTANTS } from './mutants/mutants.ts';
import type { ShrunkFailure } from './mutants/shrink-child.ts';

/** A process of its own: a simulation takes all of one for itself. */
async function simulated(...flags: string[]) {
  const main = fileURLToPath(new URL('./main.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [main, '--json', ...flags]);
  return JSON.parse(stdout);
}

it('one seed has one history, on every release of Node', async () => {
  const { digests } = await simulated('--seeds', '11..12', '--requests', '20');
  // Of 20.20.2, 24.22.3 and 26.12.1. What the product does changes it: then it is written anew.
  expect(digests).toEqual([
    { seed: 11, digest: '24c41348ecb8f5cdc2c9b16ccbd69b167cff25271c1e1bdf3b9daff9b2e9e85d' },
    { seed: 12, digest: '992e6ad1d5f84583ff30c168335a04df1d8b0b7adafae28022bf23ef46b97095' },
  ]);
});

it('one seed of a fleet has one history, too', async () => {
  const flags = ['--fleet', '--seed', '12', '--requests', '5', '--faults', 'control-kill'];
  const [one, other] = await Promise.all([simulated(...flags), simulated(...flags)]);
  expect(one.failures).toEqual([]);
  expect(other.digests).toEqual(one.digests);
  const counts = new Map<string, number>(
    one.coverage.map(({ what, count }: { what: string; count: number }) => [what, count]),
  );
  expect(counts.get('fleet up')).toBe(1);
  expect(counts.get('fault: control-kill')).toBeGreaterThan(0);
});

it('each bug that can be planted is of the product as it is', () => {
  const packages = new URL('../../', import.meta.url);
  const stale = [...MUTANTS, ...FLEET_MUTANTS].filter(
    ({ file, find }) => readFileSync(new URL(file, packages), 'utf8').split(find).length !== 2,
  );
  expect(stale.map(({ name }) => name)).toEqual([]);
});

it('a bug in the product is found', async () => {
  const options = { jobs: 2, endsNs: Infinity, tell: () => {} };
  const rows = await findMutants(['page-freed-twice'], 1, 10, options);
  expect(rows).toMatchObject([{ seed: 1, seeds: 1, invariant: 'pages-kept' }]);
});

/** Runs a seed with a bug in the product, and makes its failure smaller where tries are given. */
async function failed(...args: string[]): Promise<ShrunkFailure> {
  const child = fileURLToPath(new URL('./mutants/shrink-child.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [child, ...args]);
  return JSON.parse(stdout) as ShrunkFailure;
}

it('a failure is made smaller, and what replays it fails alike', async () => {
  const bug = 'stream-ended-twice';
  const large = await failed(bug, '1', '40', 'reset,split', '8');
  const [, requests, faults] = /--seed 1 --requests (\d+) --faults (\S+)$/.exec(large.replay!)!;
  expect(large.invariant).toBe('ends-once');
  expect(Number(requests)).toBeLessThan(large.requests);
  expect(faults).toBe('none');
  const small = await failed(bug, '1', requests!, faults!);
  expect(small).toMatchObject({ invariant: 'ends-once', digest: large.digest });
});
