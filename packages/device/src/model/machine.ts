import type { ChannelState, Clock, Law } from '@bridgekeeper/bridge';
import { FRESH_CHANNEL } from '@bridgekeeper/bridge';
import { DeviceError } from '../errors.ts';
import type { Work, WorkPricer } from './work.ts';

/** A thread of the modelled host: it goes on when what it did last lets it. */
export interface ModelThread {
  freeAtNs: number;
}

/** A modelled CUDA context: its lanes share one channel. */
export interface ModelContext {
  channel: ChannelState;
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
  readonly contexts = new Set<ModelContext>();
  readonly counters = {
    h2dBytes: 0,
    d2hBytes: 0,
    copies: 0,
    launches: 0,
    graphLaunches: 0,
    allocatedBytes: 0,
  };
  recording: Recording | null = null;
  isClosed = false;
  #ids = 0;

  constructor(clock: Clock, law: Law, pricer: WorkPricer) {
    this.clock = clock;
    this.law = law;
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

  openContext(): ModelContext {
    const { max } = this.law.profile.contexts;
    if (this.contexts.size >= max) {
      throw new DeviceError(
        'too-many-contexts',
        `${this.law.profile.name} allows ${max} contexts and all are open: close a lane first`,
      );
    }
    const context = { channel: FRESH_CHANNEL };
    this.contexts.add(context);
    return context;
  }

  /** Contexts with a crossing under way at `atNs`, `own` counted in any case. */
  busyContexts(own: ModelContext, atNs: number): number {
    let busy = 1;
    for (const context of this.contexts) {
      const { h2dFreeAtNs, d2hFreeAtNs } = context.channel;
      if (context !== own && (h2dFreeAtNs > atNs || d2hFreeAtNs > atNs)) busy += 1;
    }
    return busy;
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
