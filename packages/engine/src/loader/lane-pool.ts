import type { Device, Lane } from '@bridgekeeper/device';

/**
 * Lanes, opened ahead: creating a context takes longer than reading headers. Weights cross on them
 * first; then whoever needs a lane takes one over.
 */
export class LanePool {
  readonly #device: Device;
  #own: Promise<Lane>[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  /** Begins to open lanes with contexts of their own until there are `count`. */
  grow(count: number): void {
    while (this.#own.length < count) this.#own.push(this.#open(this.#own.length));
  }

  /**
   * What crosses over so many contexts: none means the launching thread itself. Fewer where the
   * machine refused some; throws when it refused all.
   */
  async over(contexts: number): Promise<readonly Lane[]> {
    if (contexts === 0) return [this.#device.inlineLane];
    this.grow(contexts);
    return opened(this.#own.slice(0, contexts));
  }

  #open(index: number): Promise<Lane> {
    const lane = this.#device.openLane({ label: `pool-${index}`, context: 'own' });
    // Awaited by whoever needs it; until then a refusal must not count as unhandled.
    lane.catch(() => undefined);
    return lane;
  }

  /** A lane with a context of its own that is the caller's from now on. */
  async take(label: string): Promise<Lane> {
    while (this.#own.length > 0) {
      const [lane] = await Promise.allSettled([this.#own.shift()!]);
      if (lane.status === 'fulfilled') return lane.value;
    }
    return this.#device.openLane({ label, context: 'own' });
  }

  /** Closes what nobody took. */
  async close(): Promise<void> {
    const all = this.#own;
    this.#own = [];
    const open = await Promise.allSettled(all);
    await Promise.allSettled(
      open.map((each) => (each.status === 'fulfilled' ? each.value.close() : undefined)),
    );
  }
}

async function opened(asked: readonly Promise<Lane>[]): Promise<readonly Lane[]> {
  const settled = await Promise.allSettled(asked);
  const open = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const refused = settled.find((each) => each.status === 'rejected');
  if (open.length === 0 && refused !== undefined) throw refused.reason;
  return open;
}
