// Runs files of tests with a mutant on, one after the other, until a test fails, as often as it is
// told to. Vitest's own runner, without its pool and server, which take longer than most of the
// tests.

import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { startTests } from '@vitest/runner';

const { noteLoaded, turnOn } = await import(process.argv[2]);
let failed;
/** Each run loads the test file anew, and what it imports once. */
let runs = 0;

function note(task) {
  if (failed === undefined && task.result?.state === 'fail') {
    const error = task.result.errors?.[0];
    failed = { test: task.fullName ?? task.name, message: error?.stack ?? error?.message };
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
    await import(`${pathToFileURL(path).href}?run=${runs}`);
    noteLoaded();
  },
  onBeforeRunTask(task) {
    if (failed !== undefined) task.mode = 'skip';
  },
  onAfterRunTask: note,
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

process.on('message', async ({ mutant, paths }) => {
  turnOn(mutant);
  runs += 1;
  failed = undefined;
  for (const path of paths) {
    state.filepath = path;
    const [file] = await startTests([path], runner);
    note(file);
    process.send({ failed });
    if (failed !== undefined) break;
  }
});
