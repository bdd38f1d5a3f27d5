import { type ControlLink, HostAgent } from '../agent/agent.ts';
import type { Memory, MemoryStore } from '../agent/memory.ts';
import type { HostDesired, HostObservation } from '../api/agent.ts';
import type { HostFacts, PoolSpec } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import { admit, type Verdict } from '../fleet/admit.ts';
import type { Change } from '../fleet/context.ts';
import { desiredOf } from '../fleet/desired.ts';
import { observe, type Shown } from '../fleet/observe.ts';
import { reconcile } from '../fleet/reconcile.ts';
import { drain } from '../fleet/replicas.ts';
import { Term } from '../lead/term.ts';
import { SqlStore } from '../store/sql-store.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { Batch, Lease, Store } from '../store/store.ts';
import { chanceOf } from '../system.ts';
import { pretendedFacts } from '../vmm/pretended.ts';
import type { Guest, GuestSpec, Vmm } from '../vmm/vmm.ts';
import { type Draw, drawFrom } from './draw.ts';

/*
 * A fleet in virtual time: the real store (SQLite in memory), leaders, agents and the messages
 * between them, which come late, twice or never, while each of them ends at any await. What is
 * true of the guests is kept apart from what anybody says of them, and is judged after each step.
 */

export interface SimulationResult {
  readonly broken: readonly string[];
  /** What happened, a line a step: the same seed has the same. */
  readonly history: readonly string[];
  /** How often each thing happened, to see that a run was about something. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface SimulationOptions {
  readonly seed: number;
  readonly steps: number;
  readonly hosts: number;
  /** Takes protection away, to see that the judge notices. */
  readonly mutant?: 'early-release' | 'no-epoch' | 'forgets-guests';
}

const LEASE_MS = 3000;
const TENANT_GPUS = 4;
const POLICY_SECONDS = 120;

const REPLICAS_UP = new Set(['warm', 'serving']);

/** The end of a process at some await: what called it is gone, too. */
class Crash extends Error {}

/** Truth: guests of one host, whatever anybody remembers of them. */
class TrueVmm implements Vmm {
  readonly guests = new Map<string, { spec: GuestSpec; state: Guest['state']; ready: number }>();
  readonly #ever = new Set<string>();
  readonly #draw: Draw;
  readonly #facts: HostFacts;
  readonly #now: () => number;
  readonly #broken: (what: string) => void;

  constructor(facts: HostFacts, draw: Draw, now: () => number, broken: (what: string) => void) {
    this.#facts = facts;
    this.#draw = draw;
    this.#now = now;
    this.#broken = broken;
  }

  async facts(): Promise<HostFacts> {
    return this.#facts;
  }

  async list(): Promise<readonly Guest[]> {
    this.#fault();
    return [...this.guests].map(([replica, { state, ready }]) => {
      const isUp = state === 'booting' && this.#now() >= ready;
      const now = isUp ? 'running' : state;
      const address = now === 'running' ? `http://${replica}` : null;
      return { replica, state: now, progress: now, address };
    });
  }

