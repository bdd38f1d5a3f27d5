import { FabricError } from '../errors.ts';
import type { Partition } from '../fm/manager.ts';
import { overlaps, type PartitionDefinition } from '../fm/table.ts';
import type { RestartMode } from '../log/entries.ts';

/** What Fabric Manager, or the way to it, can do wrong in one call. */
export const FM_FAULTS = [
  'lost-request', // unanswered, and nothing happened
  'lost-reply', // unanswered, and it happened
  'late-effect', // unanswered, and it happens a while later
  'status-timeout', // -5, and it happened
  'connection-lost', // -9, and it happened
  'stale-list', // what was active a while ago
  'not-ready', // -22
  'false-in-use', // -7, and it is inactive
  'nvlink-error', // -10
  'route-error', // -29: the board cannot be trusted any more
  'version-mismatch', // -6
  'out-of-bounds', // a count beyond its array
  'restart-before', // it dies, and somebody starts it plainly
  'restart-after', // the same, once it had done it
  'resume-refused', // it ends when it is told what was active
] as const;

export type FmFault = (typeof FM_FAULTS)[number];

/** HGX B200 and B300, as Fabric Manager’s guide has it. */
export const HGX_TABLE: readonly PartitionDefinition[] = [
  { id: 1, modules: [1, 2, 3, 4, 5, 6, 7, 8] },
  { id: 2, modules: [1, 2, 3, 4] },
  { id: 3, modules: [5, 6, 7, 8] },
  { id: 4, modules: [1, 2] },
  { id: 5, modules: [3, 4] },
  { id: 6, modules: [5, 6] },
  { id: 7, modules: [7, 8] },
  ...Array.from({ length: 8 }, (_, index) => ({ id: 8 + index, modules: [index + 1] })),
];

/** Who had a partition activated: what nobody here meant may do what it likes. */
export type Activator = 'agent' | 'late' | 'stranger';

const STALE_NS = 8e9;
const LATE_NS = 20e9;
const LINKS = 18;

/** The daemon: its partitions, what it answers, and how it fails. */
export class SimulatedManager {
  table = HGX_TABLE;
  isRunning = true;
  instance = 1;
  /** What the switches do: they go on while the daemon is away. */
  active = new Map<number, Activator>();
  /** Started to resume, and waiting for the list. */
  #isWaiting = false;
  #starts = 1;
  /** What is to come of requests that nobody answered. */
  #late: { readonly atNs: number; readonly partition: number }[] = [];
  /** What was active, and since when. */
  #past: { readonly fromNs: number; readonly active: ReadonlySet<number> }[] = [
    { fromNs: 0, active: new Set() },
  ];

  start(mode: RestartMode): void {
    this.isRunning = true;
    this.#starts += 1;
    this.instance = this.#starts;
    this.#late = [];
    this.#isWaiting = mode === 'resume';
    if (mode === 'plain') this.active.clear();
  }

  stop(): void {
    this.isRunning = false;
  }

  /** Lets time come; `nowNs` never goes back within a boot. */
  pass(nowNs: number): void {
    for (const { atNs, partition } of this.#late) {
      if (atNs <= nowNs && this.#conflict(partition) === undefined) {
        this.active.set(partition, 'late');
      }
    }
    this.#late = this.#late.filter(({ atNs }) => atNs > nowNs);
    const active = new Set(this.active.keys());
    const before = this.#past.at(-1)!.active;
    if ([...active].join() !== [...before].join()) this.#past.push({ fromNs: nowNs, active });
  }

  /** A new boot has a new clock. */
  forget(): void {
    this.#past = [{ fromNs: 0, active: new Set() }];
    this.#late = [];
  }

  list(nowNs: number, fault: FmFault | null): Partition[] {
    this.#answer(fault);
    if (fault === 'out-of-bounds') {
      throw new FabricError('fm-out-of-bounds', 'Fabric Manager lists 65 partitions of 64');
    }
    this.pass(nowNs);
    const isStale = ({ fromNs }: { readonly fromNs: number }) => fromNs <= nowNs - STALE_NS;
    const stale = this.#past.findLast(isStale)?.active ?? new Set<number>();
    const shown = fault === 'stale-list' ? stale : new Set(this.active.keys());
    return this.table.map(({ id, modules }) => {
      const count = modules.length === 1 ? 0 : LINKS;
      const links = modules.map(() => ({ available: count, possible: count }));
      return { id, modules, isActive: shown.has(id), links };
    });
  }

  activate(id: number, nowNs: number, fault: FmFault | null): void {
    this.#change(fault, nowNs, id, () => {
      if (this.active.has(id)) refuse(-7);
      if (this.#conflict(id) !== undefined) refuse(-24);
      this.active.set(id, 'agent');
    });
  }

  deactivate(id: number, nowNs: number, fault: FmFault | null): void {
    this.#change(fault, nowNs, null, () => {
      if (!this.active.delete(id)) refuse(-4);
    });
  }

  setActivated(ids: readonly number[], fault: FmFault | null): void {
    if (fault === 'resume-refused') {
      this.stop();
      throw new FabricError('fm-unanswered', 'Fabric Manager ended');
    }
    if (!this.#isWaiting) refuse(-4);
    this.active = new Map(ids.map((id) => [id, 'agent']));
    this.#isWaiting = false;
  }

  /** Activates it for somebody else, if it can be. */
  meddle(id: number, nowNs: number): void {
    if (!this.isRunning || this.#isWaiting || this.active.has(id)) return;
    if (this.#conflict(id) !== undefined) return;
    this.active.set(id, 'stranger');
    this.pass(nowNs);
  }

  /** The active partition that has a module of this one; it itself is none. */
  #conflict(id: number): number | undefined {
    const { modules } = this.table.find((each) => each.id === id)!;
    return [...this.active.keys()].find(
      (other) =>
        other !== id && overlaps(this.table.find((each) => each.id === other)!.modules, modules),
    );
  }

  #change(fault: FmFault | null, nowNs: number, late: number | null, effect: () => void): void {
    this.#answer(fault);
    if (fault === 'restart-before') this.#die();
    if (fault === 'nvlink-error') refuse(-10);
    if (fault === 'route-error') refuse(-29);
    if (fault === 'false-in-use' && late !== null && !this.active.has(late)) refuse(-7);
    if (fault === 'late-effect' && late !== null) {
      this.#late.push({ atNs: nowNs + LATE_NS, partition: late });
      throw new FabricError('fm-unanswered', 'no reply in time');
    }
    effect();
    this.pass(nowNs);
    if (fault === 'restart-after') this.#die();
    if (fault === 'lost-reply') throw new FabricError('fm-unanswered', 'no reply in time');
    if (fault === 'status-timeout') refuse(-5);
    if (fault === 'connection-lost') refuse(-9);
  }

  /** Ends the call unless it is answered at all. */
  #answer(fault: FmFault | null): void {
    if (!this.isRunning) throw new FabricError('fm-missing', 'there is no socket');
    if (fault === 'lost-request') throw new FabricError('fm-unanswered', 'no reply in time');
    if (fault === 'version-mismatch') refuse(-6);
    if (fault === 'not-ready' || this.#isWaiting) refuse(-22);
  }

  #die(): never {
    this.stop();
    throw new FabricError('fm-unanswered', 'the connection ended');
  }
}

function refuse(status: number): never {
  const message = `Fabric Manager answers ${status}`;
  throw new FabricError('fm-refused', message, { status });
}
