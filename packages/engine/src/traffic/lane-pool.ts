import type { Device, Lane } from '@bridgekeeper/device';

/**
 * Lanes with contexts of their own, opened ahead: creating a context takes longer than reading
 * headers. Weights cross on them first; then steps take them over.
 */
export class LanePool {
  readonly #device: Device;
  #own: Promise<Lane>[] = [];

  constructor(device: Device) {
    this.#device = device;
  }

  /** Begins to open lanes until there are `count`. */
  grow(count: number): void {
    while (this.#own.length < count) this.#own.push(this.#open(this.#own.length));
  }

  /** `count` lanes; fewer where the machine refused some. Throws DeviceError if it refused all. */
  async lanes(count: number): Promise<readonly Lane[]> {
    this.grow(count);
    const settled = await Promise.allSettled(this.#own.slice(0, count));
    const open = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const refused = settled.find((each) => each.status === 'rejected');
    if (open.length === 0 && refused !== undefined) throw refused.reason;
    return open;
  }

  /** A lane that is the caller's from now on: one of the pool's, else a new one. */
  async take(label: string): Promise<Lane> {
    while (this.#own.length > 0) {
      const [lane] = await Promise.allSettled([this.#own.shift()!]);
      if (lane.status === 'fulfilled') return lane.value;
    }
    return this.#device.openLane({ label, context: 'own' });
  }

  /** Closes those that were not taken. */
  async close(): Promise<void> {
    const all = this.#own;
    this.#own = [];
    const open = await Promise.allSettled(all);
    await Promise.allSettled(
      open.map((each) => (each.status === 'fulfilled' ? each.value.close() : undefined)),
    );
  }

  #open(index: number): Promise<Lane> {
    const lane = this.#device.openLane({ label: `lane-${index}`, context: 'own' });
    // A refusal is for those who need the lane; until then it must not count as unhandled.
    lane.catch(() => undefined);
    return lane;
  }
}
