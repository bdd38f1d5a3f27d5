import type { Bytes } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { groupBy } from '../core/group.ts';
import { isRuntimeEvent, type TdxEvent } from '../cpu/event-log.ts';

/** After this event the app runs, and can measure events of any name. */
const BOUNDARY = 'system-ready';

/** What dstack's guest measured while it booted: none of it can be the app's doing. */
export interface BootEvents {
  /** Whether the boundary is in the log: without it, nobody knows which events are the app's. */
  readonly isComplete: boolean;
  /** Payloads of the events before the boundary, by name. */
  payloads(name: string): readonly Bytes[];
  /** Whether the app measured an event of that name, which proves nothing. */
  isOfApp(name: string): boolean;
  /**
   * Throws AttestError 'event-log-mismatch' for an event whose name holds a colon. In digests of
   * version 1 a colon parts name from payload, so that such a name can hide another event.
   */
  demandPlain(): void;
}

export function bootEventsOf(events: readonly TdxEvent[]): BootEvents {
  const runtime = events.filter(isRuntimeEvent);
  const end = runtime.findIndex(({ name }) => name === BOUNDARY);
  const isComplete = end >= 0;
  const before = isComplete ? runtime.slice(0, end) : runtime;
  const after = new Set(isComplete ? runtime.slice(end + 1).map(({ name }) => name) : []);
  const byName = groupBy(before, ({ name }) => name);
  const odd = before.find(({ version, name }) => version === 1 && name.includes(':'));
  return {
    isComplete,
    payloads: (name) => byName.get(name)?.map(({ payload }) => payload) ?? [],
    isOfApp: (name) => after.has(name),
    demandPlain: () => {
      const message = `the boot event ${JSON.stringify(odd?.name)} may hide another one`;
      demand(odd === undefined, 'event-log-mismatch', message);
    },
  };
}
