import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HostObservation, ObservedGpu } from '../host/host.ts';
import {
  activeOf,
  blastRadius,
  claim,
  evidenceFault,
  foreignModules,
  isHeld,
  isNewer,
  learn,
  release,
  restartMode,
  standing,
  unwanted,
} from './rules.ts';
import type { Sight } from './sight.ts';
import { type AgentState, emptyState, type Phase, type Tenancy } from './state.ts';

const HOUR_NS = 3600e9;
const BDFS: Readonly<Record<number, string>> = { 1: '0000:5b:00.0', 2: '0000:7b:00.0' };
const IDENTITIES = ['00000000000000a1', '00000000000000a2'];

const TENANCY: Tenancy = {
  id: 'a',
  tenant: 'aurora-bank',
  modules: [1, 2],
  order: 'stop-first',
  guest: { image: 'image', memoryBytes: 1 },
  epoch: 3,
  salt: '0'.repeat(64),
  partition: 4,
  phase: 'admitted',
  isIntended: false,
  begunNs: 0,
  leaving: null,
  sanitizedUnder: 'daemon-1',
  evidence: { digest: 'd', identities: IDENTITIES, refusals: [], atNs: 0 },
};

const STATE: AgentState = {
  ...emptyState('host-1'),
  bootId: 'boot-1',
  tenancies: [TENANCY],
  claims: { 1: 'a', 2: 'a' },
  devices: {
    1: { bdf: BDFS[1]!, identity: IDENTITIES[0]! },
    2: { bdf: BDFS[2]!, identity: IDENTITIES[1]! },
  },
  daemon: {
    instance: 'daemon-1',
    version: '590.48.01',
    table: {
      digest: 'digest',
      partitions: [
        { id: 4, modules: [1, 2] },
        { id: 5, modules: [3, 4] },
      ],
    },
    starting: null,
    resumes: 0,
    maintenance: null,
  },
};

const GPU: ObservedGpu = {
  bdf: BDFS[1]!,
  driver: 'nvidia',
  configWord: 0x2901_10de,
  moduleId: 1,
  identity: IDENTITIES[0]!,
  fabric: null,
  encryption: null,
  holders: [],
  resetReaches: [],
};

const HOST: HostObservation = {
  bootId: 'boot-1',
  driverVersion: '590.48.01',
  daemon: { isRunning: true, instance: 'daemon-1', hasState: true },
  gpus: [],
  vms: [{ id: 'a/3', state: 'running', bdfs: Object.values(BDFS), pid: 1 }],
  faults: [],
};

const LINK = { available: 18, possible: 18 };

const SIGHT: Sight = {
  nowNs: 0,
  host: HOST,
  fmTrouble: null,
  partitions: [
    { id: 4, modules: [1, 2], isActive: true, links: [LINK, LINK] },
    { id: 5, modules: [3, 4], isActive: false, links: [LINK, LINK] },
  ],
  gateway: [{ vm: 'a/3', streams: 0 }],
};

function seeing(changes: Partial<Sight>, host: Partial<HostObservation> = {}): Sight {
  return { ...SIGHT, ...changes, host: { ...HOST, ...host } };
}

function inState(phase: Phase, changes: Partial<Tenancy> = {}): AgentState {
  return { ...STATE, tenancies: [{ ...TENANCY, phase, ...changes }] };
}

describe('claims', () => {
  const modules = fc.uniqueArray(fc.integer({ min: 1, max: 8 }), { minLength: 1 });
  const lives = fc.array(fc.tuple(modules, fc.boolean()), { maxLength: 20 });

  it('give no module to two, whatever is claimed and released in whatever order', () => {
    fc.assert(
      fc.property(lives, (list) => {
        let state = emptyState('host-1');
        const owned = new Map<number, string>();
        for (const [index, [wanted, isReleased]] of list.entries()) {
          const tenancy = { ...TENANCY, id: `t${index}`, modules: wanted };
          const next = claim(state, tenancy);
          expect(next === null).toBe(wanted.some((module) => owned.has(module)));
          if (next === null) continue;
          state = next;
          for (const module of wanted) owned.set(module, tenancy.id);
          if (isReleased) {
            state = release(state, tenancy);
            for (const module of wanted) owned.delete(module);
          }
          expect(state.claims).toEqual(Object.fromEntries(owned));
        }
      }),
    );
  });

  it('may be made twice by one tenancy', () => {
    expect(claim(STATE, TENANCY)?.claims).toEqual(STATE.claims);
  });

  it('end with their tenancy, and no other does', () => {
    const other = { ...TENANCY, id: 'b', modules: [3, 4] };
    const both = { ...STATE, tenancies: [TENANCY, other], claims: { ...STATE.claims, 3: 'b' } };
    expect(release(both, TENANCY)).toMatchObject({ tenancies: [other], claims: { 3: 'b' } });
  });
});

