import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { MutantFound } from './child.ts';

/** Runs seeds on the product with one bug until something is noticed. */
export async function findMutant(name: string, first: number, last: number): Promise<MutantFound> {
  const child = fileURLToPath(new URL('./child.js', import.meta.url));
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [child, name, String(first), String(last)],
    { maxBuffer: 2 ** 24 },
  );
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as MutantFound;
}
