/** Where a lane's thread is with a copy, in the order in which it gets there. */
const PHASES = [
  'waits for a copy',
  'waits for the work before the copy',
  'hands the copy to the driver',
  'waits for the bytes to arrive',
  'waits as the law says',
] as const;
export type LanePhase = (typeof PHASES)[number];

/** Phases that do not depend on anything but the GPU's copy engines. */
const BOUNDED: ReadonlySet<LanePhase> = new Set([
  'hands the copy to the driver',
  'waits for the bytes to arrive',
]);

/**
 * What a lane's thread is doing, readable by the launching thread also while it is in a call of the
 * driver.
 */
export class LaneProgress {
  readonly shared: SharedArrayBuffer;
  readonly #cells: Int32Array;

  constructor(shared = new SharedArrayBuffer(8)) {
    this.shared = shared;
    this.#cells = new Int32Array(shared);
  }

  /** Called by the lane's thread. */
  enter(phase: LanePhase): void {
    Atomics.store(this.#cells, 0, PHASES.indexOf(phase));
    Atomics.add(this.#cells, 1, 1);
  }

  get phase(): LanePhase {
    return PHASES[Atomics.load(this.#cells, 0)]!;
  }

  /** Rises with every phase. */
  get count(): number {
    return Atomics.load(this.#cells, 1);
  }

  /** Whether the thread is where it should not be for long. */
  get isBounded(): boolean {
    return BOUNDED.has(this.phase);
  }
}
