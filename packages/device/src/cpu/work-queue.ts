import { isSlice, isSliceList, type Slice } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { ComputeMessage, OpItem, OpRefs, SliceRef, WorkItem } from './messages.ts';
import type { Primitive, PrimitiveName } from './primitives.ts';
import type { SharedControl } from './shared-control.ts';

/**
 * The launching thread's end of the one queue that all streams share: collects work and hands it
 * over in order.
 */
export class WorkQueue {
  readonly #control: SharedControl;
  readonly #post: (message: ComputeMessage) => void;
  #items: WorkItem[] = [];
  /** The submission that is being collected. */
  #ticket = 1;
  #isFlushPlanned = false;

  constructor(control: SharedControl, post: (message: ComputeMessage) => void) {
    this.#control = control;
    this.#post = post;
  }

  /**
   * Adds work; returns the ticket of the submission it will be part of. It is handed over before
   * the next task.
   */
  add(item: WorkItem): number {
    this.#items.push(item);
    if (!this.#isFlushPlanned) {
      this.#isFlushPlanned = true;
      queueMicrotask(() => {
        this.#isFlushPlanned = false;
        this.flush();
      });
    }
    return this.#ticket;
  }

  /** Hands over what was collected. */
  flush(): void {
    if (this.#items.length === 0) return;
    const items = this.#items;
    this.#items = [];
    this.#post({ kind: 'work', ticket: this.#ticket, items });
    this.#ticket = (this.#ticket + 1) | 0;
    this.#control.ring();
  }

  /** Tells the workers something outside the streams' work, after all that was added so far. */
  tell(message: ComputeMessage): void {
    this.flush();
    this.#post(message);
    this.#control.ring();
  }
}

/** Slices of operations start at multiples of this. */
const SLICE_ALIGNMENT = 16;

/** The arguments as they cross threads. `refer` checks a slice and names it. */
export function itemOf({ op, args }: Primitive, refer: (slice: Slice) => SliceRef): OpItem {
  const refs: Record<string, unknown> = {};
  const checked = (key: string, value: Slice) => {
    const ref = refer(value);
    if (value.offsetBytes % SLICE_ALIGNMENT === 0) return ref;
    const { offsetBytes, buffer } = value;
    throw new DeviceError(
      'bad-argument',
      `${op}: ${key} starts at byte ${offsetBytes} of "${buffer.label}", ` +
        `which is no multiple of ${SLICE_ALIGNMENT}`,
    );
  };
  for (const [key, value] of Object.entries(args)) {
    if (isSliceList(value)) refs[key] = value.map((each) => checked(key, each));
    else refs[key] = isSlice(value) ? checked(key, value) : value;
  }
  return { op, args: refs as unknown as OpRefs<PrimitiveName> };
}
