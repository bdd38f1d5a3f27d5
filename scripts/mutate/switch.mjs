// Which mutant is on, in this thread: the environment says it, which threads and child processes
// inherit. All instrumented modules import `$m` from a copy of this file.

import { appendFileSync } from 'node:fs';

const active = Number(process.env.BRIDGEKEEPER_MUTANT ?? -1);
const reachedPath = process.env.BRIDGEKEEPER_REACHED;
const reached = new Set();

/** With no mutant on, notes at once which were reached: a thread may be ended at any time. */
function note(id) {
  if (reached.has(id)) return false;
  reached.add(id);
  appendFileSync(reachedPath, `${id}\n`);
  return false;
}

export const $m = reachedPath === undefined ? (id) => id === active : note;
