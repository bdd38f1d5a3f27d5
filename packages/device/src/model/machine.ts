import type { Clock, Law } from '@bridgekeeper/bridge';
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
  #ids = 0;

  constructor(clock: Clock, law: Law, pricer: WorkPricer, onWork?: Machine['onWork']) {
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
   * Resolves at `atNs`, or once the launching thread stands still no longer: a promise is of no use
   * to a blocked thread.
   */
  async wake(atNs: number): Promise<void> {
    let wakeNs = atNs;
    do {
      await this.clock.sleepUntilNs(Math.max(wakeNs, this.launchingThread.freeAtNs));
      wakeNs = this.launchingThread.freeAtNs;
    } while (wakeNs > this.clock.nowNs());
  }
}
