import { type Clock, Later, type Law, type Routine, run, wakeAt } from '@bridgekeeper/bridge';
import { DeviceError } from '../errors.ts';
import { Contexts } from '../law/contexts.ts';
import type { Work, WorkPricer } from './work.ts';

/** A thread of the modelled host: it goes on when what it did last lets it. */
export interface ModelThread {
  freeAtNs: number;
}

/** Launches being recorded instead of run. */
export interface Recording {
  readonly streamId: number;
  readonly works: Work[];
}

/** Wakes at its time, or when the launching thread goes on. */
class Wake<T> extends Later<T> {
  readonly #clock: Clock;
  readonly #thread: ModelThread;
  readonly #value: T;
  readonly #before: (() => void) | undefined;

  constructor(clock: Clock, thread: ModelThread, value: T, before: (() => void) | undefined) {
    super();
    this.#clock = clock;
    this.#thread = thread;
    this.#value = value;
    this.#before = before;
  }

  override resolve(): void {
    const { freeAtNs } = this.#thread;
    if (freeAtNs > this.#clock.nowNs()) {
      this.#clock.resolveAt!(freeAtNs, this);
      return;
    }
    this.#before?.();
    super.resolve(this.#value);
  }
}

/** What the streams and lanes of one modelled device share. */
export class Machine {
  readonly clock: Clock;
  readonly law: Law;
  readonly pricer: WorkPricer;
  readonly launchingThread: ModelThread = { freeAtNs: 0 };
  readonly contexts: Contexts;
  readonly counters = {
    h2dBytes: 0,
    d2hBytes: 0,
    copies: 0,
    launches: 0,
    graphLaunches: 0,
    allocatedBytes: 0,
  };
  /** Told of every launch's time on the GPU. */
  readonly onWork: ((startNs: number, endNs: number) => void) | undefined;
  recording: Recording | null = null;
  isClosed = false;
  /** For which one of either keeps the launching thread, which launches on every rank in turn. */
  readonly launchNs: number;
  readonly graphLaunchNs: number;
  #ids = 0;

  constructor(
    clock: Clock,
    law: Law,
    pricer: WorkPricer,
    ranks: number,
    onWork?: Machine['onWork'],
  ) {
    this.launchNs = ranks * law.launchNs();
    this.graphLaunchNs = ranks * law.graphLaunchNs();
    this.clock = clock;
    this.law = law;
    this.onWork = onWork;
    this.contexts = new Contexts(law.profile.contexts.max);
    this.pricer = pricer;
  }

  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  assertOpen(): void {
    if (this.isClosed) throw new DeviceError('closed', 'the modelled device was closed');
  }

  /** For what cannot be recorded. */
  assertRunning(what: string): void {
    this.assertOpen();
    if (this.recording !== null) {
      throw new DeviceError('bad-argument', `${what} cannot be captured in a graph`);
    }
  }

  /** When the launching thread takes its next instruction. */
  launchingNs(): number {
    return Math.max(this.clock.nowNs(), this.launchingThread.freeAtNs);
  }

  /**
   * Done at `atNs`, or once the launching thread stands still no longer: a promise is of no use
   * to a blocked thread.
   */
  wake(atNs: number): Later<void> {
    return this.wakeWith(atNs, undefined);
  }

  /** The same; then does `before`, and comes to `value`. */
  wakeWith<T>(atNs: number, value: T, before?: () => void): Later<T> {
    const { clock, launchingThread } = this;
    if (clock.resolveAt === undefined) return run(this.#wake(atNs, value, before));
    const wake = new Wake(clock, launchingThread, value, before);
    clock.resolveAt(Math.max(atNs, launchingThread.freeAtNs), wake);
    return wake;
  }

  *#wake<T>(atNs: number, value: T, before?: () => void): Routine<T> {
    let wakeNs = atNs;
    do {
      yield wakeAt(this.clock, Math.max(wakeNs, this.launchingThread.freeAtNs));
      wakeNs = this.launchingThread.freeAtNs;
    } while (wakeNs > this.clock.nowNs());
    before?.();
    return value;
  }
}
