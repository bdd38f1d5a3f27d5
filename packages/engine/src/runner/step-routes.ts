import type { Route } from '../traffic/route.ts';

/** Which routes a launch's crossings take, and how they are ordered with the launch's work. */
export interface StepRoutes {
  readonly command: Route;
  readonly drain: Route;
  /**
   * `when-done`: no copy is issued while work is queued before it: a command is applied once it
   * has arrived, results are copied once they are there. `behind`: copies are issued at once, and
   * the device puts them in order, as engines made for cheap asynchronous copies do.
   */
  readonly mode: 'when-done' | 'behind';
}
