import {
  type Crossing,
  type CrossingRecord,
  createScheduler,
  InvariantError,
  invariant,
  isUrgent,
  Later,
  type Routine,
  run,
  type SchedulerAction,
  type SchedulerState,
  step,
  takeLane,
} from '@bridgekeeper/bridge';
import { type CopyRequest, type Lane, slice } from '@bridgekeeper/device';

export interface RouteOptions {
  /** Crossings that each lane is given at once, so that its next one is there when one ends. */
  readonly turnsPerLane: number;
  /** The largest piece of such a crossing that may keep a lane. */
  readonly pieceBytes: (crossing: Crossing) => number;
  /** Takes in every copy that was made; what it throws breaks an invariant. */
  readonly onRecord: (record: CrossingRecord) => void;
}

/** Chunks of a higher class that may pass a lower one in a row. */
const STREAK_MAX = 8;

/** A crossing that was submitted: its pieces are copied by whichever lanes are free. */
interface Submitted {
  readonly request: CopyRequest;
  readonly records: CrossingRecord[];
  failure?: { readonly error: unknown };
  readonly done: Later<readonly CrossingRecord[]>;
}

/**
 * Where crossings go: the launching thread's lane, one of its own, or several that carry alike.
 * Whatever is submitted to a route waits until the bridge's scheduler gives it a lane: a step's
 * tokens and commands first, tenants by fair shares, bulk in pieces.
 */
export class Route {
  readonly lanes: readonly Lane[];
  readonly #options: RouteOptions;
  readonly #state: SchedulerState;
  /** Copies under way on each lane, the lane that was chosen last at the end. */
  readonly #underWay: Map<Lane, number>;
  readonly #submitted = new Map<string, Submitted>();
  /** Copies that passed the queue and are under way. */
  #passing = 0;
  #nextId = 0;
  #isClosed = false;

