import { invariant } from '@bridgekeeper/bridge';

/** A contiguous part of a ring that is in use. */
export interface RingPart {
  readonly offsetBytes: number;
  bytes: number;
}

/**
 * Memory that is taken in order and given back in nearly the same order: what crosses next lies
 * behind what crosses now, so that neighbours cross as one. A part that is given back early is free
 * once all older ones are.
 */
export class StagingRing {
  readonly bytes: number;
  /** In the order in which they were taken. */
  readonly #parts: RingPart[] = [];
  readonly #freed = new Set<RingPart>();

  constructor(bytes: number) {
    this.bytes = bytes;
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  /** Bytes from the oldest part in use to the newest, with what lies between them. */
  get usedBytes(): number {
    const { head, tail, isWrapped } = this.#ends();
    return isWrapped ? this.bytes - head + tail : tail - head;
  }

  /** null: so much does not fit in one piece now. */
  take(bytes: number): RingPart | null {
    invariant(bytes > 0, 'a part of a ring has bytes');
    const { head, tail, isWrapped } = this.#ends();
    let offsetBytes = tail;
    if (tail + bytes > (isWrapped ? head : this.bytes)) {
      if (isWrapped || bytes > head) return null;
      offsetBytes = 0;
    }
    const part = { offsetBytes, bytes };
    this.#parts.push(part);
    return part;
  }

  /** Makes the part that was taken last longer; false: there is no room behind it. */
  extend(part: RingPart, bytes: number): boolean {
    invariant(this.#parts.at(-1) === part, 'only the last part of a ring can grow');
    const { head, tail, isWrapped } = this.#ends();
    if (tail + bytes > (isWrapped ? head : this.bytes)) return false;
    part.bytes += bytes;
    return true;
  }

  release(part: RingPart): void {
    invariant(this.#parts.includes(part) && !this.#freed.has(part), 'a part is released once');
    this.#freed.add(part);
    while (this.#parts.length > 0 && this.#freed.delete(this.#parts[0]!)) this.#parts.shift();
  }

  /** Where the oldest part begins and the newest ends, and whether that is at a lower offset. */
  #ends(): { readonly head: number; readonly tail: number; readonly isWrapped: boolean } {
    const oldest = this.#parts[0];
    const newest = this.#parts.at(-1);
    if (oldest === undefined || newest === undefined) return { head: 0, tail: 0, isWrapped: false };
    return {
      head: oldest.offsetBytes,
      tail: newest.offsetBytes + newest.bytes,
      isWrapped: newest.offsetBytes < oldest.offsetBytes,
    };
  }
}
