import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type AgentOptions, JUDGEMENT, type Judgement } from '../agent/agent.ts';
import type { LogEntry } from '../log/entries.ts';
import { DONE, notYet } from '../tenancy/sight.ts';
import { STEPS, type Step, type Steps } from '../tenancy/steps.ts';
import { SCENARIO_ROUNDS, SCENARIOS, type Scenario } from './scenarios.ts';
import { type SimulationOptions, type SimulationResult, simulate } from './simulate.ts';
import { INVARIANTS, type InvariantNumber } from './watcher.ts';
import type { World } from './world.ts';

// Each mutant is the product with one judgement, or one port, that is wrong as somebody's was or
// could be. A simulation that does not notice one of them proves nothing.

type Mutant = Pick<SimulationOptions, 'judgement' | 'between'>;

function judging(changes: Partial<Judgement>): Mutant {
  return { judgement: { ...JUDGEMENT, ...changes } };
}

function stepping(phase: keyof Steps, changes: Partial<Step>): Mutant {
  return judging({ steps: { ...STEPS, [phase]: { ...STEPS[phase], ...changes } } });
}

function between(change: (ports: AgentOptions) => AgentOptions): Mutant {
  return { between: change };
}

function logging(change: (entry: LogEntry, ports: AgentOptions) => Promise<number>): Mutant {
  return between((ports) => ({
    ...ports,
    log: { ...ports.log, append: (entry) => change(entry, ports) },
  }));
}

const STORM = { stormSeconds: 600, faultProbability: 0.03, crashProbability: 0.003 };
const CALM = { seed: 1, stormSeconds: 0, faultProbability: 0, crashProbability: 0 };
const SEEDS_MAX = 25;

/** The first of some seeds on which a mutant is noticed. */
async function noticed(
  mutant: Mutant,
  shows: (result: SimulationResult) => boolean,
): Promise<number | null> {
  for (let seed = 1; seed <= SEEDS_MAX; seed += 1) {
    if (shows(await simulate({ seed, ...STORM, ...mutant }))) return seed;
  }
  return null;
}

describe('a mutant of each invariant', () => {
  const mutants: readonly (readonly [InvariantNumber, string, Mutant])[] = [
    [
      1,
      'a claim that takes what another tenancy has',
      stepping('claimed', {
        begin: (state, { id, modules }) => ({
          ...state,
          claims: { ...state.claims, ...Object.fromEntries(modules.map((each) => [each, id])) },
        }),
      }),
    ],
    [
      2,
      'a guest that starts without a look at its partition',
      stepping('activated', { look: () => DONE }),
    ],
    [3, 'evidence that is not looked at', admittingAnything()],
    [
      4,
      'changes without an intent',
      logging(async (entry, { log }) => (entry.kind === 'intent' ? 0 : log.append(entry))),
    ],
    [
      5,
      'entries that name the tenant',
      logging((entry, { log }) => log.append({ ...entry, host: 'host of aurora-bank' })),
    ],
    [6, 'a release without a reset', stepping('released', { act: async (tenancy) => tenancy })],
    [
      7,
      'an agent on the host that signs for a service VM',
      between((ports) => ({ ...ports, grade: 'service-vm' })),
    ],
    [8, 'a log that acknowledges what is not written yet', late()],
    [9, 'commands of an old epoch that are followed', judging({ isNewer: () => true })],
  ];

  it.each(mutants)('%i: notices %s', { timeout: 60_000 }, async (invariant, _what, mutant) => {
    const seed = await noticed(mutant, ({ violations }) =>
      violations.some((violation) => violation.invariant === invariant),
    );
    expect(seed, INVARIANTS[invariant]).not.toBeNull();
  });

  // Some are noticed only if something happens just when the agent has ended.
  const unlucky: readonly (readonly [
    InvariantNumber,
    string,
    Mutant,
    string,
    (world: World) => void,
  ])[] = [
    [
      2,
      'a guest of a life that had one before',
      stepping('booting', {
        act: (tenancy, scene) => STEPS.booting.act(tenancy, { ...scene, isRepeated: false }),
      }),
      'vm start',
      (world) => {
        for (const id of world.vms.keys()) world.stopVm(id);
        world.pass(world.nowNs + 10e9);
      },
    ],
    [
      2,
      'a tenancy that goes up while nothing is known of a restart',
      judging({ isHeld: () => false }),
      'log fact bind',
      (world) => {
        world.fm.stop();
        world.startDaemon('plain');
        world.planned.set(
          'list',
          Array.from({ length: 40 }, () => 'not-ready'),
        );
      },
    ],
  ];

  it.each(unlucky)(
    '%i: notices %s',
    { timeout: 60_000 },
    async (invariant, _what, mutant, when, then) => {
      const [{ wanted }] = SCENARIOS as readonly [Scenario];
      const run = (crashAt: number, changes: Mutant) =>
        simulate({
          ...CALM,
          wanted,
          crashAt,
          happen(world) {
            if (world.history.at(-1)?.endsWith(' crash')) then(world);
            return undefined;
          },
          ...changes,
        });
      const { history } = await simulate({ ...CALM, wanted });
      const around = 2 * history.findIndex((line) => line.includes(when));
      let isNoticed = false;
      for (let crashAt = around; crashAt < around + 20 && !isNoticed; crashAt += 1) {
        expect((await run(crashAt, {})).violations).toEqual([]);
        const { violations } = await run(crashAt, mutant);
        isNoticed = violations.some((violation) => violation.invariant === invariant);
      }
      expect(isNoticed, INVARIANTS[invariant]).toBe(true);
    },
  );

  it('4: notices a stranger’s partition that raises no alarm', async () => {
    const [{ wanted }] = SCENARIOS as readonly [Scenario];
    const run = (mutant: Mutant) =>
      simulate({
        ...CALM,
        wanted,
        roundsMin: SCENARIO_ROUNDS,
        happen(world, round) {
          if (round === 60) world.strangerActivates(6);
          return undefined;
        },
        ...mutant,
      });
    expect((await run({})).violations).toEqual([]);
    const { violations } = await run(judging({ foreignModules: () => [] }));
    expect(violations).toContainEqual({
      invariant: 4,
      what: 'module 5 is in an active partition, and no alarm says so',
    });
  });

  it('10: notices chance that does not come from the seed', async () => {
    const chance = between((ports) => ({
      ...ports,
      salt: () => randomBytes(32).toString('hex'),
    }));
    const one = await simulate({ seed: 1, ...STORM, ...chance });
    const other = await simulate({ seed: 1, ...STORM, ...chance });
    expect(one.digest).not.toBe(other.digest);
  });
});

