import { register } from 'node:module';
import { FLEET_MUTANTS } from './fleet-mutants.ts';
import type { Change } from './hooks.ts';
import { MUTANTS } from './mutants.ts';

/** In place of a bug's name: none, in servers or in a fleet. */
export const NO_BUG = 'none';
export const FLEET_WITHOUT = `${NO_BUG}-fleet`;

/** Puts a bug into the product as this process is about to load it. Says whether of a fleet. */
export function plant(name: string | undefined): { readonly isFleet: boolean } {
  const mutant = [...MUTANTS, ...FLEET_MUTANTS].find((each) => each.name === name);
  if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
  const url = new URL(`../../../${mutant.file}`, import.meta.url).href;
  const data: Change = { url, find: mutant.find, replace: mutant.replace };
  register('./hooks.js', import.meta.url, { data });
  return { isFleet: FLEET_MUTANTS.includes(mutant) };
}
