// Which mutant is on, in this thread: the environment says it, which threads and child processes
// inherit. All instrumented modules import `$m` from a copy of this file.

import { appendFileSync } from 'node:fs';

let active = Number(process.env.BRIDGEKEEPER_MUTANT ?? -1);
const reachedPath = process.env.BRIDGEKEEPER_REACHED;
const reached = new Set();

/** Turns on a mutant here, and in the threads and processes that are started from now on. */
export function turnOn(id) {
  active = id;
  process.env.BRIDGEKEEPER_MUTANT = String(id);
}

/** Marks, where it is noted what is reached, that modules are loaded and tests begin. */
export function noteLoaded() {
  if (reachedPath !== undefined) appendFileSync(reachedPath, 'loaded\n');
}

/** With no mutant on, notes at once which were reached: a thread may be ended at any time. */
function note(id) {
  if (reached.has(id)) return false;
  reached.add(id);
  appendFileSync(reachedPath, `${id}\n`);
  return false;
}

export const $m = reachedPath === undefined ? (id) => id === active : note;
