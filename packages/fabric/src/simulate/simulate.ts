import { createHash } from 'node:crypto';
import { Agent, type AgentOptions, type Judgement } from '../agent/agent.ts';
import { FabricError } from '../errors.ts';
import { overlaps } from '../fm/table.ts';
import type { LogEntry } from '../log/entries.ts';
import {
  type AgentState,
  type Desired,
  DOWN_ORDERS,
  isQuarantined,
  type WantedTenancy,
} from '../tenancy/state.ts';
import type { Violation } from './watcher.ts';
import { Crash, World, type WorldOptions } from './world.ts';

export interface SimulationOptions extends WorldOptions {
  /** How long things go wrong, in seconds of virtual time; 0: never. */
  readonly stormSeconds: number;
  /** What the agent decides by, in place of the product's. */
  readonly judgement?: Judgement;
  /** What stands between the agent and its ports. */
  readonly between?: (ports: Omit<AgentOptions, 'judgement'>) => Omit<AgentOptions, 'judgement'>;
  /** What happens besides, before each round, which are counted from 1. */
  readonly happen?: (world: World, round: number) => undefined | 'agent-restarts';
  /** How many rounds everything is left up, at least. */
  readonly roundsMin?: number;
  /** What is wanted at first; by default random partitions. */
  readonly wanted?: readonly WantedTenancy[];
}

export interface SimulationResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  /** What should have come about when all was calm, and did not. */
  readonly unfinished: readonly string[];
  readonly history: readonly string[];
  /** SHA-256 of the history. */
  readonly digest: string;
  readonly awaits: number;
  readonly crashes: number;
  readonly faults: number;
}

const ROUND_NS = 2e9;
const CALM_ROUNDS_MAX = 1500;
const TENANTS = ['aurora-bank', 'borealis-clinic', 'cumulus-court'];

/**
 * One host from its first boot through a storm, through repair, to an empty list. In the storm
 * calls fail, the agent ends, and the world changes; when it is calm again everything desired must
 * come about, and then go away.
 */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const run = new Simulation(options);
  await run.live();
  const { world } = run;
  return {
    seed: options.seed,
    violations: world.watcher.violations,
    unfinished: run.unfinished,
    history: world.history,
    digest: createHash('sha256').update(world.history.join('\n')).digest('hex'),
    awaits: world.awaits,
    crashes: world.history.filter((line) => line.endsWith(' crash')).length,
    faults: world.history.filter((line) => line.includes(' fault ')).length,
  };
}

