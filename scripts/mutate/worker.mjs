// Runs files of tests, one after the other, until a test fails. A process for one mutant: what a
// mutant leaves behind in modules ends with it. Vitest's own runner, without its pool and server,
// which take longer than most of the tests.

import { pathToFileURL } from 'node:url';
import { startTests } from '@vitest/runner';

let failed;

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
  importFile: (path) => import(pathToFileURL(path).href),
  onBeforeRunTask(task) {
    if (failed !== undefined) task.mode = 'skip';
  },
  onAfterRunTask: note,
  onAfterRunSuite: note,
};

// As in vitest's own processes: one goes on while a test waits for a thread that would not hold it,
// and matchers such as `toSatisfy` ask which file they are in.
process.channel.ref();
const state = { filepath: '', config: {} };
Object.defineProperty(globalThis, '__vitest_worker__', { value: state });

for (const path of process.argv.slice(2)) {
  state.filepath = path;
  const [file] = await startTests([path], runner);
  note(file);
  process.send({ path, failed });
  if (failed !== undefined) break;
}
// What tests leave open must not hold the process; messages on their way must arrive.
process.disconnect();
process.exit(failed === undefined ? 0 : 1);
