import type { Clock } from '@bridgekeeper/bridge';
import { FabricError, type FabricErrorCode } from '../errors.ts';
import { FM_STATUS } from '../fm/status.ts';
import {
  activeAmong,
  definitionsOf,
  type PartitionDefinition,
  partitionOf,
  tableDigest,
} from '../fm/table.ts';
import type { HostProbe } from '../host/host.ts';
import {
  commitmentOf,
  type EntryHead,
  type Grade,
  type LogEntry,
  type LoggedTenancy,
  type QuarantineReason,
} from '../log/entries.ts';
import type { FabricLog } from '../log/log.ts';
import * as RULES from '../tenancy/rules.ts';
import {
  answered,
  type Finding,
  failed,
  look,
  notYet,
  type Sight,
  wrong,
} from '../tenancy/sight.ts';
import {
  type AgentState,
  emptyState,
  isQuarantined,
  readDesired,
  type Tenancy,
  vmOf,
} from '../tenancy/state.ts';
import { type Hands, nextPhase, STEPS, type Steps } from '../tenancy/steps.ts';
import type { Store } from './store.ts';

/** What an agent decides by. Tests replace one of them at a time and see that it is noticed. */
export interface Judgement {
  readonly steps: Steps;
  readonly standing: typeof RULES.standing;
  readonly learn: typeof RULES.learn;
  readonly blastRadius: typeof RULES.blastRadius;
  readonly restartMode: typeof RULES.restartMode;
  readonly foreignModules: typeof RULES.foreignModules;
  readonly unwanted: typeof RULES.unwanted;
  readonly isHeld: typeof RULES.isHeld;
  readonly isNewer: typeof RULES.isNewer;
  readonly partitionOf: typeof partitionOf<PartitionDefinition>;
}

export const JUDGEMENT: Judgement = {
  steps: STEPS,
  standing: RULES.standing,
  learn: RULES.learn,
  blastRadius: RULES.blastRadius,
  restartMode: RULES.restartMode,
  foreignModules: RULES.foreignModules,
  unwanted: RULES.unwanted,
  isHeld: RULES.isHeld,
  isNewer: RULES.isNewer,
  partitionOf,
};

export interface AgentOptions {
  readonly host: string;
  readonly grade: Grade;
  readonly version: string;
  readonly probe: HostProbe;
  readonly hands: Hands;
  readonly log: FabricLog;
  readonly store: Store;
  /** Monotonic over this boot, also for the next agent: deadlines are on it. */
  readonly clock: Clock;
  /** Wall clock, in log entries only: it may jump. */
  readonly nowMs: () => number;
  /** 64 hex digits that nobody can guess. */
  readonly salt: () => string;
  readonly judgement?: Judgement;
}

/** A list may be stale: what would end a tenancy or take modules out must be so for this long. */
const DOUBT_NS = 15e9;

/** One that ends at once is not started again and again. */
const DAEMON_PAUSE_NS = 30e9;

const BACKOFF_SECONDS_MAX = 300;

