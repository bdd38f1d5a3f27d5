// Which mutant is on, in this thread: the environment says it, which threads and child processes
// inherit. All instrumented modules import `$m` from a copy of this file.

import { appendFileSync } from 'node:fs';

let active = Number(process.env.BRIDGEKEEPER_MUTANT ?? -1);
const reachedPath = process.env.BRIDGEKEEPER_REACHED;
let reached = new Set();
/** Where tests run, who reaches is known: the last mark. Elsewhere a thread may serve any test. */
let isMarked = false;

/** Turns on a mutant here, and in the threads and processes that are started from now on. */
export function turnOn(id) {
  active = id;
  process.env.BRIDGEKEEPER_MUTANT = String(id);
}

/** Marks, where it is noted what is reached, who reaches what is noted from now on. */
export function mark(who) {
  if (reachedPath === undefined) return;
  isMarked = true;
  reached = new Set();
  appendFileSync(reachedPath, `${who}\n`);
}

/** With no mutant on, notes at once which were reached: a thread may be ended at any time. */
function note(id) {
  if (reached.has(id)) return false;
  reached.add(id);
  appendFileSync(reachedPath, isMarked ? `${id}\n` : `elsewhere ${id}\n`);
  return false;
}

export const $m = reachedPath === undefined ? (id) => id === active : note;
