import { createHash } from 'node:crypto';
import type { Clock } from '@bridgekeeper/bridge';
import { invariant } from '@bridgekeeper/bridge';
import type { AgentOptions } from '../agent/agent.ts';
import { FabricError } from '../errors.ts';
import type { GuestEvidence } from '../host/control.ts';
import type { HostObservation, ObservedFault, ObservedGpu } from '../host/host.ts';
import type { LogEntry } from '../log/entries.ts';
import { type AgentState, readState } from '../tenancy/state.ts';
import { FM_FAULTS, type FmFault, SimulatedManager } from './fabric-manager.ts';
import { Random } from './random.ts';
import { Watcher } from './watcher.ts';

/** The agent ends here, as by kill -9: no code of it runs any more. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

/** Where modules are on a real board: PCI order is another one. */
const PCI_ORDER = [5, 7, 6, 8, 1, 3, 2, 4];

export interface SimulatedGpu {
  readonly bdf: string;
  readonly module: number;
  readonly identity: string;
  driver: 'nvidia' | 'vfio-pci';
  isSilent: boolean;
  /** A guest had it since it was last reset. */
  isDirty: boolean;
  /** Fabric Manager started plainly since it was last reset. */
  hasStaleRoutes: boolean;
  /** When its part of a partition is complete; null: it is in none. */
  completeNs: number | null;
  holders: number[];
}

export interface SimulatedVm {
  readonly id: string;
  readonly bdfs: readonly string[];
  readonly pid: number;
  readonly runsNs: number;
  state: 'starting' | 'running' | 'stopped';
  /** When its process lets go of the GPUs; null: not yet stopped. */
  goneNs: number | null;
}

/** How a guest's evidence may be wrong. */
const EVIDENCE_FAULTS = [
  'reported-twice', // one device twice, and so many that the count is right
  'some-missing', // four of eight came up
  'another-device', // a relay: of another host
  'refused', // by the policy
  'old-nonce',
] as const;

export type EvidenceFault = (typeof EVIDENCE_FAULTS)[number];

export interface WorldOptions {
  readonly seed: number;
  /** How likely each call to Fabric Manager, each attestation and each write fails. */
  readonly faultProbability: number;
  /** How likely the agent ends at each await. */
  readonly crashProbability: number;
  /** The one await, counted from 1, at which it ends besides. */
  readonly crashAt?: number;
}

const CALL_NS = { least: 1e6, count: 40e6 };
const BOOT_NS = { least: 20e9, count: 60e9 };
const LET_GO_NS = 3e9;
const COMPLETE_NS = { least: 0.5e9, count: 8e9 };

/**
 * A host with eight GPUs, in virtual time: what is, what can be seen of it, and what goes wrong.
 * The agent reaches it only through `ports`; each call there is an await at which the agent may
 * end, before or after it had its effect.
 */
