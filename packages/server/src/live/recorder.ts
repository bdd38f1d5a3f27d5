import type { CrossingRecord, Profile } from '@bridgekeeper/bridge';
import { ACCOUNTS } from '@bridgekeeper/bridge';
import type { EngineOptions } from '@bridgekeeper/engine';
import { CROSSING_FIELDS, LAUNCH_FIELDS, type LiveBatch } from './batch.ts';

type LaunchRecord = Parameters<NonNullable<EngineOptions['onLaunch']>>[0];

/** Of one batch: at ten batches a second, 80,000 crossings a second. */
const CROSSINGS_MAX = 8_192;
const LAUNCHES_MAX = 4_096;

const NOTHING = new Float64Array();

/**
 * Writes down what the engine does while somebody watches, in memory that is allocated once. Runs
 * in the engine's thread, for every crossing: nothing here allocates.
 */
export class LiveRecorder {
  #isWatched = false;
  /** What is known of the bridge's tolls; null: nothing. */
  readonly #profile: Profile | null;
  readonly #lanes = new Map<string, number>();
  readonly #accounts: ReadonlyMap<string, number>;
  /** Made when somebody first watches, which most engines never see. */
  #crossings = NOTHING;
  #launches = NOTHING;
  #crossingCount = 0;
  #launchCount = 0;
  #dropped = 0;

  constructor(profile: Profile | null) {
    this.#profile = profile;
    this.#accounts = new Map(
      ACCOUNTS.map(({ purpose, direction }, index) => [`${purpose} ${direction}`, index]),
    );
  }

  /** Nothing is written down while this is false. */
  get isWatched(): boolean {
    return this.#isWatched;
  }

  set isWatched(on: boolean) {
    this.#isWatched = on;
    if (!on || this.#crossings !== NOTHING) return;
    this.#crossings = new Float64Array(CROSSINGS_MAX * CROSSING_FIELDS);
    this.#launches = new Float64Array(LAUNCHES_MAX * LAUNCH_FIELDS);
  }

  readonly crossing = (record: CrossingRecord): void => {
    if (!this.#isWatched) return;
    if (this.#crossingCount === CROSSINGS_MAX) {
      this.#dropped += 1;
      return;
    }
    const { lane, purpose, direction, memory } = record;
    let number = this.#lanes.get(lane);
    if (number === undefined) {
      number = this.#lanes.size;
      this.#lanes.set(lane, number);
    }
    const into = this.#crossings;
    const at = this.#crossingCount * CROSSING_FIELDS;
    const toll = this.#profile?.crossings[direction][memory].idleTollNs ?? 0;
    into[at] = number;
    into[at + 1] = this.#accounts.get(`${purpose} ${direction}`)!;
    into[at + 2] = record.issuedNs;
    into[at + 3] = record.startedNs;
    into[at + 4] = record.completedNs;
    into[at + 5] = record.bytes;
    into[at + 6] = Math.min(toll, record.completedNs - record.startedNs);
    into[at + 7] = record.issuerBlockedNs;
    this.#crossingCount += 1;
  };

  readonly launch = (record: LaunchRecord): void => {
    if (!this.#isWatched) return;
    if (this.#launchCount === LAUNCHES_MAX) {
      this.#dropped += 1;
      return;
    }
    const at = this.#launchCount * LAUNCH_FIELDS;
    this.#launches[at] = record.startedNs;
    this.#launches[at + 1] = record.doneNs;
    this.#launches[at + 2] = record.steps;
    this.#launches[at + 3] = record.rows;
    this.#launches[at + 4] = record.promptTokens;
    this.#launchCount += 1;
  };

  /** What came since it was last asked for. */
  take(nowNs: number): LiveBatch {
    const batch = {
      nowNs,
      lanes: [...this.#lanes.keys()],
      crossings: this.#crossings.slice(0, this.#crossingCount * CROSSING_FIELDS),
      launches: this.#launches.slice(0, this.#launchCount * LAUNCH_FIELDS),
      dropped: this.#dropped,
    };
    this.#crossingCount = 0;
    this.#launchCount = 0;
    this.#dropped = 0;
    return batch;
  }
}
