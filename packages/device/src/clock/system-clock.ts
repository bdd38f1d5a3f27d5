import type { Clock } from '@bridgekeeper/bridge';

/** Below this a timer, which rounds to milliseconds, would wake too late. */
const TIMER_SLACK_NS = 2_000_000;
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Real time: monotonic ns since `origin`. Clocks of one origin agree across threads. */
export class SystemClock implements Clock {
  /** As process.hrtime gave it. */
  readonly origin: readonly [seconds: number, nanoseconds: number];

  constructor(origin: readonly [seconds: number, nanoseconds: number] = process.hrtime()) {
    this.origin = origin;
  }

  nowNs(): number {
    const [seconds, nanoseconds] = process.hrtime([...this.origin]);
    return seconds * 1e9 + nanoseconds;
  }

  /** Sleeps for the most part and lets the event loop turn for the rest, once at the least. */
  async sleepUntilNs(wakeNs: number): Promise<void> {
    let leftNs = wakeNs - this.nowNs();
    do {
      if (leftNs > TIMER_SLACK_NS) {
        const milliseconds = Math.min(
          Math.floor((leftNs - TIMER_SLACK_NS) / 1e6) + 1,
          TIMER_MAX_MS,
        );
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
      } else {
        await new Promise((resolve) => setImmediate(resolve));
      }
      leftNs = wakeNs - this.nowNs();
    } while (leftNs > 0);
  }
}
