import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';

// Tests run as compiled JavaScript: worker threads start from files, and Node 20 cannot run
// TypeScript.
const include = ['{packages,tests}/*/dist/**/*.test.js', 'tidy/dist/**/*.test.js'];

/** Files that change what their process is: each gets one of its own. */
const alone = ['packages/device/dist/cuda/**/*.test.js', 'packages/engine/dist/cuda.test.js'];

/** What takes longest begins first: begun last, it would go on when all others are done. */
const LONG = [
  'cuda/kernels/kernel-source',
  'device/dist/cpu/cpu-device',
  'selftest/model-check',
  'simulator/dist/simulate',
  'testing/fuzz/targets',
  'bridgekeeper/dist/selftest/models',
  'bridgekeeper/dist/end-to-end',
  'fabric/dist/simulate/simulate',
  'server/dist/routes/console',
  'bridgekeeper/dist/console',
  'testing/chaos/chaos',
  'tidy/dist/mutate',
  'bridgekeeper/dist/examples',
  'bridgekeeper/dist/fabric-agent',
  'bridgekeeper/dist/fleet-receipts',
];

class LongFirst extends BaseSequencer {
  async sort(files) {
    const placeOf = ({ moduleId }) => {
      const place = LONG.findIndex((name) => moduleId.endsWith(`${name}.test.js`));
      return place < 0 ? LONG.length : place;
    };
    // Processes that are shared stay where files that need their own are through.
    const isShared = ({ project }) => Number(!project.config.isolate);
    const sorted = await super.sort(files);
    return sorted.sort((a, b) => isShared(a) - isShared(b) || placeOf(a) - placeOf(b));
  }
}

export default defineConfig({
  test: {
    pool: 'forks',
    // One more than the fewest cores: tests wait for processes, clocks and disks.
    maxWorkers: 3,
    sequence: { sequencer: LongFirst },
    // What is compiled is read by Node itself; nothing here mocks modules.
    experimental: { viteModuleRunner: false, nodeLoader: false },
    testTimeout: 120_000,
    // Hooks start servers and browsers, while others take the processors.
    hookTimeout: 200_000,
    // Loading modules anew for every file took a third of all processor time.
    projects: [
      { extends: true, test: { name: 'shared', include, exclude: alone, isolate: false } },
      { extends: true, test: { name: 'alone', include: alone } },
    ],
  },
});