class Simulation {
  readonly world: World;
  readonly unfinished: string[] = [];
  readonly #options: SimulationOptions;
  #agent: Agent | null = null;
  #sequence = 0;
  #desired: Desired;
  #isApplied = true;
  #isClearing = false;
  #rounds = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.world = new World(options);
    this.world.watcher.secrets.push(...TENANTS, 'tenancy-');
    this.#desired = this.#want(options.wanted ?? this.#anything());
  }

  async live(): Promise<void> {
    const { world } = this;
    const stormRounds = (this.#options.stormSeconds * 1e9) / ROUND_NS;
    for (let round = 0; round < stormRounds; round += 1) {
      this.#storm();
      await this.#round();
    }
    world.isCalm = true;
    world.note('calm');
    this.#repair();
    await this.#until('up', () => this.#missing());
    while (this.#rounds < (this.#options.roundsMin ?? 0)) await this.#round();
    this.unfinished.push(...this.#missing());
    if (stormRounds > 0) {
      // An operator who has looked: the host is started anew, and its GPUs come back.
      this.world.restartHost();
      this.#isClearing = true;
      await this.#until('up again', () => this.#missing());
    }
    this.#desired = this.#want([]);
    await this.#until('down', () => this.#left());
    const state = world.stored();
    if (state !== null) world.watcher.end(state);
    this.unfinished.push(...this.#left());
  }

  async #until(what: string, missing: () => readonly string[]): Promise<void> {
    for (let round = 0; round < CALM_ROUNDS_MAX; round += 1) {
      await this.#round();
      if (this.#isApplied && !this.#isClearing && missing().length === 0) return;
    }
    this.unfinished.push(...missing().map((each) => `${what}: ${each}`));
  }

  /** What is wanted and not there, unless its modules are in quarantine. */
  #missing(): string[] {
    const state = this.world.stored();
    return this.#desired.tenancies.flatMap(({ id, modules, guest }) => {
      const isOut = state !== null && isHeld(state, modules);
      const is = state?.tenancies.find((tenancy) => tenancy.id === id);
      const goal = guest === null ? 'activated' : 'admitted';
      const isThere =
        is?.phase === goal && is.leaving === null && is.modules.join() === modules.join();
      return isOut || isThere ? [] : [`${id} is ${is?.phase ?? 'not there'}`];
    });
  }

  /** What is there and should not be. */
  #left(): string[] {
    const state = this.world.stored();
    if (state === null) return [];
    const held = state.tenancies.filter(
      ({ modules }) => !modules.some((module) => state.quarantine[module] !== undefined),
    );
    return [
      ...held.map(({ id, phase }) => `${id} is still ${phase}`),
      ...Object.entries(state.claims).flatMap(([module, id]) =>
        state.tenancies.some((tenancy) => tenancy.id === id) ? [] : [`module ${module} is lost`],
      ),
      ...(Object.keys(state.devices).length === this.world.gpus.length ? [] : ['a GPU is lost']),
    ];
  }

  async #round(): Promise<void> {
    const { world } = this;
    this.#rounds += 1;
    if (this.#options.happen?.(world, this.#rounds) === 'agent-restarts') this.#agent = null;
    try {
      this.#agent ??= await this.#open();
      await this.#agent.round();
      if (!this.#isApplied) await this.#command(this.#agent);
      if (this.#isClearing) await this.#clear(this.#agent);
      this.#isClearing = false;
    } catch (error) {
      if (error instanceof Crash) this.#agent = null;
      else if (error instanceof FabricError) world.note(`round: ${error.code}`);
      else throw error;
    }
    world.pass(world.nowNs + ROUND_NS);
  }

  #open(): Promise<Agent> {
    const { between, judgement } = this.#options;
    const ports = this.world.ports();
    const { log, ...rest } = between === undefined ? ports : between(ports);
    const { watcher } = this.world;
    const options = {
      ...rest,
      log: {
        ...log,
        async append(entry: LogEntry) {
          const index = await log.append(entry);
          watcher.acknowledged(index, entry);
          return index;
        },
      },
    };
    return Agent.open(judgement === undefined ? options : { ...options, judgement });
  }

  async #command(agent: Agent): Promise<void> {
    await agent.apply(this.#desired);
    this.#isApplied = true;
    // Networks repeat and delay: neither may change anything.
    await agent.apply(this.#desired);
    const old = { ...this.#desired, epoch: 0, tenancies: [] };
    try {
      await agent.apply(old);
      this.world.watcher.accepted();
    } catch (error) {
      if (!(error instanceof FabricError && error.code === 'stale-epoch')) throw error;
    }
  }

  async #clear(agent: Agent): Promise<void> {
    const marked = Object.entries(agent.state.quarantine);
    await agent.clear(
      marked.filter(([, why]) => why !== 'fabric-fault').map(([module]) => +module),
    );
  }

  #want(tenancies: readonly WantedTenancy[]): Desired {
    this.#sequence += 1;
    this.#isApplied = false;
    return { host: 'host-1', epoch: 1, sequence: this.#sequence, tenancies: [...tenancies] };
  }

  #anything(): WantedTenancy[] {
    const { random, fm } = this.world;
    const wanted: WantedTenancy[] = [];
    for (let tries = random.int(6); tries > 0; tries -= 1) {
      const { id, modules } = random.pick(fm.table);
      if (wanted.some((each) => overlaps(each.modules, modules))) continue;
      wanted.push({
        id: `tenancy-${id}`,
        tenant: random.pick(TENANTS),
        modules,
        order: random.pick(DOWN_ORDERS),
        guest: random.chance(0.9) ? { image: 'image', memoryBytes: 64 * 2 ** 30 } : null,
      });
    }
    return wanted;
  }

  /** What goes wrong between two rounds. */
  #storm(): void {
    const { world } = this;
    const { random } = world;
    if (random.chance(0.02)) this.#desired = this.#want(this.#anything());
    // The agent, or its whole machine, is stopped for up to two hours.
    if (random.chance(0.003)) world.pass(world.nowNs + random.int(7200) * 1e9);
    if (random.chance(0.05)) world.wallOffMs = random.int(2e9, -1e9);
    if (random.chance(0.01)) world.isDiskFull = true;
    else if (random.chance(0.2)) world.isDiskFull = false;
    if (random.chance(0.005)) world.fm.stop();
    // What watches over services has no list of what was active.
    if (!world.fm.isRunning && random.chance(0.3)) world.startDaemon('plain');
    const vm = random.pick([...world.vms.keys(), '']);
    if (random.chance(0.004)) world.stopVm(vm);
    if (random.chance(0.001)) world.restartHost();
    if (random.chance(0.001)) world.xid(random.pick([145, 79, 74]), random.int(8, 1));
    if (random.chance(0.001)) world.strangerActivates(random.pick(world.fm.table).id);
    if (random.chance(0.001)) random.pick(world.gpus).isSilent = true;
    // Operators look, and mend what they find; or they do not.
    if (random.chance(0.02)) this.#isClearing = true;
    if (random.chance(0.01)) this.#repair();
  }

  /** Whoever did it undoes it. */
  #repair(): void {
    const { world } = this;
    world.isDiskFull = false;
    world.strangersLeave();
    for (const gpu of world.gpus) gpu.isSilent = false;
  }
}

/** Whether modules are in quarantine, or the claim of a tenancy that is. */
function isHeld(state: AgentState, modules: readonly number[]): boolean {
  const holders = state.tenancies.filter((tenancy) =>
    modules.some((module) => state.claims[module] === tenancy.id),
  );
  return [modules, ...holders.map((each) => each.modules)].some((each) =>
    isQuarantined(state, each),
  );
}