  constructor(lanes: readonly Lane[], options: RouteOptions) {
    invariant(lanes.length > 0, 'a route has a lane');
    this.lanes = lanes;
    this.#options = options;
    this.#state = createScheduler({ chunkBytes: options.pieceBytes, streakMax: STREAK_MAX });
    this.#underWay = new Map(lanes.map((lane) => [lane, 0]));
    for (let turn = 0; turn < lanes.length * options.turnsPerLane; turn++) {
      step(this.#state, { kind: 'lane-opened', lane: String(turn) });
    }
  }

  /**
   * Makes the crossing when the scheduler lets it: at once, before this returns, where a lane is
   * free. Resolves when all bytes have arrived, with a record of each piece; rejects with the first
   * failure once no lane works on the crossing any more.
   */
  cross(request: CopyRequest): PromiseLike<readonly CrossingRecord[]> {
    this.#assertOpen();
    invariant(request.device.bytes > 0, 'a crossing has bytes');
    const turn = takeLane(this.#state, crossingOf(request));
    if (turn !== undefined) return run(this.#crossAlone(turn, request));
    const id = String(this.#nextId++);
    const done = new Later<readonly CrossingRecord[]>();
    this.#submitted.set(id, { request, records: [], done });
    this.#obey(step(this.#state, { kind: 'submitted', id, crossing: crossingOf(request) }));
    return done;
  }

  *#crossAlone(lane: string, request: CopyRequest): Routine<readonly CrossingRecord[]> {
    this.#passing += 1;
    try {
      return [yield* this.#copy(this.#leastBusy(), request)];
    } finally {
      this.#passing -= 1;
      this.#obey(step(this.#state, { kind: 'lane-back', lane }));
    }
  }

  /**
   * Issues the copy before this returns, whatever the lane has to do, so that work launched next is
   * ordered behind it on the device. It passes what waits on this route, earlier crossings of its
   * own class as well; so only the most urgent class may, and probes, which have the bridge to
   * themselves. The route has one lane.
   */
  crossNow(request: CopyRequest): PromiseLike<CrossingRecord> {
    return run(this.#crossNow(request));
  }

  *#crossNow(request: CopyRequest): Routine<CrossingRecord> {
    this.#assertOpen();
    const { purpose } = request;
    invariant(isUrgent(purpose) || purpose === 'probe', `${purpose} may not pass other crossings`);
    invariant(this.lanes.length === 1, 'copies that are issued at once have one lane');
    this.#passing += 1;
    try {
      return yield* this.#copy(this.lanes[0]!, request);
    } finally {
      this.#passing -= 1;
    }
  }

  /** No crossing is under way; no other may follow. */
  close(): void {
    const underWay = this.#submitted.size + this.#passing;
    invariant(underWay === 0, 'a route is closed when its crossings are done');
    this.#isClosed = true;
  }

  #assertOpen(): void {
    invariant(!this.#isClosed, 'a closed route carries nothing');
  }

  #obey(actions: readonly SchedulerAction[]): void {
    for (const action of actions) {
      if (action.kind === 'carry') run(this.#carry(action));
      else this.#finish(action.id);
    }
  }

  *#carry(action: SchedulerAction & { readonly kind: 'carry' }): Routine<void> {
    const { lane: turn, id, offsetBytes, bytes } = action;
    const submitted = this.#submitted.get(id)!;
    // Pieces of a crossing that failed are not made; the scheduler hears that they are over.
    if (submitted.failure === undefined) {
      try {
        const piece = pieceOf(submitted.request, offsetBytes, bytes);
        submitted.records.push(yield* this.#copy(this.#leastBusy(), piece));
      } catch (error) {
        submitted.failure ??= { error };
      }
    }
    this.#obey(step(this.#state, { kind: 'carried', lane: turn }));
  }

  #finish(id: string): void {
    const { records, failure, done } = this.#submitted.get(id)!;
    this.#submitted.delete(id);
    if (failure === undefined) done.resolve(records);
    else done.reject(failure.error);
  }

  /**
   * A turn of the scheduler is any lane's. It goes to one with the fewest copies under way, and of
   * several to that which waited longest: crossings that come together spread over the lanes, and
   * no lane gets more than its turns.
   */
  #leastBusy(): Lane {
    if (this.lanes.length === 1) return this.lanes[0]!;
    const [first, ...others] = this.#underWay;
    const [lane, copies] = others.reduce((best, each) => (each[1] < best[1] ? each : best), first!);
    this.#underWay.delete(lane);
    this.#underWay.set(lane, copies);
    return lane;
  }

  #busy(lane: Lane, change: number): void {
    // Of one lane nobody asks.
    if (this.lanes.length > 1) this.#underWay.set(lane, this.#underWay.get(lane)! + change);
  }

  /** The one call of a lane. */
  *#copy(lane: Lane, request: CopyRequest): Routine<CrossingRecord> {
    this.#busy(lane, 1);
    let record: CrossingRecord;
    try {
      record = (yield lane.copy(request)) as CrossingRecord;
    } finally {
      this.#busy(lane, -1);
    }
    try {
      this.#options.onRecord(record);
    } catch (cause) {
      // The bytes are where they should be: this is no failure of the copy.
      throw new InvariantError(`a copy of lane ${lane.id} was made and not taken in`, { cause });
    }
    return record;
  }
}

function crossingOf({ direction, purpose, tenant, device, host }: CopyRequest): Crossing {
  return { direction, purpose, tenant, bytes: device.bytes, memory: host.memory };
}

function pieceOf(request: CopyRequest, offsetBytes: number, bytes: number): CopyRequest {
  const { device, hostOffsetBytes } = request;
  if (bytes === device.bytes) return request;
  return {
    ...request,
    device: slice(device.buffer, device.offsetBytes + offsetBytes, bytes),
    hostOffsetBytes: hostOffsetBytes + offsetBytes,
  };
}