describe('evidence', () => {
  const of = (evidence: Partial<Tenancy['evidence'] & {}>, nowNs = 0) =>
    evidenceFault({ ...TENANCY, evidence: { ...TENANCY.evidence!, ...evidence } }, STATE, nowNs);

  it.each([
    ['as many as claimed, one twice', { identities: [IDENTITIES[0]!, IDENTITIES[0]!] }, /twice/],
    ['all that were claimed, one twice', { identities: [...IDENTITIES, IDENTITIES[0]!] }, /twice/],
    ['fewer', { identities: [IDENTITIES[1]!] }, /^1 devices are attested, 2 were claimed$/],
    ['more', { identities: [...IDENTITIES, 'f'.repeat(16)] }, /^3 devices/],
    ['another', { identities: [IDENTITIES[0]!, 'f'.repeat(16)] }, /module 2 is not attested/],
    ['refused ones', { refusals: ['too old a firmware'] }, /too old a firmware/],
  ])('of %s does not admit', (_what, changes, why) => {
    expect(of(changes)).toMatch(why);
  });

  it('admits in any order, for an hour', () => {
    expect(of({ identities: IDENTITIES.toReversed() })).toBeNull();
    expect(of({ atNs: 1e9 }, 1e9 + HOUR_NS)).toBeNull();
    expect(of({ atNs: 1e9 }, 1e9 + HOUR_NS + 1)).toMatch(/too old/);
  });

  it('must be there, and of devices that are known', () => {
    expect(evidenceFault({ ...TENANCY, evidence: null }, STATE, 0)).toMatch(/no evidence/);
    expect(evidenceFault(TENANCY, { ...STATE, devices: {} }, 0)).toMatch(/module 1/);
  });
});

describe('standing', () => {
  const of = (phase: Phase, sight: Sight) => standing({ ...TENANCY, phase }, STATE, sight);

  it('is well where all is as it was left', () => {
    for (const phase of ['requested', 'fenced', 'activated', 'attesting', 'admitted'] as const) {
      expect(of(phase, SIGHT)).toEqual({ is: 'well' });
    }
  });

  it('is lost at once when Fabric Manager restarted after the reset, and not before', () => {
    const state = { ...STATE, daemon: { ...STATE.daemon, instance: 'daemon-2' } };
    const sight = seeing({}, { daemon: { ...HOST.daemon, instance: 'daemon-2' } });
    const lost = { is: 'lost', isDoubtful: false };
    expect(standing({ ...TENANCY, phase: 'sanitized' }, state, sight)).toMatchObject(lost);
    expect(standing({ ...TENANCY, phase: 'fenced' }, state, sight)).toEqual({ is: 'well' });
    // Until the restart was dealt with, nothing is said.
    expect(of('sanitized', sight)).toEqual({ is: 'well' });
  });

  it('is in doubt while the list shows its partition as inactive', () => {
    const partitions = SIGHT.partitions!.map((each) => ({ ...each, isActive: each.id === 5 }));
    const doubt = { is: 'lost', isDoubtful: true };
    expect(of('activated', seeing({ partitions }))).toMatchObject(doubt);
    expect(of('sanitized', seeing({ partitions }))).toEqual({ is: 'well' });
    expect(of('activated', seeing({ partitions: null }))).toEqual({ is: 'well' });
    const daemon = { ...HOST.daemon, instance: 'daemon-2' };
    expect(of('activated', seeing({ partitions }, { daemon }))).toEqual({ is: 'well' });
  });

  it('is lost with its VM, from when it has one', () => {
    const [vm] = HOST.vms;
    for (const vms of [[], [{ ...vm!, state: 'stopped' as const }], [{ ...vm!, id: 'a/2' }]]) {
      expect(of('booting', seeing({}, { vms }))).toMatchObject({ is: 'lost', isDoubtful: false });
      expect(of('bound', seeing({}, { vms }))).toEqual({ is: 'well' });
    }
  });

  it('goes back for newer evidence at half an hour, and for a gateway that forgot it', () => {
    const back = { is: 'back', to: 'booting' };
    for (const phase of ['attesting', 'admitted'] as const) {
      expect(of(phase, seeing({ nowNs: HOUR_NS / 2 }))).toEqual({ is: 'well' });
      expect(of(phase, seeing({ nowNs: HOUR_NS / 2 + 1 }))).toEqual(back);
    }
    expect(of('booting', seeing({ nowNs: HOUR_NS }))).toEqual({ is: 'well' });
    expect(of('admitted', seeing({ gateway: [] }))).toEqual({ is: 'back', to: 'attesting' });
    expect(of('attesting', seeing({ gateway: [] }))).toEqual({ is: 'well' });
  });
});