/**
 * One host's agent: in rounds, it looks, judges, and takes each tenancy as far as it goes. What it
 * knows is in its store and what it did is in its log, so that it may end at any moment. Not
 * reentrant, and one at a time on a host (`lockAgent`).
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #judge: Judgement;
  #state: AgentState;
  #isAnnounced = false;
  /** Why Fabric Manager did not answer in the last look; null: it did, or does not run. */
  #fmTrouble: FabricError | null = null;
  /** When Fabric Manager was started last; null: it has been seen to run since. */
  #daemonStartNs: number | null = null;
  /** Since when something doubtful is so, by what it is. */
  readonly #doubts = new Map<string, number>();

  private constructor(options: AgentOptions, state: AgentState) {
    this.#options = options;
    this.#judge = options.judgement ?? JUDGEMENT;
    this.#state = state;
  }

  /** Throws FabricError 'state-broken' or 'disk-failed'. */
  static async open(options: AgentOptions): Promise<Agent> {
    const state = (await options.store.read()) ?? emptyState(options.host);
    if (state.host === options.host) return new Agent(options, state);
    const message = `the state is of host ${state.host}, not of ${options.host}`;
    throw new FabricError('state-broken', message);
  }

  get state(): AgentState {
    return this.#state;
  }

  /**
   * Makes a document what shall be on this host; all of it or, if it throws, nothing. The same one
   * again changes nothing. Throws FabricError 'bad-desired', 'stale-epoch', 'does-not-fit' (the
   * table has no such partition), 'fm-unanswered' (no table was ever read), or of the store.
   */
  async apply(document: unknown): Promise<void> {
    const read = readDesired(document);
    if ('wrong' in read) throw new FabricError('bad-desired', `desired state: ${read.wrong}`);
    const desired = read.value;
    const { host, desired: before, daemon } = this.#state;
    if (desired.host !== host) {
      throw new FabricError('bad-desired', `the desired state is for ${desired.host}, not ${host}`);
    }
    if (before !== null && !this.#judge.isNewer(desired, before)) return;
    if (daemon.table === null) {
      const why = this.#fmTrouble === null ? '' : `: ${this.#fmTrouble.message}`;
      const message = `Fabric Manager has not answered yet, so no partition is known${why}`;
      throw new FabricError('fm-unanswered', message);
    }
    for (const { id, modules } of desired.tenancies) {
      if (this.#judge.partitionOf(daemon.table.partitions, modules) !== undefined) continue;
      const message = `${id}: Fabric Manager has no partition of modules ${modules.join(', ')}`;
      throw new FabricError('does-not-fit', message);
    }
    const gone = this.#judge.unwanted(this.#state, desired);
    const failures = Object.entries(this.#state.failures).filter(([id]) =>
      desired.tenancies.some((wanted) => wanted.id === id),
    );
    await this.#save({
      ...this.#state,
      desired,
      failures: Object.fromEntries(failures),
      tenancies: this.#state.tenancies.map((tenancy) =>
        gone.includes(tenancy.id) ? RULES.leave(tenancy, 'it is not desired any more') : tenancy,
      ),
    });
  }

  /**
   * An operator has looked: the modules come back into service once what was on them went down.
   * Throws FabricError 'needs-restart' for those that a fault of the fabric has, or of log and
   * store.
   */
  async clear(modules: readonly number[]): Promise<void> {
    const faulty = modules.filter((module) => this.#state.quarantine[module] === 'fabric-fault');
    if (faulty.length > 0) {
      const message = `modules ${faulty.join(', ')}: restart the host, which ends the fault`;
      throw new FabricError('needs-restart', message);
    }
    await this.#log({ kind: 'cleared', modules });
    const quarantine = Object.entries(this.#state.quarantine).filter(
      ([module]) => !modules.includes(Number(module)),
    );
    await this.#save({ ...this.#state, quarantine: Object.fromEntries(quarantine) });
  }

  /** Empties the host for another partition table, by its digest. Throws of the store. */
  async maintain(table: string): Promise<void> {
    await this.#save(RULES.withMaintenance(this.#state, table));
  }

  /**
   * Looks, and takes everything as far as it goes now. Throws FabricError if it cannot look, log or
   * save: then nothing was begun that is not logged, and the next round goes on.
   */
  async round(): Promise<void> {
    const sight = await this.#look();
    await this.#announce(sight);
    if (this.#state.bootId !== sight.host.bootId) await this.#rebooted(sight);
    await this.#learn(sight);
    const isServing = (await this.#tendDaemon(sight)) && (await this.#tendTable());
    if (this.#state.daemon.table !== null) await this.#judgeFaults(sight);
    for (const { id } of this.#state.tenancies) await this.#tend(id);
    if (isServing) await this.#request(sight);
  }

  async #look(): Promise<Sight> {
    const { probe, hands, clock } = this.#options;
    const sight = await look(probe, hands.fm, hands.gateway, clock);
    this.#fmTrouble = sight.fmTrouble;
    return sight;
  }

  async #announce({ host, partitions }: Sight): Promise<void> {
    if (this.#isAnnounced) return;
    const { version: agentVersion, hands } = this.#options;
    const fmVersion = partitions === null ? null : await answered(hands.fm.version());
    const { driverVersion } = host;
    const started = { kind: 'agent-started', agentVersion, fmVersion, driverVersion } as const;
    await this.#log(started, host.bootId);
    this.#isAnnounced = true;
  }

  /** Everything that ran has ended with the last boot, and its clock with it. */
  async #rebooted({ host }: Sight): Promise<void> {
    const { tenancies, quarantine, daemon } = this.#state;
    const wantsAPerson = Object.entries(quarantine).filter(([, why]) => why !== 'fabric-fault');
    await this.#save({
      ...this.#state,
      bootId: host.bootId,
      tenancies: tenancies.map((tenancy) => ({
        ...RULES.leave(tenancy, 'the host restarted'),
        isIntended: false,
        evidence: null,
      })),
      failures: {},
      quarantine: Object.fromEntries(wantsAPerson),
      faultsJudged: 0,
      daemon: { ...daemon, instance: null, starting: null, resumes: 0 },
    });
  }

  async #learn({ host }: Sight): Promise<void> {
    const { devices, changed } = this.#judge.learn(this.#state.devices, host);
    if (changed !== null) await this.#quarantine([changed], 'device-changed');
    if (JSON.stringify(devices) === JSON.stringify(this.#state.devices)) return;
    const logged = Object.entries(devices).map(([module, { identity }]) => ({
      module: Number(module),
      identity,
    }));
    await this.#log({ kind: 'devices', devices: logged });
    await this.#save({ ...this.#state, devices });
  }

  async #judgeFaults({ host }: Sight): Promise<void> {
    for (const fault of host.faults) {
      if (fault.sequence <= this.#state.faultsJudged) continue;
      const radius = this.#judge.blastRadius(fault, this.#state);
      await this.#quarantine(
        radius,
        fault.kind === 'off-the-bus' ? 'device-silent' : 'fabric-fault',
      );
      await this.#save({ ...this.#state, faultsJudged: fault.sequence });
    }
  }

  /** Has Fabric Manager run, and deals with its restarts. False: the host is frozen until then. */
  async #tendDaemon({ host, nowNs }: Sight): Promise<boolean> {
    const { fm, control } = this.#options.hands;
    const { daemon, tenancies } = this.#state;
    if (!host.daemon.isRunning) {
      const isTried = this.#daemonStartNs !== null;
      if (isTried && nowNs - this.#daemonStartNs! < DAEMON_PAUSE_NS) return false;
      this.#daemonStartNs = nowNs;
      const mode = this.#judge.restartMode(this.#state, host);
      await this.#log({ kind: 'fm-restart-intent', mode });
      const resumes = mode === 'resume' ? daemon.resumes + 1 : 0;
      await this.#save({ ...this.#state, daemon: { ...daemon, starting: mode, resumes } });
      await control.startDaemon(mode);
      return false;
    }
    this.#daemonStartNs = null;
    if (host.daemon.instance === daemon.instance) return true;

    const before = RULES.activeOf(this.#state);
    const mode = daemon.starting;
    if (mode === 'resume') await unlessRefused(fm.setActivated(before));
    const version = await answered(fm.version());
    const partitions = await answered(fm.partitions());
    if (version === null || partitions === null) return false;
    const after = activeAmong(partitions).map(({ id }) => id);
    const digest = tableDigest(partitions);
    if (daemon.instance !== null || mode !== null) {
      await this.#log({ kind: 'fm-restarted', mode, tableDigest: digest, before, after });
    }
    const isKept = mode === 'resume' && after.join() === before.join();
    // It was restarted for another table and does not have it: that is over.
    const isMissed = mode === 'plain' && tenancies.length === 0 && digest !== daemon.maintenance;
    await this.#save({
      ...this.#state,
      daemon: {
        ...daemon,
        instance: host.daemon.instance,
        version,
        starting: null,
        resumes: 0,
        maintenance: isMissed ? null : daemon.maintenance,
      },
      tenancies: tenancies.map((tenancy) =>
        isKept && before.includes(tenancy.partition)
          ? { ...tenancy, sanitizedUnder: host.daemon.instance }
          : tenancy,
      ),
    });
    return true;
  }

  /** Compares Fabric Manager's table with the known one. False: the host is frozen. */
  async #tendTable(): Promise<boolean> {
    const { control } = this.#options.hands;
    const sight = await this.#look();
    const { partitions } = sight;
    if (partitions === null) return false;
    const { daemon, tenancies } = this.#state;
    const { maintenance, table } = daemon;
    const digest = tableDigest(partitions);
    if (maintenance !== null && digest !== maintenance && tenancies.length === 0) {
      await this.#log({ kind: 'fm-restart-intent', mode: 'plain' });
      await this.#save({ ...this.#state, daemon: { ...daemon, starting: 'plain' } });
      await control.stopDaemon();
      await control.startDaemon('plain');
      return false;
    }
    if (digest !== table?.digest || digest === maintenance) {
      const definitions = definitionsOf(partitions);
      await this.#log({ kind: 'table', digest, partitions: definitions });
      const isMeant = table === null || digest === maintenance;
      if (!isMeant) await this.#quarantine(RULES.boardOf(this.#state), 'table-changed');
      const known = { digest, partitions: definitions };
      await this.#save({
        ...this.#state,
        daemon: { ...daemon, table: known, maintenance: isMeant ? null : maintenance },
      });
    }
    const foreign = this.#judge.foreignModules(this.#state, sight);
    const isSo = foreign.some((module) => this.#state.quarantine[module] === undefined);
    if (this.#isStill('foreign', isSo, sight)) {
      await this.#quarantine(foreign, 'foreign-partition');
    }
    return true;
  }

  /** Takes one tenancy as far as it goes now. */
  async #tend(id: string): Promise<void> {
    for (;;) {
      const tenancy = this.#state.tenancies.find((each) => each.id === id);
      if (tenancy === undefined) return;
      const { gateway } = this.#options.hands;
      // No hand is laid on what is in quarantine; but it serves nobody.
      if (isQuarantined(this.#state, tenancy.modules)) {
        return unlessFailed(gateway.withdraw(vmOf(tenancy)));
      }
      const sight = await this.#look();
      const standing =
        tenancy.leaving === null ? this.#judge.standing(tenancy, this.#state, sight) : WELL;
      const isHeld = tenancy.leaving === null && this.#judge.isHeld(tenancy, this.#state, sight);
      const isLost = standing.is === 'lost' && standing.isDoubtful;
      const isStillLost = this.#isStill(vmOf(tenancy), isLost, sight);
      if (standing.is === 'back') {
        await this.#put({ ...tenancy, phase: standing.to, isIntended: false });
      } else if (standing.is === 'lost' && (!standing.isDoubtful || isStillLost)) {
        await this.#fail(tenancy, standing.why, sight);
      } else if (isHeld || isLost || !(await this.#step(tenancy, sight))) {
        return;
      }
    }
  }

  /** Takes the next step if it can be taken now, and says whether anything changed. */
  async #step(before: Tenancy, sight: Sight): Promise<boolean> {
    const phase = nextPhase(before);
    if (phase === null) return false;
    const step = this.#judge.steps[phase];
    const isRepeated = before.isIntended;
    let tenancy = before;

    if (!isRepeated) {
      const begun = step.begin === undefined ? this.#state : step.begin(this.#state, tenancy);
      if (begun === null) return false;
      await this.#log({ kind: 'intent', change: step.change, tenancy: loggedOf(tenancy) });
      tenancy = { ...tenancy, isIntended: true, begunNs: sight.nowNs };
      await this.#save(replaced(begun, tenancy));
    }

    let finding: Finding;
    try {
      const { hands } = this.#options;
      const scene = { state: this.#state, sight, hands, isRepeated };
      const acted = await step.act(tenancy, scene);
      if (acted !== null && acted !== tenancy) await this.#put(acted);
      const after = await this.#look();
      finding = step.look(acted ?? tenancy, this.#state, after);
      if (acted === null && finding.is === 'done') finding = notYet('it could not begin');
      tenancy = acted ?? tenancy;
    } catch (error) {
      finding = findingOf(error);
    }
    const tookNs = this.#options.clock.nowNs() - tenancy.begunNs;
    const isLate = tookNs > step.limitSeconds(tenancy) * 1e9;
    if (finding.is === 'not-yet' && isLate) finding = lateOf(finding, tenancy);

    switch (finding.is) {
      case 'not-yet':
        return false;
      case 'failed':
        await this.#fail(tenancy, finding.why, sight);
        return true;
      case 'wrong': {
        const isWide = finding.reason === 'fabric-fault';
        await this.#quarantine(
          isWide ? RULES.boardOf(this.#state) : tenancy.modules,
          finding.reason,
        );
        return true;
      }
      case 'done': {
        await this.#log({ kind: 'fact', change: step.change, tenancy: loggedOf(tenancy) });
        const arrived = { ...tenancy, phase, isIntended: false };
        const moved = replaced(this.#state, arrived);
        const ended = step.end === undefined ? moved : step.end(moved, tenancy);
        const isUp = nextPhase(arrived) === null && arrived.leaving === null;
        await this.#save(isUp ? withFailures(ended, tenancy.id, NO_FAILURES) : ended);
        return true;
      }
    }
  }

  async #fail(tenancy: Tenancy, why: string, { nowNs }: Sight): Promise<void> {
    if (tenancy.leaving !== null) return this.#quarantine(tenancy.modules, 'not-undone');
    const { count } = this.#state.failures[tenancy.id] ?? NO_FAILURES;
    const waitNs = Math.min(BACKOFF_SECONDS_MAX, 2 ** count) * 1e9;
    const failures = { count: count + 1, notBeforeNs: nowNs + waitNs };
    const leaving = replaced(this.#state, RULES.leave(tenancy, why));
    await this.#save(withFailures(leaving, tenancy.id, failures));
  }

  async #quarantine(modules: readonly number[], reason: QuarantineReason): Promise<void> {
    const { quarantine } = this.#state;
    // A fault of the fabric is not over when a person has looked, whatever else there was.
    const fresh = modules.filter(
      (module) =>
        quarantine[module] === undefined ||
        (reason === 'fabric-fault' && quarantine[module] !== reason),
    );
    if (fresh.length === 0) return;
    await this.#log({ kind: 'alarm', reason, modules: fresh });
    const marks = Object.fromEntries(fresh.map((module) => [module, reason]));
    const marked = { ...this.#state, quarantine: { ...quarantine, ...marks } };
    await this.#save({
      ...marked,
      tenancies: marked.tenancies.map((tenancy) =>
        isQuarantined(marked, tenancy.modules)
          ? RULES.leave(tenancy, `quarantine: ${reason}`)
          : tenancy,
      ),
    });
  }

  /** Begins lives for what is desired and not there. */
  async #request({ nowNs }: Sight): Promise<void> {
    const { desired, daemon, tenancies } = this.#state;
    if (desired === null || daemon.maintenance !== null) return;
    const fresh: Tenancy[] = [];
    let { epoch } = this.#state;
    for (const wanted of desired.tenancies) {
      const { notBeforeNs } = this.#state.failures[wanted.id] ?? NO_FAILURES;
      const partition = this.#judge.partitionOf(daemon.table!.partitions, wanted.modules);
      if (tenancies.some(({ id }) => id === wanted.id) || partition === undefined) continue;
      if (nowNs < notBeforeNs || isQuarantined(this.#state, wanted.modules)) continue;
      epoch += 1;
      fresh.push({
        ...wanted,
        epoch,
        salt: this.#options.salt(),
        partition: partition.id,
        phase: 'requested',
        isIntended: false,
        begunNs: 0,
        leaving: null,
        sanitizedUnder: null,
        evidence: null,
      });
    }
    if (fresh.length > 0) {
      await this.#save({ ...this.#state, epoch, tenancies: [...tenancies, ...fresh] });
    }
  }

  /** Whether something is so, and has been in every look for a while. */
  #isStill(what: string, isSo: boolean, { nowNs }: Sight): boolean {
    if (!isSo) this.#doubts.delete(what);
    else if (!this.#doubts.has(what)) this.#doubts.set(what, nowNs);
    return isSo && nowNs - this.#doubts.get(what)! >= DOUBT_NS;
  }

  async #put(tenancy: Tenancy): Promise<void> {
    await this.#save(replaced(this.#state, tenancy));
  }

  async #save(state: AgentState): Promise<void> {
    await this.#options.store.replace(state);
    this.#state = state;
  }

  async #log(entry: Said, bootId = this.#state.bootId): Promise<void> {
    const { host, grade, nowMs, log } = this.#options;
    const head: EntryHead = { host, bootId, grade, atMs: nowMs() };
    await log.append({ ...head, ...entry });
  }
}

