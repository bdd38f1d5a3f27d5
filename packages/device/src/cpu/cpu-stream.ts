import type { Clock } from '@bridgekeeper/bridge';
import type { DeviceEvent, Graph, Launch, Stream } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { ImposedLaw } from '../law/imposed-law.ts';
import type { OpArgs, OpName } from '../ops.ts';
import type { CpuMemory } from './cpu-memory.ts';
import type { OpItem, WorkItem } from './messages.ts';
import { primitivesOf } from './primitives.ts';
import type { CopyMark, SharedControl, WorkMark } from './shared-control.ts';
import { itemOf, type WorkQueue } from './work-queue.ts';

/** A point in a stream's work: what must be done for the stream to have come this far. */
export class CpuEvent implements DeviceEvent {
  readonly id: number;
  mark: WorkMark = { ticket: 0, copies: [] };

  constructor(id: number) {
    this.id = id;
  }
}

/** What the streams of one device share. */
export interface StreamHub {
  readonly control: SharedControl;
  readonly queue: WorkQueue;
  readonly memory: CpuMemory;
  readonly counts: { launches: number; graphLaunches: number };
  readonly clock: Clock;
  /** On the launching thread. */
  readonly imposed: ImposedLaw | null;
  /** While a graph is captured: whose launches are recorded instead of run. */
  recording: { readonly stream: CpuStream; readonly items: OpItem[] } | null;
}

/**
 * All streams put their work in one queue, in the order it is launched: a machine that happens to
 * run one stream at a time. Only copies run beside the queue; work behind a copy waits for it
 * there.
 */
export class CpuStream implements Stream {
  readonly id: number;
  readonly label: string;
  readonly #hub: StreamHub;
  #ticket = 0;
  /** Copies that later work has to wait for. */
  #copies: CopyMark[] = [];

  constructor(id: number, label: string, hub: StreamHub) {
    this.id = id;
    this.label = label;
    this.#hub = hub;
  }

  launch<Name extends OpName>(name: Name, args: OpArgs[Name]): void {
    this.#hub.control.assertAlive();
    const { memory, recording, imposed, clock } = this.#hub;
    const startedNs = imposed === null ? 0 : clock.nowNs();
    const items = primitivesOf(name, args).map((step) => itemOf(step, memory.refer));
    if (recording?.stream === this) {
      recording.items.push(...items);
      return;
    }
    for (const item of items) this.#add(item);
    this.#hub.counts.launches += 1;
    imposed?.blockForLaunch(startedNs, 'launch');
  }

  launchEach(launches: readonly Launch[]): void {
    for (const { name, args } of launches) this.launch(name, args);
  }

  launchGraph(graph: Graph): void {
    this.#assertRunning('a graph');
    const { imposed, clock } = this.#hub;
    const startedNs = imposed === null ? 0 : clock.nowNs();
    this.#add({ graph: graph.id });
    this.#hub.counts.graphLaunches += 1;
    imposed?.blockForLaunch(startedNs, 'graph');
  }

  #add(item: WorkItem): void {
    const { queue, control } = this.#hub;
    const copies = this.#copies.filter((copy) => !control.isCopied(copy));
    if (copies.length > 0) queue.add({ copies });
    this.#copies = [];
    this.#ticket = queue.add(item);
  }

  record(event: DeviceEvent): void {
    this.#assertRunning('an event');
    eventOf(event).mark = this.mark;
  }

  wait(event: DeviceEvent): void {
    this.#assertRunning('an event');
    const { ticket, copies } = eventOf(event).mark;
    if (((ticket - this.#ticket) | 0) > 0) this.#ticket = ticket;
    this.#copies.push(...copies.filter((copy) => !this.#hub.control.isCopied(copy)));
  }

  /** Everything launched so far. */
  get mark(): WorkMark {
    return { ticket: this.#ticket, copies: [...this.#copies] };
  }

  /** Makes later work wait for `copy`, which itself waits for everything so far. */
  follow(copy: CopyMark): void {
    this.#copies = [copy];
  }

  async synchronize(): Promise<void> {
    this.#assertRunning('synchronize');
    this.#hub.queue.flush();
    await this.#hub.control.untilDone(this.mark);
    this.#hub.control.assertSound();
  }

  #assertRunning(what: string): void {
    this.#hub.control.assertAlive();
    if (this.#hub.recording?.stream === this) {
      throw new DeviceError(
        'bad-argument',
        `stream "${this.label}" is being captured, and ${what} cannot be`,
      );
    }
  }
}

function eventOf(event: DeviceEvent): CpuEvent {
  if (event instanceof CpuEvent) return event;
  throw new DeviceError('bad-argument', `event ${event.id} is not of this device`);
}
