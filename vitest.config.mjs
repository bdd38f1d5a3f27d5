import { defineConfig } from 'vitest/config';

// Tests run as compiled JavaScript: worker threads start from files, and Node 20 cannot run
// TypeScript.
export default defineConfig({
  test: {
    include: ['{packages,tests}/*/dist/**/*.test.js', 'tidy/dist/**/*.test.js'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
});
