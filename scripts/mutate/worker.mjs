// Runs tests with a mutant on, one file after the other, until a test fails, as often as it is told
// to. Vitest's own runner, without its pool and server, which take longer than most of the tests.

import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { startTests } from '@vitest/runner';
import { getTests } from '@vitest/runner/utils';
import { configureGlobal } from 'fast-check';

const { mark, turnOn } = await import(process.argv[2]);
// Whether a property fails is asked, and not how plainly.
configureGlobal({ endOnFailure: true });
let failed;
/** Each run loads the test file anew, and what it imports once. */
let runs = 0;
/** The tests of this file that are wanted, by their order in it; undefined: all. */
let only;
/** By test of this file: its place in it, and the seconds it took. */
let places = new Map();
let seconds = [];
let startedMs = 0;

function note(task) {
  if (failed !== undefined || task.result?.state !== 'fail') return;
  const error = task.result.errors?.[0];
  failed = {
    test: task.fullName ?? task.name,
    place: places.get(task),
    message: error?.stack ?? error?.message,
  };
}

/** Leaves a suite out where nothing in it is wanted, with what it does before its tests. */
function choose(task) {
  if (task.type === 'test') {
    if (!only.has(places.get(task))) task.mode = 'skip';
  } else {
    task.tasks.forEach(choose);
    const isWanted = getTests(task).some(({ mode }) => mode !== 'skip');
    if (!isWanted) task.mode = 'skip';
  }
}

const runner = {
  config: {
    root: process.cwd(),
    setupFiles: [],
    sequence: { shuffle: false, concurrent: false, seed: 1, hooks: 'stack', setupFiles: 'list' },
    maxConcurrency: 1,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    retry: 0,
    tags: [],
  },
  pool: 'forks',
  importFile: async (path) => {
    mark('loading');
    await import(`${pathToFileURL(path).href}?run=${runs}`);
    mark('hooks');
  },
  onCollected([file]) {
    places = new Map(getTests(file).map((test, place) => [test, place]));
    seconds = [...places.values()].map(() => 0);
    if (only !== undefined) choose(file);
  },
  onBeforeRunTask(task) {
    if (failed !== undefined) task.mode = 'skip';
    const place = places.get(task);
    mark(`test ${place}`);
    process.send({ begun: place });
    startedMs = performance.now();
  },
  onAfterRunTask(task) {
    seconds[places.get(task)] = (performance.now() - startedMs) / 1000;
    mark('hooks');
    note(task);
  },
  onAfterRunSuite: note,
};

// A mutant that hangs does not outlive the run.
process.on('disconnect', () => process.exit(1));
// As in vitest's own processes: matchers such as `toSatisfy` ask which file they are in.
const state = { filepath: '', config: {} };
Object.defineProperty(globalThis, '__vitest_worker__', { value: state });

// Vitest's own would ask its server where the file is.
const { expect } = await import('vitest');
expect.extend({
  async toMatchFileSnapshot(received, path) {
    const wanted = await readFile(path, 'utf8');
    return { pass: received === wanted, message: () => `differs from ${path}` };
  },
});

process.on('message', async ({ mutant, files }) => {
  turnOn(mutant);
  failed = undefined;
  for (const { path, places: wanted } of files) {
    runs += 1;
    only = wanted && new Set(wanted);
    state.filepath = path;
    const [file] = await startTests([path], runner);
    note(file);
    process.send({ failed, seconds });
    if (failed !== undefined) break;
  }
});