type Said = LogEntry extends infer E
  ? E extends LogEntry
    ? Omit<E, keyof EntryHead>
    : never
  : never;

const NO_FAILURES = { count: 0, notBeforeNs: 0 };

const WELL = { is: 'well' } as const;

function replaced(state: AgentState, tenancy: Tenancy): AgentState {
  const tenancies = state.tenancies.map((each) => (each.id === tenancy.id ? tenancy : each));
  return { ...state, tenancies };
}

function withFailures(
  state: AgentState,
  id: string,
  failures: AgentState['failures'][string],
): AgentState {
  return { ...state, failures: { ...state.failures, [id]: failures } };
}

/** Told twice, or started otherwise than to resume, Fabric Manager refuses; the list will tell. */
function unlessRefused(act: Promise<void>): Promise<void> {
  return ignoring(act, 'fm-refused');
}

/** For what is tried again in the next round, and must keep nothing else waiting. */
function unlessFailed(act: Promise<void>): Promise<void> {
  return ignoring(act, 'vm-failed');
}

async function ignoring(act: Promise<void>, code: FabricErrorCode): Promise<void> {
  try {
    await act;
  } catch (error) {
    if (!(error instanceof FabricError && error.code === code)) throw error;
  }
}

function loggedOf({ tenant, id, epoch, salt, modules, partition }: Tenancy): LoggedTenancy {
  return { commitment: commitmentOf({ tenant, tenancy: id, salt }), epoch, modules, partition };
}

/** What a failed act says of its step. Log and disk are no step's affair. */
function findingOf(error: unknown): Finding {
  if (!(error instanceof FabricError)) throw error;
  const { code, message, status } = error;
  if (code === 'fm-refused') {
    const { name, consequence, advice } = FM_STATUS[status ?? 0] ?? FM_STATUS[-2]!;
    const why = `Fabric Manager: ${name}: ${advice}`;
    if (consequence === 'quarantine') return wrong('fabric-fault', why);
    return consequence === 'again' ? notYet(why) : failed(why);
  }
  if (code === 'fm-version' || code === 'vm-lost') return failed(message);
  if (code.startsWith('fm-') || code === 'host-refused' || code === 'vm-failed') {
    return notYet(message);
  }
  throw error;
}

/** What is not done in time failed, or is nobody's to touch. Going down, there is no failing. */
function lateOf({ why, late }: Finding & { is: 'not-yet' }, { leaving }: Tenancy): Finding {
  if (late === 'go-on') return { is: 'done' };
  if (late !== 'fail') return wrong(late, why);
  return leaving === null ? failed(`${why}, and it is late`) : wrong('not-undone', why);
}
