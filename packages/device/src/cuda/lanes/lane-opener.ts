import type { LaneOptions } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import type { Core } from '../core.ts';
import type { LaneStart } from './lane-protocol.ts';
import { WorkerLane } from './worker-lane.ts';

/** What every lane's thread of a device is started with. */
export type LaneCommons = Omit<LaneStart, 'context' | 'channel' | 'holdAddress'> & {
  readonly launchingContext: bigint;
};

/** The launching thread's channel; lanes on a shared context cross on it too. */
export const LAUNCHING_CHANNEL = 0;

/** Opens worker lanes and keeps their contexts within the limit. */
export class LaneOpener {
  readonly #core: Core;
  readonly #commons: LaneCommons;
  readonly #maxContexts: number;
  readonly #lanes = new Set<WorkerLane>();
  /** Channels in use by contexts of their own. */
  readonly #channels = new Set<number>();
  #opened = 0;

  constructor(core: Core, commons: LaneCommons, maxContexts: number) {
    this.#core = core;
    this.#commons = commons;
    this.#maxContexts = maxContexts;
  }

  async open({ label, context }: LaneOptions): Promise<WorkerLane> {
    const channel = context === 'own' ? this.#takeChannel() : LAUNCHING_CHANNEL;
    const { launchingContext, ...commons } = this.#commons;
    const start = { ...commons, channel, context: context === 'own' ? null : launchingContext };
    this.#opened += 1;
    try {
      const lane = await WorkerLane.open(this.#core, `${label}-${this.#opened}`, start, () => {
        this.#lanes.delete(lane);
        this.#channels.delete(channel);
      });
      this.#lanes.add(lane);
      return lane;
    } catch (error) {
      this.#channels.delete(channel);
      throw error;
    }
  }

  #takeChannel(): number {
    const contexts = this.#channels.size + 1;
    if (contexts >= this.#maxContexts) {
      throw new DeviceError(
        'too-many-contexts',
        `${contexts} contexts are open, and this machine allows ${this.#maxContexts}: ` +
          'close a lane, or open one on the shared context',
      );
    }
    let channel = LAUNCHING_CHANNEL + 1;
    while (this.#channels.has(channel)) channel += 1;
    this.#channels.add(channel);
    return channel;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }
}
