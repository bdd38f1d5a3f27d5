import { overlaps } from '../fm/table.ts';
import type { GuestEvidence } from '../host/control.ts';
import type { LogEntry, LoggedTenancy } from '../log/entries.ts';
import { type ReplayRule, replayLog } from '../log/replay.ts';
import { EVIDENCE_NS_MAX } from '../tenancy/rules.ts';
import type { AgentState } from '../tenancy/state.ts';
import type { SimulatedGpu, World } from './world.ts';

/** What must never be, by number as in docs/fabric.md. */
export const INVARIANTS = {
  1: 'no module is in two claims, two guests or two active partitions',
  2: 'a guest starts only in its exact partition, active after the last reset',
  3: 'only fresh evidence of exactly the claimed devices admits',
  4: 'every change of the fabric has an intent before and a fact, or an alarm, after',
  5: 'the log names no tenant in clear',
  6: 'what is released was reset after its last guest',
  7: 'what the operator says is never said to be more',
  8: 'what the log has acknowledged stays in it',
  9: 'commands are idempotent, and old ones refused',
  10: 'the same seed has the same history',
} as const;

/** What a reader of the log alone notices. */
const REPLAYED: Readonly<Record<Exclude<ReplayRule, 'alarm'>, InvariantNumber>> = {
  overlap: 1,
  intent: 4,
  reset: 6,
  order: 2,
  table: 2,
  host: 4,
  begin: 8,
};

export type InvariantNumber = keyof typeof INVARIANTS;

export interface Violation {
  readonly invariant: InvariantNumber;
  readonly what: string;
}

