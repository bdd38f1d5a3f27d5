import type { LaneOptions } from '../../device.ts';
import { type Contexts, LAUNCHING_CHANNEL } from '../../law/contexts.ts';
import type { Core } from '../core.ts';
import type { LaneStart } from './lane-protocol.ts';
import { WorkerLane } from './worker-lane.ts';

/** What every lane's thread of a device is started with. */
export type LaneCommons = Omit<
  LaneStart,
  'context' | 'channel' | 'channels' | 'holdAddress' | 'progress'
> & {
  readonly launchingContext: bigint;
};

/** Opens worker lanes and keeps their contexts within the limit. */
export class LaneOpener {
  readonly #core: Core;
  readonly #commons: LaneCommons;
  readonly #contexts: Contexts;
  readonly #lanes = new Set<WorkerLane>();
  readonly #opening = new Set<Promise<WorkerLane>>();
  #opened = 0;

  constructor(core: Core, commons: LaneCommons, contexts: Contexts) {
    this.#core = core;
    this.#commons = commons;
    this.#contexts = contexts;
  }

  async open(options: LaneOptions): Promise<WorkerLane> {
    const opening = this.#open(options);
    this.#opening.add(opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(opening);
    }
  }

  async #open({ label, context }: LaneOptions): Promise<WorkerLane> {
    const channel = context === 'own' ? this.#contexts.open() : LAUNCHING_CHANNEL;
    const { launchingContext, ...commons } = this.#commons;
    const channels = this.#contexts.channels.memory;
    const start = {
      ...commons,
      channels,
      channel,
      context: context === 'own' ? null : launchingContext,
    };
    this.#opened += 1;
    try {
      const lane = await WorkerLane.open(this.#core, `${label}-${this.#opened}`, start, () => {
        this.#lanes.delete(lane);
        this.#contexts.close(channel);
      });
      this.#lanes.add(lane);
      return lane;
    } catch (error) {
      this.#contexts.close(channel);
      throw error;
    }
  }

  /** Also what is being opened, whose thread would otherwise outlive the device. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#opening);
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }
}