export class World {
  readonly fm = new SimulatedManager();
  readonly gpus: readonly SimulatedGpu[];
  readonly vms = new Map<string, SimulatedVm>();
  readonly gateway = new Map<string, { streams: number }>();
  readonly faults: ObservedFault[] = [];
  readonly log: LogEntry[] = [];
  /** What happened, in order; the same bytes for the same seed. */
  readonly history: string[] = [];
  readonly watcher: Watcher;
  readonly random: Random;
  bootId = 'boot-1';
  nowNs = 0;
  /** What the wall clock is off by. */
  wallOffMs = 0;
  isDiskFull = false;
  fmVersion = '590.48.01';
  /** The daemon runs and reaches no GPU. */
  isPathLost = false;
  /** Calm: nothing fails any more. */
  isCalm = false;
  /** What the next calls of a kind do wrong, for scenarios. */
  readonly planned = new Map<string, FmFault[]>();
  readonly plannedEvidence: (EvidenceFault | null)[] = [];
  /** Awaits so far. */
  awaits = 0;
  #stored: string | null = null;
  #boots = 1;
  #pids = 1000;
  readonly #options: WorldOptions;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.random = new Random(options.seed);
    this.gpus = PCI_ORDER.map((module, index) => ({
      bdf: `0000:${(0x1b + index * 0x10).toString(16)}:00.0`,
      module,
      identity: `e0e0${this.random.hex(11)}${index}`,
      driver: 'nvidia',
      isSilent: false,
      isDirty: false,
      hasStaleRoutes: false,
      completeNs: null,
      holders: [],
    }));
    this.watcher = new Watcher(this);
  }

  /** Everything of the world that an agent is given. */
  ports(): Omit<AgentOptions, 'judgement'> {
    const clock: Clock = {
      nowNs: () => this.nowNs,
      sleepUntilNs: async (wakeNs) => this.pass(wakeNs),
    };
    const { fm } = this;
    return {
      host: 'host-1',
      grade: 'host',
      version: '0.0.0',
      clock,
      nowMs: () => Math.floor(this.nowNs / 1e6) + this.wallOffMs,
      salt: () => this.random.hex(64),
      probe: { observe: () => this.#call('observe', () => this.observe()) },
      log: {
        append: (entry) => this.#call(`log ${nameOf(entry)}`, () => this.#append(entry)),
        size: async () => this.log.length,
        read: async (start, max) => this.log.slice(start, start + max),
      },
      store: {
        read: async () => this.stored(),
        replace: (state) => this.#call('store', () => this.#replace(state)),
      },
      hands: {
        nonce: () => this.random.hex(64),
        fm: {
          version: () => this.#call('fm version', () => this.fmVersion),
          partitions: () => this.#fm('list', (fault) => fm.list(this.nowNs, fault)),
          activate: (id) =>
            this.#fm(`activate ${id}`, (fault) => {
              this.watcher.activating(id);
              fm.activate(id, this.nowNs, fault);
            }),
          deactivate: (id) =>
            this.#fm(`deactivate ${id}`, (fault) => {
              this.watcher.deactivating(id);
              fm.deactivate(id, this.nowNs, fault);
            }),
          setActivated: (ids) =>
            this.#fm(`resume ${ids.join()}`, (fault) => fm.setActivated(ids, fault)),
        },
        control: {
          reset: (bdf) => this.#call(`reset ${bdf}`, () => this.#reset(bdf)),
          bind: (bdf, driver) => this.#call(`bind ${bdf} ${driver}`, () => this.#bind(bdf, driver)),
          startDaemon: (mode) =>
            this.#call(`fm start ${mode}`, () => {
              this.watcher.startingDaemon();
              this.startDaemon(mode);
            }),
          stopDaemon: () => this.#call('fm stop', () => this.fm.stop()),
        },
        vms: {
          start: (id, _guest, bdfs) => this.#call(`vm start ${id}`, () => this.#startVm(id, bdfs)),
          stop: (id) => this.#call(`vm stop ${id}`, () => this.stopVm(id)),
        },
        guests: {
          attest: (vm, nonce) => this.#call(`attest ${vm}`, () => this.#attest(vm, nonce)),
        },
        gateway: {
          list: () =>
            this.#call('gateway', () =>
              [...this.gateway].map(([vm, { streams }]) => ({ vm, streams })),
            ),
          admit: (vm, digest) =>
            this.#call(`admit ${vm}`, () => {
              this.watcher.admitting(vm, digest);
              if (!this.gateway.has(vm)) this.gateway.set(vm, { streams: this.random.int(4) });
            }),
          withdraw: (vm) => this.#call(`withdraw ${vm}`, () => this.#withdraw(vm)),
        },
      },
    };
  }

  /** Lets time come. */
  pass(untilNs: number): void {
    this.nowNs = Math.max(this.nowNs, untilNs);
    this.fm.pass(this.nowNs);
    for (const vm of this.vms.values()) {
      if (vm.state === 'starting' && vm.runsNs <= this.nowNs) vm.state = 'running';
      if (vm.goneNs !== null && vm.goneNs <= this.nowNs) {
        for (const gpu of this.#gpusOf(vm)) gpu.holders = gpu.holders.filter((p) => p !== vm.pid);
        this.vms.delete(vm.id);
      }
    }
    const active = this.activeModules();
    for (const gpu of this.gpus) {
      if (!active.has(gpu.module) || this.isPathLost) gpu.completeNs = null;
      else gpu.completeNs ??= this.nowNs + this.#between(COMPLETE_NS);
    }
  }

  observe(): HostObservation {
    this.pass(this.nowNs);
    return {
      bootId: this.bootId,
      driverVersion: '590.48.01',
      daemon: {
        isRunning: this.fm.isRunning,
        instance: this.fm.isRunning ? String(this.fm.instance) : null,
        hasState: true,
      },
      gpus: this.gpus.map((gpu) => this.#seen(gpu)),
      vms: [...this.vms.values()].map(({ id, state, bdfs, pid }) => ({ id, state, bdfs, pid })),
      faults: [...this.faults],
    };
  }

  stored(): AgentState | null {
    if (this.#stored === null) return null;
    const read = readState(JSON.parse(this.#stored));
    invariant('value' in read, `the agent wrote a state that cannot be read: ${this.#stored}`);
    return read.value;
  }

  note(what: string): void {
    this.history.push(`${(this.nowNs / 1e9).toFixed(3)} ${what}`);
  }

  activeModules(): Set<number> {
    const active = [...this.fm.active.keys()];
    return new Set(
      active.flatMap((id) => [...this.fm.table.find((each) => each.id === id)!.modules]),
    );
  }

  /* What happens to the host, and not by the agent. */

  startDaemon(mode: 'plain' | 'resume'): void {
    if (this.fm.isRunning) throw new FabricError('host-refused', 'Fabric Manager runs');
    this.fm.start(mode);
    if (mode === 'plain') for (const gpu of this.gpus) gpu.hasStaleRoutes = true;
  }

  restartHost(): void {
    this.#boots += 1;
    this.bootId = `boot-${this.#boots}`;
    this.nowNs = 0;
    this.vms.clear();
    this.gateway.clear();
    this.faults.length = 0;
    this.fm.forget();
    this.fm.start('plain');
    for (const gpu of this.gpus) {
      gpu.driver = 'nvidia';
      gpu.holders = [];
      gpu.completeNs = null;
      gpu.hasStaleRoutes = false;
      gpu.isSilent = false;
    }
    this.watcher.restarted();
  }

  /** Somebody has a partition activated past the agent. */
  strangerActivates(id: number): void {
    this.fm.meddle(id, this.nowNs);
  }

  strangersLeave(): void {
    for (const [id, who] of this.fm.active) if (who === 'stranger') this.fm.active.delete(id);
  }

  xid(number: number, module: number): void {
    const { bdf } = this.gpus.find((gpu) => gpu.module === module)!;
    this.faults.push({ sequence: this.faults.length + 1, kind: 'xid', number, bdf });
  }

  stopVm(id: string): void {
    const vm = this.vms.get(id);
    if (vm === undefined || vm.state === 'stopped') return;
    vm.state = 'stopped';
    vm.goneNs = this.nowNs + LET_GO_NS;
    this.gateway.delete(id);
  }

  /* What the agent does. */

  async #call<T>(name: string, effect: () => T): Promise<T> {
    this.#await();
    this.pass(this.nowNs + this.#between(CALL_NS));
    try {
      const result = effect();
      this.note(name);
      return result;
    } catch (error) {
      if (error instanceof FabricError) this.note(`${name}: ${error.code} ${error.status ?? ''}`);
      throw error;
    } finally {
      this.watcher.look();
      this.#await();
    }
  }

  #fm<T>(name: string, effect: (fault: FmFault | null) => T): Promise<T> {
    return this.#call(`fm ${name}`, () => {
      const [planned, ...rest] = this.planned.get(name.split(' ')[0]!) ?? [];
      this.planned.set(name.split(' ')[0]!, rest);
      const fault = planned ?? (this.#fails() ? this.random.pick(FM_FAULTS) : null);
      if (fault !== null) this.note(`fault ${fault}`);
      return effect(fault);
    });
  }

  #fails(): boolean {
    return !this.isCalm && this.random.chance(this.#options.faultProbability);
  }

  #await(): void {
    this.awaits += 1;
    const isDue = this.awaits === this.#options.crashAt;
    if (isDue || (!this.isCalm && this.random.chance(this.#options.crashProbability))) {
      this.note('crash');
      throw new Crash();
    }
  }

  #append(entry: LogEntry): number {
    if (this.isDiskFull) throw new FabricError('log-unwritable', 'the disk is full');
    this.watcher.appending(entry);
    this.log.push(entry);
    return this.log.length - 1;
  }

  #replace(state: AgentState): void {
    if (this.isDiskFull) throw new FabricError('disk-full', 'the disk is full');
    this.watcher.saving(state);
    this.#stored = JSON.stringify(state);
  }

  #reset(bdf: string): void {
    const gpu = this.#gpuAt(bdf);
    this.watcher.touching(gpu, 'reset');
    if (this.#fails()) throw new FabricError('host-refused', `${bdf} cannot be reset now`);
    gpu.isDirty = false;
    gpu.hasStaleRoutes = false;
    if (gpu.completeNs !== null) gpu.completeNs = this.nowNs + this.#between(COMPLETE_NS);
  }

  #bind(bdf: string, driver: 'nvidia' | 'vfio-pci'): void {
    const gpu = this.#gpuAt(bdf);
    if (gpu.driver === driver) return;
    this.watcher.touching(gpu, 'bind');
    if (this.#fails()) throw new FabricError('host-refused', `${bdf} cannot be bound now`);
    gpu.driver = driver;
  }

  #startVm(id: string, bdfs: readonly string[]): void {
    const gpus = bdfs.map((bdf) => this.#gpuAt(bdf));
    this.watcher.startingVm(id, gpus);
    if (this.#fails()) throw new FabricError('vm-failed', 'the VM cannot be started now');
    if (gpus.some(({ holders, driver }) => holders.length > 0 || driver !== 'vfio-pci')) {
      throw new FabricError('vm-failed', 'a GPU is busy');
    }
    this.#pids += 1;
    const pid = this.#pids;
    for (const gpu of gpus) {
      gpu.holders.push(pid);
      gpu.isDirty = true;
    }
    const runsNs = this.nowNs + this.#between(BOOT_NS);
    this.watcher.startedVm(id);
    this.vms.set(id, { id, bdfs, pid, runsNs, state: 'starting', goneNs: null });
  }

  #attest(id: string, nonce: string): GuestEvidence {
    const vm = this.vms.get(id);
    if (vm?.state !== 'running') throw new FabricError('vm-failed', 'the guest does not answer');
    const random = this.#fails() ? this.random.pick(EVIDENCE_FAULTS) : null;
    const fault = this.plannedEvidence.shift() ?? random;
    if (fault !== null) this.note(`fault ${fault}`);
    const own = this.#gpusOf(vm).map(({ identity }) => identity);
    const identities = {
      'reported-twice': [own[0]!, ...own.slice(0, -1)],
      'some-missing': own.slice(0, Math.floor(own.length / 2)),
      'another-device': own.with(0, 'ffff000000000000'),
    };
    const evidence = {
      nonce: fault === 'old-nonce' ? '0'.repeat(64) : nonce,
      digest: this.random.hex(64),
      refusals: fault === 'refused' ? ['its firmware is too old'] : [],
      identities: identities[fault as keyof typeof identities] ?? own,
    };
    this.watcher.attested(
      id,
      evidence,
      fault === null || own.join() === evidence.identities.join(),
    );
    return evidence;
  }

  #withdraw(id: string): void {
    const entry = this.gateway.get(id);
    if (entry === undefined) return;
    entry.streams = Math.max(0, entry.streams - 1);
    if (entry.streams === 0) this.gateway.delete(id);
  }

  #seen(gpu: SimulatedGpu): ObservedGpu {
    const isVisible = gpu.driver === 'nvidia' && !gpu.isSilent;
    const isComplete = gpu.completeNs !== null && gpu.completeNs <= this.nowNs;
    const reached = isComplete ? 'completed' : 'in-progress';
    const isReached = this.fm.isRunning && !this.isPathLost;
    return {
      bdf: gpu.bdf,
      driver: gpu.driver,
      configWord: gpu.isSilent ? 0xffff_ffff : 0x2901_10de,
      moduleId: isVisible ? gpu.module : null,
      identity: isVisible ? gpu.identity : null,
      fabric: isVisible
        ? {
            state: isReached ? reached : 'not-started',
            status: 0,
            unhealthy: [],
            isPartitionAssigned: isComplete,
          }
        : null,
      encryption: isVisible ? { isOn: null, takesKeys: false } : null,
      holders: [...gpu.holders],
      resetReaches: [],
    };
  }

  #gpuAt(bdf: string): SimulatedGpu {
    const gpu = this.gpus.find((each) => each.bdf === bdf);
    if (gpu === undefined) throw new FabricError('host-refused', `there is no ${bdf}`);
    return gpu;
  }

  #gpusOf({ bdfs }: SimulatedVm): SimulatedGpu[] {
    return this.gpus.filter(({ bdf }) => bdfs.includes(bdf));
  }

  #between({ least, count }: { readonly least: number; readonly count: number }): number {
    return this.random.int(count, least);
  }
}

function nameOf(entry: LogEntry): string {
  const digest = createHash('sha256').update(JSON.stringify(entry)).digest('hex').slice(0, 12);
  if (entry.kind !== 'intent' && entry.kind !== 'fact') return `${entry.kind} ${digest}`;
  const { change, tenancy } = entry;
  return `${entry.kind} ${change} ${tenancy.modules.join()}/${tenancy.epoch} ${digest}`;
}