/** Looks at what really is, with every change, and notes what must never be. */
export class Watcher {
  readonly violations: Violation[] = [];
  /** Names that no entry of the log may have. */
  readonly secrets: string[] = [];
  readonly #world: World;
  readonly #started = new Set<string>();
  readonly #evidence = new Map<
    string,
    GuestEvidence & { readonly atNs: number; readonly isTrue: boolean }
  >();
  /** Whose each module is, by the log alone. */
  readonly #owners = new Map<number, string>();
  /** Intents by life and change: all of lives that were not released, and those without a fact. */
  readonly #intended = new Map<string, LoggedTenancy>();
  readonly #open = new Map<string, LoggedTenancy>();
  readonly #acknowledged = new Map<number, string>();
  #isStartMeant = false;
  #number = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** After every call of the agent. */
  look(): void {
    const holders = this.#world.gpus.flatMap((gpu) =>
      gpu.holders.length > 1 ? [`${gpu.bdf} has two guests`] : [],
    );
    for (const what of holders) this.#violated(1, what);
    const active = this.#activeOf('agent');
    for (const [index, one] of active.entries()) {
      for (const other of active.slice(index + 1)) {
        if (overlaps(one.modules, other.modules)) {
          this.#violated(1, `partitions ${one.id} and ${other.id} are active`);
        }
      }
    }
  }

  /** At the end, when all is calm. */
  end(state: AgentState): void {
    const { log } = this.#world;
    for (const [index, text] of this.#acknowledged) {
      if (JSON.stringify(log[index]) !== text) {
        this.#violated(8, `entry ${index} is not what was acknowledged`);
      }
    }
    for (const [key, { modules }] of this.#open) {
      const isQuarantined = modules.some((module) => state.quarantine[module] !== undefined);
      const isGone = !state.tenancies.some(({ isIntended }) => isIntended);
      // What was begun and given up has ended by what undid it: the release of its life.
      const isReleased = !modules.some((module) => this.#owners.get(module) === lifeIn(key));
      if (!isQuarantined && isGone && !isReleased) this.#violated(4, `${key} has no fact`);
    }
    for (const { index, rule, message } of replayLog(log).findings) {
      // An alarm is what a tenant should be told of, and no fault of the agent.
      if (rule === 'alarm') continue;
      this.#violated(REPLAYED[rule], `replay, entry ${index}: ${message}`);
    }
    const explained = new Set(state.tenancies.flatMap(({ modules }) => [...modules]));
    for (const module of this.#world.activeModules()) {
      if (!explained.has(module) && state.quarantine[module] === undefined) {
        this.#violated(4, `module ${module} is in an active partition, and no alarm says so`);
      }
    }
  }

  appending(entry: LogEntry): void {
    const text = JSON.stringify(entry);
    const secret = this.secrets.find((each) => text.includes(each));
    if (secret !== undefined) this.#violated(5, `an entry names ${secret}`);
    if (entry.grade !== 'host') this.#violated(7, `an agent on the host signs as ${entry.grade}`);
    if (entry.kind === 'fm-restart-intent') this.#isStartMeant = true;
    if (entry.kind !== 'intent' && entry.kind !== 'fact') return;
    const { tenancy, change } = entry;
    const life = lifeOf(tenancy);
    const key = `${life} ${change}`;
    if (entry.kind === 'intent') {
      this.#open.set(key, tenancy);
      this.#intended.set(key, tenancy);
      return;
    }
    this.#open.delete(key);
    if (!this.#intended.has(key)) this.#violated(4, `${key} is a fact without an intent`);
    if (change === 'claim') {
      for (const module of tenancy.modules) {
        const owner = this.#owners.get(module) ?? life;
        if (owner !== life) this.#violated(1, `the log gives module ${module} to two`);
        this.#owners.set(module, life);
      }
    }
    if (change === 'release') this.#released(tenancy, life);
  }

  acknowledged(index: number, entry: LogEntry): void {
    this.#acknowledged.set(index, JSON.stringify(entry));
  }

  saving(state: AgentState): void {
    const { epoch = 0, sequence = 0 } = state.desired ?? {};
    const number = epoch * 1e6 + sequence;
    if (number < this.#number) this.#violated(9, `command ${number} follows ${this.#number}`);
    this.#number = number;
    for (const { id, modules, phase, isIntended, leaving } of state.tenancies) {
      if (phase === 'requested' && (!isIntended || leaving !== null)) continue;
      const stolen = modules.find((module) => state.claims[module] !== id);
      if (stolen !== undefined) this.#violated(1, `${id} goes on without its claim of ${stolen}`);
    }
  }

  activating(id: number): void {
    const { modules } = this.#world.fm.table.find((each) => each.id === id)!;
    this.#meant('activate', id);
    const other = this.#activeOf('agent').find(
      (each) => each.id !== id && overlaps(each.modules, modules),
    );
    if (other !== undefined) this.#violated(1, `${id} is activated beside ${other.id}`);
  }

  deactivating(id: number): void {
    this.#meant('deactivate', id);
  }

  startingDaemon(): void {
    if (!this.#isStartMeant) this.#violated(4, 'Fabric Manager is started without an intent');
    this.#isStartMeant = false;
  }

  touching(gpu: SimulatedGpu, how: string): void {
    const guest = [...this.#world.vms.values()].find(
      ({ bdfs, state }) => state !== 'stopped' && bdfs.includes(gpu.bdf),
    );
    if (guest !== undefined) this.#violated(1, `${how} of ${gpu.bdf}, which ${guest.id} has`);
    else if (gpu.holders.length > 0) {
      const vms = [...this.#world.vms.values()];
      const isOurs = vms.some(({ pid }) => gpu.holders.includes(pid));
      if (!isOurs) this.#violated(1, `${how} of ${gpu.bdf}, which a stranger has`);
    }
  }

  startingVm(id: string, gpus: readonly SimulatedGpu[]): void {
    if (this.#started.has(id)) this.#violated(9, `${id} is started twice`);
    const modules = gpus.map(({ module }) => module).toSorted((a, b) => a - b);
    const active = [...this.#world.fm.active.keys()];
    const isExact = active.some(
      (each) =>
        this.#world.fm.table.find((definition) => definition.id === each)!.modules.join() ===
        modules.join(),
    );
    if (!isExact) this.#violated(2, `${id} starts with modules ${modules}, no active partition`);
    const unclean = gpus.find(({ isDirty }) => isDirty);
    if (unclean !== undefined) this.#violated(2, `${id} gets ${unclean.bdf}, which was not reset`);
    const stale = gpus.find(({ hasStaleRoutes }) => hasStaleRoutes);
    if (stale !== undefined) this.#violated(2, `${id} gets ${stale.bdf} with stale routes`);
    const early = gpus.find(
      ({ completeNs }) => completeNs === null || completeNs > this.#world.nowNs,
    );
    if (early !== undefined) this.#violated(2, `${id} gets ${early.bdf} before its fabric is up`);
    const isDeadBoard = this.#world.faults.some(({ number }) => number === 145);
    if (isDeadBoard && gpus.length > 1) {
      this.#violated(2, `${id} starts on a board on which no pair works`);
    }
  }

  startedVm(id: string): void {
    this.#started.add(id);
  }

  attested(vm: string, evidence: GuestEvidence, isTrue: boolean): void {
    this.#evidence.set(vm, { ...evidence, atNs: this.#world.nowNs, isTrue });
  }

  admitting(vm: string, digest: string): void {
    const evidence = this.#evidence.get(vm);
    const host = this.#world.vms.get(vm);
    if (evidence?.digest !== digest) {
      this.#violated(3, `${vm} with unknown evidence`);
      return;
    }
    if (host?.state !== 'running') this.#violated(3, `${vm} does not run`);
    if (!evidence.isTrue) this.#violated(3, `${vm} with other devices than it has`);
    if (evidence.refusals.length > 0) this.#violated(3, `${vm} is refused`);
    if (this.#world.nowNs - evidence.atNs > EVIDENCE_NS_MAX) this.#violated(3, `${vm}: too old`);
  }

  /** A command of an old epoch was. */
  accepted(): void {
    this.#violated(9, 'a command of an old epoch was accepted');
  }

  restarted(): void {
    this.#evidence.clear();
  }

  #released(tenancy: LoggedTenancy, life: string): void {
    for (const key of this.#intended.keys()) {
      if (lifeIn(key) === life && !key.endsWith(' release')) this.#intended.delete(key);
    }
    for (const module of tenancy.modules) {
      if (this.#owners.get(module) !== life) continue;
      this.#owners.delete(module);
      const gpu = this.#world.gpus.find((each) => each.module === module)!;
      if (gpu.isDirty) this.#violated(6, `module ${module} is released and was not reset`);
      if (gpu.holders.length > 0) this.#violated(6, `module ${module} is released and still open`);
    }
  }

  /** That the log has an intent for what is being done, of a life that goes on. */
  #meant(change: 'activate' | 'deactivate', partition: number): void {
    const isMeant = [...this.#intended].some(
      ([key, tenancy]) => key.endsWith(` ${change}`) && tenancy.partition === partition,
    );
    if (!isMeant) this.#violated(4, `${change} ${partition} without an intent`);
  }

  #activeOf(activator: 'agent') {
    const active = [...this.#world.fm.active].filter(([, who]) => who === activator);
    return active.map(([id]) => this.#world.fm.table.find((each) => each.id === id)!);
  }

  #violated(invariant: InvariantNumber, what: string): void {
    this.violations.push({ invariant, what });
    this.#world.note(`VIOLATION ${invariant}: ${what}`);
  }
}

function lifeOf({ commitment, epoch }: LoggedTenancy): string {
  return `${commitment.slice(0, 16)}/${epoch}`;
}

function lifeIn(key: string): string {
  return key.slice(0, key.indexOf(' '));
}
