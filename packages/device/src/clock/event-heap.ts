import type { Later } from '@bridgekeeper/bridge';

/** What happens at a moment of virtual time: code of any kind, or what routines wait for. */
export type TimedEvent = (() => void) | Later<unknown>;

/**
 * A binary heap of events, the next one first; those of one moment in the order of their numbers.
 * It keeps times, numbers and events apart: objects would be more for the collector of garbage.
 */
export class EventHeap {
  readonly #times: number[] = [];
  readonly #numbers: number[] = [];
  readonly #events: TimedEvent[] = [];

  get size(): number {
    return this.#events.length;
  }

  /** When the next one happens. Only where there is one. */
  get nextNs(): number {
    return this.#times[0]!;
  }

  push(atNs: number, number: number, event: TimedEvent): void {
    let hole = this.#events.length;
    this.#put(hole, atNs, number, event);
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (!this.#isAfter(parent, atNs, number)) break;
      this.#move(parent, hole);
      hole = parent;
    }
    this.#put(hole, atNs, number, event);
  }

  /** Takes the next one out. Only where there is one. */
  pop(): TimedEvent {
    const first = this.#events[0]!;
    const size = this.#events.length - 1;
    const atNs = this.#times.pop()!;
    const number = this.#numbers.pop()!;
    const last = this.#events.pop()!;
    if (size === 0) return first;
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= size) break;
      const other = child + 1;
      if (other < size && this.#isAfter(child, this.#times[other]!, this.#numbers[other]!)) {
        child = other;
      }
      if (this.#isAfter(child, atNs, number)) break;
      this.#move(child, hole);
      hole = child;
    }
    this.#put(hole, atNs, number, last);
    return first;
  }

  #put(index: number, atNs: number, number: number, event: TimedEvent): void {
    this.#times[index] = atNs;
    this.#numbers[index] = number;
    this.#events[index] = event;
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#times[from]!, this.#numbers[from]!, this.#events[from]!);
  }

  /** Whether the event at `index` comes after one of that time and number. */
  #isAfter(index: number, atNs: number, number: number): boolean {
    const time = this.#times[index]!;
    return time > atNs || (time === atNs && this.#numbers[index]! > number);
  }
}