describe('a host whose Fabric Manager does not serve', () => {
  const restarted = seeing({}, { daemon: { ...HOST.daemon, instance: 'daemon-2' } });

  it('holds what has no guest yet, and nothing else', () => {
    for (const sight of [seeing({ partitions: null }), restarted]) {
      expect(isHeld({ ...TENANCY, phase: 'bound' }, STATE, sight)).toBe(true);
      expect(isHeld({ ...TENANCY, phase: 'booting' }, STATE, sight)).toBe(false);
    }
    expect(isHeld({ ...TENANCY, phase: 'bound' }, STATE, SIGHT)).toBe(false);
  });
});

describe('what is learnt of devices', () => {
  const of = (gpu: Partial<ObservedGpu>) =>
    learn({ 1: STATE.devices[1]! }, { ...HOST, gpus: [{ ...GPU, ...gpu }] });

  it('is kept when it cannot be seen any more', () => {
    const known = { devices: { 1: STATE.devices[1]! }, changed: null };
    expect(of({ driver: 'vfio-pci', moduleId: null, identity: null })).toEqual(known);
    expect(learn({ 1: STATE.devices[1]! }, HOST)).toEqual(known);
  });

  it('is not taken from one that reads all ones', () => {
    const { devices } = of({ moduleId: 2, configWord: 0xffff_ffff });
    expect(devices).toEqual({ 1: STATE.devices[1]! });
  });

  it('grows, and follows addresses, but not devices that changed their place', () => {
    expect(of({ bdf: BDFS[2]!, moduleId: 2, identity: IDENTITIES[1]! }).devices).toEqual(
      STATE.devices,
    );
    expect(of({ bdf: 'moved' }).devices[1]).toEqual({ ...STATE.devices[1]!, bdf: 'moved' });
    expect(of({ identity: 'f'.repeat(16) })).toEqual({
      devices: { 1: STATE.devices[1]! },
      changed: 1,
    });
  });
});

describe('the radius of a fault', () => {
  const of = (kind: 'xid' | 'sxid' | 'off-the-bus', number: number, bdf = BDFS[1]!) =>
    blastRadius({ sequence: 1, kind, number, bdf }, STATE);
  const board = [1, 2, 3, 4];

  it('is the board for NVLink on Blackwell and for switches, also of GPUs never seen', () => {
    for (const number of [144, 145, 150]) expect(of('xid', number)).toEqual(board);
    expect(of('sxid', 11004, 'of a switch')).toEqual(board);
  });

  it('is the partition for NVLink on Hopper, and the GPU where it has none', () => {
    expect(of('xid', 74)).toEqual([1, 2]);
    expect(
      blastRadius(
        { sequence: 1, kind: 'xid', number: 74, bdf: BDFS[1]! },
        { ...STATE, tenancies: [] },
      ),
    ).toEqual([1]);
  });

  it('is the GPU that left the bus', () => {
    expect(of('off-the-bus', 79)).toEqual([1]);
    expect(of('xid', 79, BDFS[2])).toEqual([2]);
  });

  it('is nothing for faults of programs, and of devices that are not ours', () => {
    expect(of('xid', 31)).toEqual([]);
    expect(of('xid', 79, 'of another')).toEqual([]);
  });
});