function admittingAnything(): Mutant {
  return judging({
    steps: {
      ...STEPS,
      attesting: { ...STEPS.attesting, look: () => DONE },
      admitted: {
        ...STEPS.admitted,
        look: () => DONE,
        async act(tenancy, { hands }) {
          const vm = `${tenancy.id}/${tenancy.epoch}`;
          await hands.gateway.admit(vm, tenancy.evidence?.digest ?? '');
          return tenancy;
        },
      },
    },
  });
}

/** Keeps the last entry in memory until the next one comes, and loses it when the agent ends. */
function late(): Mutant {
  return between((ports) => {
    let waiting: LogEntry | null = null;
    let index: number | null = null;
    return {
      ...ports,
      log: {
        ...ports.log,
        async append(entry) {
          index ??= await ports.log.size();
          if (waiting !== null) await ports.log.append(waiting);
          waiting = entry;
          index += 1;
          return index - 1;
        },
      },
    };
  });
}

describe('what happened to operators', () => {
  const mutants: Readonly<Record<string, Mutant>> = {
    'modules are not in PCI order': judging({
      learn(known, host) {
        const devices = { ...known };
        for (const [index, { bdf, identity }] of host.gpus.entries()) {
          if (identity !== null) devices[index + 1] = { bdf, identity };
        }
        return { devices, changed: null };
      },
    }),
    'a partition is found by its modules': judging({
      partitionOf: (partitions, { length }) =>
        partitions.find(({ modules }) => modules.length === length),
    }),
    'the agent restarts while a guest has the GPUs': judging({
      learn: (_known, host) => JUDGEMENT.learn({}, host),
    }),
    'nothing is desired any more': judging({
      unwanted: (state, desired) =>
        desired.tenancies.length === 0 ? [] : JUDGEMENT.unwanted(state, desired),
    }),
    'Fabric Manager runs and reaches no GPU': judging({
      steps: {
        ...STEPS,
        fenced: { ...STEPS.fenced, look: () => DONE },
        activated: {
          ...STEPS.activated,
          look: (_tenancy, _state, { host }) =>
            host.daemon.isRunning ? DONE : notYet('it is not up'),
        },
      },
    }),
    'GPUs that are in no partition stay in progress': stepping('fenced', {
      look: (tenancy, state, sight) =>
        sight.host.gpus.every(({ fabric }) => fabric?.state === 'completed')
          ? STEPS.fenced.look(tenancy, state, sight)
          : notYet('not all GPUs are completed'),
    }),
    'Fabric Manager was stopped and started': judging({
      standing: (tenancy, state, sight) => {
        const host = {
          ...sight.host,
          daemon: { ...sight.host.daemon, instance: tenancy.sanitizedUnder },
        };
        return JUDGEMENT.standing(tenancy, state, { ...sight, host, partitions: null });
      },
      steps: {
        ...STEPS,
        // It was reset when it was released.
        sanitized: {
          ...STEPS.sanitized,
          act: async (tenancy, { sight }) => ({
            ...tenancy,
            sanitizedUnder: sight.host.daemon.instance,
          }),
        },
      },
    }),
    'an Xid 145 on one pair': judging({
      blastRadius: ({ bdf }, { devices, tenancies }) =>
        tenancies.find(({ modules }) => modules.some((each) => devices[each]!.bdf === bdf))
          ?.modules ?? [],
    }),
    'the switch manager is behind Fabric Manager': stepping('activated', {
      look: (tenancy, _state, { partitions }) =>
        partitions?.some(({ id, isActive }) => id === tenancy.partition && isActive) === true
          ? DONE
          : notYet('it is not active'),
    }),
    'a device is reported twice, or does not come up': judging({
      steps: {
        ...STEPS,
        attesting: {
          ...STEPS.attesting,
          look: ({ evidence, modules }, { devices }) => {
            const own = new Set(modules.map((module) => devices[module]!.identity));
            return evidence?.identities.every((each) => own.has(each)) ? DONE : notYet('not yet');
          },
        },
        admitted: admittingAnything().judgement!.steps.admitted,
      },
    }),
  };

  describe.each(SCENARIOS)('$name ($source)', ({ name, wanted, happen }) => {
    const run = (mutant: Mutant) =>
      simulate({
        ...CALM,
        roundsMin: SCENARIO_ROUNDS,
        wanted,
        ...(happen === undefined ? {} : { happen }),
        ...mutant,
      });

    it('does not happen here', async () => {
      const { violations, unfinished } = await run({});
      expect({ violations, unfinished }).toEqual({ violations: [], unfinished: [] });
    });

    it('happens to a build that has the bug', async () => {
      const { violations, unfinished } = await run(mutants[name]!);
      expect(violations.length + unfinished.length).toBeGreaterThan(0);
    });
  });
});
