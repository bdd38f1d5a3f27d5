/** Until a disk has shown what it takes: of one that is neither fast nor slow. */
const EXPECTED_NS_PER_BYTE = 1;
/** How much one read or write counts against what was seen before. */
const NEWS_SHARE = 0.2;
/** One that stood still says nothing of how long the next will take, beyond so many times that. */
const BELIEVED_RATIO = 10;
/** What a disk took that has done nothing since is half forgotten after so long. */
const HALF_LIFE_NS = 60e9;

export type DiskWork = 'read' | 'write';

/**
 * What reading and writing take of the storage thread, encryption and all, learnt as it happens. It
 * does one after the other in the order in which they are asked for.
 */
export class DiskMeter {
  readonly #nowNs: () => number;
  readonly #nsPerByte = { read: EXPECTED_NS_PER_BYTE, write: EXPECTED_NS_PER_BYTE };
  readonly #seenNs = { read: 0, write: 0 };
  readonly #openBytes = { read: 0, write: 0 };
  /** When the thread was last known to be done with something. */
  #freeNs = 0;

  constructor(nowNs: () => number) {
    this.#nowNs = nowNs;
  }

  /** Of so many bytes alone, in nanoseconds. */
  price(work: DiskWork, bytes: number): number {
    const idleNs = this.#nowNs() - this.#seenNs[work];
    // What is thought to cost too much is not done, and would never be seen to cost less.
    const remembered = 0.5 ** (Math.max(0, idleNs) / HALF_LIFE_NS);
    const news = this.#nsPerByte[work] - EXPECTED_NS_PER_BYTE;
    return bytes * (EXPECTED_NS_PER_BYTE + remembered * news);
  }

  /** Until the thread would begin with what it is given now, in nanoseconds. */
  get queueNs(): number {
    const { read, write } = this.#openBytes;
    return this.price('read', read) + this.price('write', write);
  }

  /** The thread is given this now. Call what comes back when it has ended. */
  begin(work: DiskWork, bytes: number): (isDone: boolean) => void {
    const askedNs = this.#nowNs();
    this.#openBytes[work] += bytes;
    return (isDone) => {
      this.#openBytes[work] -= bytes;
      const nowNs = this.#nowNs();
      const tookNs = nowNs - Math.max(askedNs, this.#freeNs);
      this.#freeNs = nowNs;
      if (isDone) this.#observe(work, bytes, tookNs, nowNs);
    };
  }

  #observe(work: DiskWork, bytes: number, tookNs: number, nowNs: number): void {
    const before = this.price(work, bytes);
    const believedNs = Math.min(BELIEVED_RATIO * before, Math.max(before / BELIEVED_RATIO, tookNs));
    this.#nsPerByte[work] = (before + NEWS_SHARE * (believedNs - before)) / bytes;
    this.#seenNs[work] = nowNs;
  }
}