  async create(spec: GuestSpec): Promise<void> {
    this.#fault();
    if (this.guests.has(spec.replica)) return;
    for (const [other, { spec: held }] of this.guests) {
      const shared = held.modules.filter((module) => spec.modules.includes(module));
      if (shared.length > 0) {
        this.#broken(`module ${shared[0]} is given to ${spec.replica} while ${other} has it`);
      }
    }
    if (this.#ever.has(spec.replica)) this.#broken(`${spec.replica} is begun a second time`);
    this.#ever.add(spec.replica);
    this.guests.set(spec.replica, { spec, state: 'booting', ready: this.#now() + 5000 });
    this.#fault();
  }

  async remove(replica: string): Promise<void> {
    this.#fault();
    const guest = this.guests.get(replica);
    if (guest === undefined) return;
    // Asked once it may end, asked again it is ended, and what has ended is removed.
    if (guest.state === 'failed') this.guests.delete(replica);
    else guest.state = guest.state === 'stopping' ? 'failed' : 'stopping';
    this.#fault();
  }

  async giveKey(): Promise<void> {
    this.#fault();
  }

  /** A guest in `stopping` ends by itself, unless it is one that does not listen. */
  settle(): void {
    for (const guest of this.guests.values()) {
      if (guest.state === 'stopping' && guest.spec.epoch % 3 > 0) guest.state = 'failed';
    }
  }

  die(): void {
    const list = [...this.guests.keys()];
    if (list.length === 0) return;
    const replica = this.#draw.of(list);
    if (this.#draw.chance(0.5)) this.guests.delete(replica);
    else this.guests.get(replica)!.state = 'failed';
  }

  #fault(): void {
    if (!this.#draw.chance(0.03)) return;
    if (this.#draw.chance(0.5)) throw new Crash('the agent ends');
    throw new ControlError('vmm-unavailable', 'no answer');
  }
}

/** A store that may end the leader before or after it has written. */
class FaultyStore implements Pick<Store, 'commit'> {
  readonly #store: Store;
  readonly #draw: Draw;

  constructor(store: Store, draw: Draw) {
    this.#store = store;
    this.#draw = draw;
  }

  async commit(lease: Lease, batch: Batch): Promise<void> {
    const away = () => new ControlError('store-unavailable', 'the database ended');
    if (this.#draw.chance(0.02)) throw away();
    await this.#store.commit(lease, batch);
    if (!this.#draw.chance(0.02)) return;
    throw away();
  }
}

interface Message {
  readonly to: number;
  readonly desired: HostDesired;
}

/** Runs one fleet; never throws for what goes wrong in it. */
export async function simulateFleet(options: SimulationOptions): Promise<SimulationResult> {
  const simulation = await Simulation.open(options);
  try {
    for (let step = 0; step < options.steps; step += 1) await simulation.step();
    await simulation.calm();
    return simulation.result();
  } finally {
    await simulation.close();
  }
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #draw: Draw;
  readonly #store: Store;
  readonly #faulty: FaultyStore;
  readonly #vmms: readonly TrueVmm[];
  readonly #memories: readonly MemoryStore[];
  readonly #agents: HostAgent[] = [];
  readonly #broken: string[] = [];
  readonly #history: string[] = [];
  readonly #counts: Record<string, number> = {};
  /** On their way to agents and to control. */
  readonly #commands: Message[] = [];
  readonly #observations: HostObservation[] = [];
  readonly #shown: Shown[] = [];
  /** Leaders that think they lead; the last one does. */
  readonly #terms: Term[] = [];
  readonly #refused = new Set<string>();
  readonly #acknowledged = new Map<string, string>();
  readonly #appliedEpochs: number[] = [];
  #nowMs = 1_000_000;
  #holders = 0;

  private constructor(options: SimulationOptions, store: Store, draw: Draw) {
    this.#options = options;
    this.#draw = draw;
    this.#store = store;
    this.#faulty = new FaultyStore(store, draw);
    const names = Array.from({ length: options.hosts }, (_, index) => `host-${index}`);
    this.#vmms = names.map(
      (host) => new TrueVmm(pretendedFacts(host), draw, () => this.#nowMs, this.#break),
    );
    this.#memories = names.map(() => memoryInMemory());
    for (const index of names.keys()) this.#agents.push(this.#agent(index));
  }

  static async open(options: SimulationOptions): Promise<Simulation> {
    const store = await SqlStore.open(openSqlite(':memory:'));
    const simulation = new Simulation(options, store, drawFrom(options.seed));
    await simulation.#lead();
    simulation.#draw.isCalm = true;
    await simulation.#found();
    simulation.#draw.isCalm = false;
    return simulation;
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  result(): SimulationResult {
    return { broken: this.#broken, history: this.#history, counts: this.#counts };
  }

  async step(): Promise<void> {
    const [name, act] = this.#draw.weighted(this.#acts);
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
    const note = await act();
    this.#history.push(`${this.#nowMs} ${name}${note === undefined ? '' : ` ${note}`}`);
    await this.#judge();
  }

  /** Without faults, everything comes about: what was wanted, and no more. */
  async calm(): Promise<void> {
    this.#draw.isCalm = true;
    this.#commands.length = 0;
    this.#observations.length = 0;
    for (let round = 0; round < 80; round += 1) {
      this.#nowMs += 2000;
      const term = await this.#leading();
      await this.#change(term, reconcile);
      for (const index of this.#agents.keys()) {
        const desired = desiredOf(term.fleet, `host-${index}`, term.lease.epoch, this.#nowMs);
        if (desired !== null) this.#take(index, desired);
        this.#vmms[index]!.settle();
        await this.#round(index);
      }
      while (this.#observations.length > 0) await this.#observe(term, this.#observations.shift()!);
      while (this.#shown.length > 0) await this.#verdict(term, this.#shown.shift()!, true);
    }
    await this.#judge();
    const { fleet } = await this.#leading();
    for (const pool of fleet.rows('pool').values()) {
      const up = [...fleet.rows('replica').inGroup(`pool/${pool.pool}`)].filter(
        ({ phase }) => phase === 'serving',
      );
      const { min } = pool.spec.replicas;
      if (up.length !== min && pool.trouble === null) {
        this.#break(`${pool.pool} has ${up.length} serving, shall have ${min}, and no trouble`);
      }
    }
    for (const [index, vmm] of this.#vmms.entries()) {
      for (const replica of vmm.guests.keys()) {
        const phase = fleet.get('replica', replica)?.phase ?? 'stopping';
        if (phase === 'stopping') {
          this.#break(`host-${index} still has ${replica}, which nobody wants`);
        }
      }
    }
  }

  readonly #break = (what: string): void => {
    this.#broken.push(`after ${this.#history.length} steps: ${what}`);
  };

  readonly #acts: readonly (readonly [number, string, () => Promise<string | undefined>])[] = [
    [8, 'round', () => this.#reconcile()],
    [8, 'agent', async () => this.#round(this.#draw.below(this.#agents.length))],
    [8, 'observation', () => this.#deliverObservation()],
    [8, 'command', () => this.#deliverCommand()],
    [8, 'send', () => this.#sendCommand()],
    [6, 'verdict', () => this.#deliverVerdict()],
    [4, 'time', async () => this.#pass()],
    [2, 'settle', async () => this.#draw.of(this.#vmms).settle() as undefined],
    [1, 'guest dies', async () => this.#draw.of(this.#vmms).die() as undefined],
    [1, 'agent ends', async () => this.#restart(this.#draw.below(this.#agents.length))],
    [1, 'leader ends', async () => this.#drop()],
    [1, 'leader pauses', () => this.#usurp()],
    [2, 'operator', () => this.#operate()],
  ];

  /** Tenants, pools and hosts, before anything goes wrong. */
  async #found(): Promise<void> {
    const term = await this.#leading();
    await this.#change(term, ({ fleet, chance, nowMs }) => {
      fleet.put('secret', 'prefix', { value: chance.secret(), madeMs: nowMs });
      fleet.put('policy', 'trial', {
        name: 'trial',
        spec: { policy: 'operator-asserted', maxAgeSeconds: POLICY_SECONDS },
      });
      const quota = {
        requestsPerMinute: null,
        tokensPerMinute: null,
        inFlightMax: null,
        gpusMax: TENANT_GPUS,
        weight: 1,
      };
      fleet.put('tenant', 'aurora', {
        tenant: 'aurora',
        spec: { quota, pools: null },
        salt: chance.secret(),
      });
      for (const index of this.#vmms.keys()) {
        const host = `host-${index}`;
        fleet.put('host', host, {
          host,
          state: 'joined',
          lostSinceMs: null,
          facts: null,
          quarantined: [],
          bootId: null,
          agentSpkiSha256: '0'.repeat(64),
          joinedMs: nowMs,
          checkpoint: null,
          desiredSequence: 0,
        });
      }
    });
  }

  #agent(index: number): HostAgent {
    const link: ControlLink = {
      desired: () => Promise.reject(new Crash('not called here')),
      observe: async (observation) => {
        if (!this.#draw.chance(0.1)) this.#observations.push(observation);
        if (this.#draw.chance(0.1)) this.#observations.push(observation);
      },
    };
    return new HostAgent({
      host: `host-${index}`,
      bootId: 'boot',
      vmm: this.#vmms[index]!,
      memory: this.#memories[index]!,
      link,
      askEvidence: async (_, __, nonce) => (this.#draw.chance(0.1) ? null : `report ${nonce}`),
      time: { nowMs: () => this.#nowMs, sleep: () => Promise.reject(new Crash('not called here')) },
      onTrouble: () => undefined,
    });
  }

  async #round(index: number): Promise<string> {
    try {
      await this.#agents[index]!.round();
      return `host-${index}`;
    } catch (error) {
      if (error instanceof Crash) return this.#restart(index);
      if (!(error instanceof ControlError)) throw error;
      return `host-${index} ${error.code}`;
    }
  }

  #restart(index: number): string {
    this.#nowMs += 1;
    const memory = this.#memories[index]!;
    if (this.#options.mutant === 'forgets-guests') memory.write({ ...memory.read(), begun: [] });
    this.#agents[index] = this.#agent(index);
    return `host-${index} anew`;
  }

  /** The term that leads, after another one if it must. */
  async #leading(): Promise<Term> {
    const last = this.#terms.at(-1);
    if (last !== undefined && !last.isOver) return last;
    return this.#lead();
  }

  async #lead(): Promise<Term> {
    this.#nowMs += LEASE_MS + 1;
    this.#holders += 1;
    const lease = await this.#store.acquire(`holder-${this.#holders}`, this.#nowMs, LEASE_MS);
    if (lease === null) return this.#lead();
    const { commit } = this.#faulty;
    const term = new Term({
      store: { ...bound(this.#store), commit: commit.bind(this.#faulty) },
      lease,
      contents: await this.#store.load(),
      chance: chanceOf((bytes) => this.#draw.bytes(bytes)),
      nowMs: () => this.#nowMs,
      onCommit: () => undefined,
      onEnd: () => undefined,
    });
    this.#terms.push(term);
    if (this.#terms.length > 3) this.#terms.shift();
    return term;
  }

  #drop(): undefined {
    this.#terms.at(-1)?.end(new ControlError('not-leader', 'it ended'));
  }

  /** Another leads although this one goes on, as one does that was paused. */
  async #usurp(): Promise<undefined> {
    await this.#lead();
  }

  /** Any of those who think that they lead; mostly the one that does. */
  async #someTerm(): Promise<Term> {
    const old = this.#terms.filter((term) => !term.isOver);
    if (old.length > 1 && this.#draw.chance(0.3)) return this.#draw.of(old);
    return this.#leading();
  }

  async #change(term: Term, make: (change: Change) => void): Promise<string> {
    try {
      await term.change({ actor: 'test', operation: null, make });
      return 'done';
    } catch (error) {
      if (error instanceof ControlError) return error.code;
      throw error;
    }
  }

  async #reconcile(): Promise<string> {
    return this.#change(await this.#someTerm(), reconcile);
  }

  async #sendCommand(): Promise<string> {
    const term = await this.#someTerm();
    const to = this.#draw.below(this.#agents.length);
    const desired = desiredOf(term.fleet, `host-${to}`, term.lease.epoch, this.#nowMs);
    if (desired === null) return 'none';
    this.#commands.push({ to, desired });
    if (this.#draw.chance(0.1)) this.#commands.push({ to, desired });
    return `host-${to} ${desired.epoch}.${desired.sequence}`;
  }

  async #deliverCommand(): Promise<string | undefined> {
    if (this.#commands.length === 0) return undefined;
    // Any of them: they overtake each other.
    const [message] = this.#commands.splice(this.#draw.below(this.#commands.length), 1);
    if (this.#draw.chance(0.1)) return 'lost';
    return this.#take(message!.to, message!.desired);
  }

  #take(to: number, desired: HostDesired): string {
    const { mutant } = this.#options;
    try {
      const epoch = mutant === 'no-epoch' ? Number.MAX_SAFE_INTEGER - 1 : desired.epoch;
      this.#agents[to]!.take({ ...desired, epoch });
      const before = this.#appliedEpochs[to] ?? 0;
      if (desired.epoch < before) this.#break(`host-${to} obeys epoch ${desired.epoch} again`);
      this.#appliedEpochs[to] = Math.max(before, desired.epoch);
      return `host-${to} ${desired.epoch}.${desired.sequence}`;
    } catch (error) {
      if (error instanceof ControlError) return `host-${to} ${error.code}`;
      throw error;
    }
  }

  async #deliverObservation(): Promise<string | undefined> {
    if (this.#observations.length === 0) return undefined;
    const at = this.#draw.below(Math.min(4, this.#observations.length));
    const [observation] = this.#observations.splice(at, 1);
    return this.#observe(await this.#someTerm(), observation!);
  }

  async #observe(term: Term, observation: HostObservation): Promise<string> {
    const { mutant } = this.#options;
    const seen =
      mutant === 'early-release'
        ? { ...observation, replicas: observation.replicas.filter((r) => r.state !== 'stopping') }
        : observation;
    const result = await this.#change(term, (change) => {
      const shown = observe(change, seen);
      this.#shown.push(...shown);
    });
    return `${observation.host} #${observation.sequence} ${result}`;
  }

  async #deliverVerdict(): Promise<string | undefined> {
    const shown = this.#shown.shift();
    if (shown === undefined) return undefined;
    return this.#verdict(await this.#someTerm(), shown, !this.#draw.chance(0.1));
  }

  async #verdict(term: Term, shown: Shown, isGood: boolean): Promise<string> {
    const verdict: Verdict = {
      refusals: isGood ? [] : ['it is another GPU'],
      encryptionKeys: 'AAAA',
      receiptKey: null,
      tlsSpkiSha256: null,
    };
    const isOpen = term.fleet.get('replica', shown.replica)?.challenge?.nonce === shown.nonce;
    const result = await this.#change(term, (change) => admit(change, shown, verdict));
    if (!isGood && isOpen && result === 'done') this.#refused.add(shown.replica);
    return `${isGood ? 'good' : 'bad'} ${result}`;
  }

  #pass(): string {
    const ms = this.#draw.of([100, 1000, 5000, 20_000]);
    this.#nowMs += ms;
    return `${ms} ms`;
  }

  /** Pools come, change and go; hosts are drained and taken back. */
  async #operate(): Promise<string> {
    const term = await this.#leading();
    const pool = this.#draw.of(['one', 'two', 'own']);
    const host = `host-${this.#draw.below(this.#vmms.length)}`;
    const min = this.#draw.below(4);
    const state = this.#draw.of(['ready', 'draining', 'cordoned'] as const);
    const kind = this.#draw.of(['put', 'put', 'delete', 'host', 'clear']);
    const isHosts = kind === 'host' || kind === 'clear';
    const text = isHosts ? `${kind} ${host} ${state}` : `${kind} ${pool} ${min}`;
    const spec = poolSpec(pool, min, this.#draw.of([1, 1, 2]));
    const result = await this.#change(term, (change) => {
      const { fleet } = change;
      if (kind === 'put') {
        const before = fleet.get('pool', pool);
        const isOther = before !== undefined && before.spec.gpus !== spec.gpus;
        fleet.put('pool', pool, {
          pool,
          spec,
          generation: (before?.generation ?? 1) + (isOther ? 1 : 0),
          wakeUntilMs: 0,
          failures: 0,
          notBeforeMs: 0,
          trouble: null,
        });
      } else if (kind === 'delete' && fleet.get('pool', pool) !== undefined) {
        for (const replica of [...fleet.rows('replica').inGroup(`pool/${pool}`)]) {
          drain(change, replica, 'its pool is no more');
        }
        fleet.remove('pool', pool);
      } else if (kind === 'host' && fleet.get('host', host)?.state !== 'joined') {
        fleet.patch('host', host, { state });
      } else if (kind === 'clear') {
        fleet.patch('host', host, { quarantined: [] });
      }
    });
    if (result === 'done' && kind === 'put') this.#acknowledged.set(pool, JSON.stringify(spec));
    if (result === 'done' && kind === 'delete') this.#acknowledged.delete(pool);
    // What was refused may have been written all the same.
    if (result !== 'done' && (kind === 'put' || kind === 'delete')) this.#acknowledged.delete(pool);
    return `${text} ${result}`;
  }

  /** What must hold at every moment, by what is true and what is written. */
  async #judge(): Promise<void> {
    const { rows, claims, sequence } = await this.#store.load();
    const claimed = new Map(
      claims.map(({ host, module, replica }) => [`${host}/${module}`, replica]),
    );
    const bodies = rows.map(({ kind, id, body }) => ({ kind, id, body: JSON.parse(body) }));
    const replicas = bodies.filter(({ kind }) => kind === 'replica').map(({ body }) => body);
    for (const [index, { guests }] of this.#vmms.entries()) {
      for (const [replica, { spec }] of guests) {
        for (const module of spec.modules) {
          const holder = claimed.get(`host-${index}/${module}`);
          if (holder !== replica) {
            this.#break(`host-${index} runs ${replica} on module ${module}, claimed by ${holder}`);
          }
        }
      }
    }
    let held = 0;
    for (const { replica, host, modules, tenant, phase, evidence } of replicas) {
      if (tenant === 'aurora') held += modules.length;
      for (const module of modules) {
        if (claimed.get(`${host}/${module}`) !== replica) {
          this.#break(`${replica} has no claim on module ${module} of ${host}`);
        }
      }
      if (REPLICAS_UP.has(phase) && evidence === null) this.#break(`${replica} is up unattested`);
      if (REPLICAS_UP.has(phase) && this.#refused.has(replica)) {
        this.#break(`${replica} is ${phase} although its evidence was refused`);
      }
    }
    if (held > TENANT_GPUS) this.#break(`aurora has ${held} GPUs, may have ${TENANT_GPUS}`);
    if (claims.length !== replicas.reduce((sum, { modules }) => sum + modules.length, 0)) {
      this.#break('a claim is of no replica');
    }
    for (const [pool, spec] of this.#acknowledged) {
      const row = bodies.find(({ kind, id }) => kind === 'pool' && id === pool);
      if (JSON.stringify(row?.body.spec) !== spec) this.#break(`${pool} is not as acknowledged`);
    }
    if (this.#history.length % 50 === 0) await this.#judgeEvents(rows, sequence);
  }

  /** Whoever follows the events from the beginning knows what is so. */
  async #judgeEvents(
    rows: readonly { kind: string; id: string; version: number; body: string }[],
    sequence: number,
  ): Promise<void> {
    const events = await this.#store.events(0, 1_000_000);
    const known = new Map<string, string>();
    for (const [index, { sequence: at, kind, id, body }] of events.entries()) {
      if (at !== index + 1) this.#break(`event ${at} comes after ${index}`);
      if (body === null) known.delete(`${kind}/${id}`);
      else known.set(`${kind}/${id}`, body);
    }
    const isSame =
      known.size === rows.length &&
      rows.every(({ kind, id, body }) => known.get(`${kind}/${id}`) === body);
    if (!isSame || events.length !== sequence) this.#break('the events do not say what is so');
  }
}

function poolSpec(pool: string, min: number, gpus: number): PoolSpec {
  return {
    models: [pool],
    image: 'storyteller',
    weightBytes: 0,
    gpus,
    platform: null,
    driverVersion: null,
    grades: ['host'],
    evidenceMaxAgeSeconds: null,
    policy: 'trial',
    tenant: pool === 'own' ? 'aurora' : null,
    tenantNonce: null,
    keyRelease: 'none',
    replicas: { min, max: min },
    warm: 0,
    inFlightMax: 8,
    targetLoad: 0.7,
    idleSeconds: 60,
    drainSeconds: 5,
    startSeconds: 60,
    tokensExpected: 1e6,
  };
}

function memoryInMemory(): MemoryStore {
  let kept: Memory = { startedMs: 0, desired: null, begun: [] };
  return {
    read: () => kept,
    write: (memory) => {
      kept = structuredClone(memory);
    },
  };
}

/** A store's methods as an object's own, to be replaced one by one. */
function bound(store: Store): Store {
  return {
    acquire: (...values) => store.acquire(...values),
    lease: () => store.lease(),
    release: (...values) => store.release(...values),
    load: () => store.load(),
    commit: (...values) => store.commit(...values),
    events: (...values) => store.events(...values),
    audit: (...values) => store.audit(...values),
    operation: (...values) => store.operation(...values),
    blob: (...values) => store.blob(...values),
    close: () => store.close(),
  };
}
