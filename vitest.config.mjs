import { defineConfig } from 'vitest/config';

// Tests run as compiled JavaScript: worker threads start from files, and Node 20 cannot run
// TypeScript.
const include = ['{packages,tests}/*/dist/**/*.test.js', 'tidy/dist/**/*.test.js'];

/** Files that change what their process is: each gets one of its own. */
const alone = ['packages/device/dist/cuda/**/*.test.js', 'packages/engine/dist/cuda.test.js'];

export default defineConfig({
  test: {
    pool: 'forks',
    // One more than the fewest cores: tests wait for processes, clocks and disks.
    maxWorkers: 3,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // Loading modules anew for every file took a third of all processor time.
    projects: [
      { extends: true, test: { name: 'shared', include, exclude: alone, isolate: false } },
      { extends: true, test: { name: 'alone', include: alone } },
    ],
  },
});