describe('a start of Fabric Manager', () => {
  it('resumes only what this boot left', () => {
    expect(restartMode(STATE, HOST)).toBe('resume');
    const without = { ...HOST, daemon: { ...HOST.daemon, hasState: false } };
    expect(restartMode(STATE, without)).toBe('plain');
    expect(restartMode(STATE, { ...HOST, bootId: 'boot-2' })).toBe('plain');
    expect(restartMode({ ...STATE, tenancies: [] }, HOST)).toBe('plain');
    const unseen = { ...STATE, daemon: { ...STATE.daemon, instance: null } };
    expect(restartMode(unseen, HOST)).toBe('plain');
  });

  it('is tried twice to resume', () => {
    const after = (resumes: number) => ({ ...STATE, daemon: { ...STATE.daemon, resumes } });
    expect([0, 1, 2].map((resumes) => restartMode(after(resumes), HOST))).toEqual([
      'resume',
      'resume',
      'plain',
    ]);
  });
});

describe('partitions that may be active by our own doing', () => {
  it.each([
    ['fenced', {}, false, false],
    ['sanitized', {}, false, false],
    ['sanitized', { isIntended: true }, true, false],
    ['sanitized', { leaving: 'why' }, true, false],
    ['activated', {}, true, true],
    ['admitted', {}, true, true],
    ['unbound', {}, true, true],
    ['unbound', { order: 'deactivate-first' }, false, false],
    ['draining', { order: 'deactivate-first' }, true, true],
    ['stopping', { order: 'deactivate-first' }, false, false],
    ['deactivated', {}, false, false],
    ['deactivated', { order: 'deactivate-first' }, false, false],
  ] as const)('%s %j: explained %s, to be resumed %s', (phase, changes, explained, resumed) => {
    const state = inState(phase, changes);
    expect(foreignModules(state, SIGHT)).toEqual(explained ? [] : [1, 2]);
    expect(activeOf(state)).toEqual(resumed ? [4] : []);
  });

  it('are foreign with other modules, and unknown without a list', () => {
    expect(foreignModules(inState('admitted', { modules: [5, 6] }), SIGHT)).toEqual([1, 2]);
    expect(foreignModules({ ...STATE, tenancies: [] }, seeing({ partitions: null }))).toEqual([]);
  });
});

describe('commands', () => {
  const command = (epoch: number, sequence: number, host = 'host-1') => ({
    host,
    epoch,
    sequence,
    tenancies: [],
  });

  it('are ordered by epoch, then by sequence, and are the same once more', () => {
    const last = command(2, 5);
    expect(isNewer(command(2, 6), last)).toBe(true);
    expect(isNewer(command(3, 0), last)).toBe(true);
    expect(isNewer(command(2, 5), last)).toBe(false);
    for (const old of [command(2, 4), command(1, 9)]) {
      expect(() => isNewer(old, last)).toThrow(expect.objectContaining({ code: 'stale-epoch' }));
    }
    expect(() => isNewer(command(2, 5, 'host-2'), last)).toThrow(
      expect.objectContaining({ code: 'bad-desired' }),
    );
  });
});

describe('what is not wanted', () => {
  const wanted = {
    id: 'a',
    tenant: 'aurora-bank',
    modules: [1, 2],
    order: 'stop-first',
    guest: TENANCY.guest,
  } as const;
  const desired = (tenancies: (typeof wanted)[]) => ({
    host: 'host-1',
    epoch: 1,
    sequence: 1,
    tenancies,
  });

  it('is what is not listed, or listed as something else', () => {
    expect(unwanted(STATE, desired([wanted]))).toEqual([]);
    expect(unwanted(STATE, desired([]))).toEqual(['a']);
    const others = [
      { ...wanted, id: 'b' },
      { ...wanted, tenant: 'borealis' },
      { ...wanted, modules: [3, 4] },
      { ...wanted, order: 'deactivate-first' },
      { ...wanted, guest: null },
      { ...wanted, guest: { image: 'other', memoryBytes: 1 } },
      { ...wanted, guest: { image: 'image', memoryBytes: 2 } },
    ] as unknown as (typeof wanted)[];
    for (const other of others) expect(unwanted(STATE, desired([other]))).toEqual(['a']);
  });
});
