import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { findMutant } from './mutants/find.ts';

/** A process of its own: a simulation takes all of one for itself. */
async function simulated(...flags: string[]) {
  const main = fileURLToPath(new URL('./main.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [main, '--json', ...flags]);
  return JSON.parse(stdout);
}

it('one seed has one history, on every release of Node', async () => {
  const { digests } = await simulated('--seed', '11', '--requests', '20');
  // Of 20.20.2 and 24.22.3. What the product does changes it: then it is written anew.
  expect(digests).toEqual([
    { seed: 11, digest: '73055d02c810faf62cd2eeeaf4a484f8abe7d32f9676caecdd6cac00cda60693' },
  ]);
});

it('one seed of a fleet has one history, too', async () => {
  const flags = ['--fleet', '--seed', '12', '--requests', '5', '--faults', 'control-kill'];
  const [one, other] = await Promise.all([simulated(...flags), simulated(...flags)]);
  expect(one.violations).toEqual([]);
  expect(other.digests).toEqual(one.digests);
  const counts = new Map<string, number>(
    one.coverage.map(({ what, count }: { what: string; count: number }) => [what, count]),
  );
  expect(counts.get('fleet up')).toBe(1);
  expect(counts.get('fault: control-kill')).toBeGreaterThan(0);
});

it('a bug in the product is found', async () => {
  expect(await findMutant('page-freed-twice', 1, 10)).toMatchObject({ invariant: 'pages-kept' });
});
