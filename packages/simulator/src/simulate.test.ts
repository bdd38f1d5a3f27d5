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
    { seed: 11, digest: 'ecbdb5ff3ac9f272778d5b4cbc9c0bd1bd097320df72c83fef97c094072a4505' },
  ]);
});

it('a bug in the product is found', async () => {
  expect(await findMutant('page-freed-twice', 1, 10)).toMatchObject({ invariant: 'pages-kept' });
});
