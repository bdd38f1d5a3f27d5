import type { Door } from './door.ts';

/** Through which doors a launch's crossings go, and how they stand to the launch's work. */
export interface StepDoors {
  readonly command: Door;
  readonly drain: Door;
  /**
   * `when-done`: no copy is issued while work is queued before it: a command is applied once it
   * has arrived, results are copied once they are there. `behind`: copies are issued at once, and
   * the device puts them in order, as engines made for cheap asynchronous copies do.
   */
  readonly mode: 'when-done' | 'behind';
}
