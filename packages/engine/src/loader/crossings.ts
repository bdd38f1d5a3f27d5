import {
  type Crossing,
  type CrossingRecord,
  createScheduler,
  invariant,
  type SchedulerState,
  step,
} from '@bridgekeeper/bridge';
import type { Lane } from '@bridgekeeper/device';

interface Waiting {
  readonly make: (lane: Lane) => Promise<CrossingRecord>;
  resolve(record: CrossingRecord): void;
  reject(error: unknown): void;
}

/**
 * Gives crossings to lanes as the bridge's scheduler says. Each lane has several turns, so that its
 * next crossing is there when one ends.
 */
export class CrossingQueue {
  readonly #state: SchedulerState = createScheduler({
    // Whoever submits has cut its bytes already.
    chunkBytes: ({ bytes }: Crossing) => bytes,
    streakMax: 8,
  });
  readonly #turns = new Map<string, Lane>();
  readonly #waiting = new Map<string, Waiting>();
  #nextId = 0;

  constructor(lanes: readonly Lane[], turns: number) {
    for (const lane of lanes) {
      for (let turn = 0; turn < turns; turn++) {
        const id = `${lane.id}/${turn}`;
        this.#turns.set(id, lane);
        step(this.#state, { kind: 'lane-opened', lane: id });
      }
    }
  }

  /** Resolves when `make` did the crossing on the lane whose turn it was. */
  submit(
    crossing: Crossing,
    make: (lane: Lane) => Promise<CrossingRecord>,
  ): Promise<CrossingRecord> {
    const id = String(this.#nextId++);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { make, resolve, reject });
      this.#obey(step(this.#state, { kind: 'submitted', id, crossing }));
    });
  }

  #obey(actions: ReturnType<typeof step>): void {
    for (const action of actions) {
      if (action.kind === 'carry') void this.#carry(action.lane, action.id);
    }
  }

  async #carry(turn: string, id: string): Promise<void> {
    const { make, resolve, reject } = this.#waiting.get(id)!;
    const lane = this.#turns.get(turn);
    invariant(lane !== undefined, `the scheduler chose the turn ${turn}, which there is not`);
    this.#waiting.delete(id);
    try {
      resolve(await make(lane));
    } catch (error) {
      reject(error);
    } finally {
      this.#obey(step(this.#state, { kind: 'carried', lane: turn }));
    }
  }
}
