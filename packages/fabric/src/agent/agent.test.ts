import { describe, expect, it } from 'vitest';
import { World } from '../simulate/world.ts';
import type { Desired } from '../tenancy/state.ts';
import { Agent } from './agent.ts';

const GUEST = { image: 'image', memoryBytes: 2 ** 30 };

function desired(modules: readonly (readonly number[])[], changes: Partial<Desired> = {}): Desired {
  return {
    host: 'host-1',
    epoch: 1,
    sequence: 1,
    tenancies: modules.map((each) => ({
      id: `on-${each.join('-')}`,
      tenant: 'aurora-bank',
      modules: each,
      order: 'stop-first',
      guest: GUEST,
    })),
    ...changes,
  };
}

async function started() {
  const world = new World({ seed: 1, faultProbability: 0, crashProbability: 0 });
  const agent = await Agent.open(world.ports());
  await agent.round();
  return { world, agent };
}

async function rounds(world: World, agent: Agent, count: number): Promise<void> {
  for (let round = 0; round < count; round += 1) {
    await agent.round();
    world.pass(world.nowNs + 2e9);
  }
}

describe('what an agent is told', () => {
  it.each([
    ['no list', { host: 'host-1', epoch: 1, sequence: 1 }, /tenancies: /],
    ['something else', 'nothing', /desired state/],
    ['another host', desired([[1, 2]], { host: 'host-2' }), /host-2/],
    ['a module twice', desired([[1, 2], [2]]), /in two tenancies/],
    ['two of one id', desired([[1], [1]]), /one id/],
    ['a module that cannot be', desired([[17]]), /modules/],
    ['more than is known', { ...desired([]), also: 1 }, /also/],
    ['a name that is a path', { ...desired([[1]]), host: '../host' }, /host/],
  ])('is refused with %s, and nothing changes', async (_what, document, message) => {
    const { agent } = await started();
    const before = agent.state;
    await expect(agent.apply(document)).rejects.toMatchObject({
      code: 'bad-desired',
      message: expect.stringMatching(message),
    });
    expect(agent.state).toBe(before);
  });

  it('is refused where the table has no such partition', async () => {
    const { agent } = await started();
    await expect(agent.apply(desired([[1, 3]]))).rejects.toMatchObject({ code: 'does-not-fit' });
  });

  it('is refused while no table is known', async () => {
    const world = new World({ seed: 1, faultProbability: 0, crashProbability: 0 });
    const agent = await Agent.open(world.ports());
    await expect(agent.apply(desired([[1]]))).rejects.toMatchObject({ code: 'fm-unanswered' });
  });

  it('counts once, and never after something newer', async () => {
    const { agent } = await started();
    const first = desired([[1, 2]]);
    await agent.apply(first);
    const { state } = agent;
    await agent.apply(first);
    expect(agent.state).toBe(state);
    await expect(agent.apply(desired([]))).rejects.toMatchObject({ code: 'bad-desired' });
    await agent.apply(desired([], { epoch: 2, sequence: 0 }));
    await expect(agent.apply(first)).rejects.toMatchObject({ code: 'stale-epoch' });
  });
});

describe('a life', () => {
  it('is logged with an intent before and a fact after every step, in its order', async () => {
    const { world, agent } = await started();
    const other = desired([[1, 2]]);
    const [tenancy] = other.tenancies;
    await agent.apply({ ...other, tenancies: [{ ...tenancy!, order: 'deactivate-first' }] });
    await rounds(world, agent, 60);
    await agent.apply(desired([], { sequence: 2 }));
    await rounds(world, agent, 30);
    const steps = world.log.flatMap((entry) =>
      entry.kind === 'intent' || entry.kind === 'fact' ? [`${entry.kind} ${entry.change}`] : [],
    );
    const order = [
      'claim',
      'fence',
      'sanitize',
      'activate',
      'bind',
      'boot',
      'attest',
      'admit',
      'drain',
      'deactivate',
      'stop',
      'unbind',
      'release',
    ];
    expect(steps).toEqual(order.flatMap((each) => [`intent ${each}`, `fact ${each}`]));
    expect(agent.state).toMatchObject({ tenancies: [], claims: {}, quarantine: {} });
  });

  it('of a partition alone touches no VM', async () => {
    const { world, agent } = await started();
    const [tenancy] = desired([[3, 4]]).tenancies;
    await agent.apply({ ...desired([]), tenancies: [{ ...tenancy!, guest: null }] });
    await rounds(world, agent, 10);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'activated', partition: 5 }]);
    expect(world.history.filter((line) => / (vm|attest|admit) /.test(line))).toEqual([]);
  });

  it('of a partition alone resets no GPU that somebody else’s guest still has', async () => {
    const { world, agent } = await started();
    const [tenancy] = desired([[3, 4]]).tenancies;
    await agent.apply({ ...desired([]), tenancies: [{ ...tenancy!, guest: null }] });
    await rounds(world, agent, 10);
    const gpus = world.gpus.filter(({ module }) => module === 3 || module === 4);
    for (const gpu of gpus) gpu.holders = [1234];
    await agent.apply(desired([], { sequence: 2 }));
    const before = world.history.length;
    await rounds(world, agent, 10);
    const resets = () => world.history.slice(before).filter((line) => / reset /.test(line));
    expect(resets()).toEqual([]);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'deactivated' }]);
    for (const gpu of gpus) gpu.holders = [];
    await rounds(world, agent, 3);
    expect(resets()).toHaveLength(2);
    expect(agent.state).toMatchObject({ tenancies: [], claims: {}, quarantine: {} });
    expect(world.watcher.violations).toEqual([]);
  });
});

describe('evidence', () => {
  async function admitted() {
    const { world, agent } = await started();
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 60);
    const [tenancy] = agent.state.tenancies;
    expect(tenancy?.phase).toBe('admitted');
    return { world, agent, first: tenancy!.evidence!.digest };
  }

  it('is renewed at half of its age, while its tenancy serves', async () => {
    const { world, agent, first } = await admitted();
    world.pass(world.nowNs + 1700e9);
    await rounds(world, agent, 1);
    expect(agent.state.tenancies[0]?.evidence?.digest).toBe(first);
    world.pass(world.nowNs + 200e9);
    await rounds(world, agent, 1);
    const [tenancy] = agent.state.tenancies;
    expect(tenancy).toMatchObject({ phase: 'admitted', leaving: null });
    expect(tenancy?.evidence?.digest).not.toBe(first);
    expect(world.history.filter((line) => / (withdraw|vm stop) /.test(line))).toEqual([]);
  });

  it('that is refused at its renewal ends the life', async () => {
    const { world, agent } = await admitted();
    world.plannedEvidence.push('refused');
    world.pass(world.nowNs + 1900e9);
    await rounds(world, agent, 20);
    expect(world.gateway.size).toBe(0);
    await rounds(world, agent, 80);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted', epoch: 2 }]);
  });

  it('that answers another nonce is not taken', async () => {
    const { world, agent } = await started();
    world.plannedEvidence.push('old-nonce', 'another-device');
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 300);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted', epoch: 3 }]);
    expect(world.watcher.violations).toEqual([]);
  });

  it('is shown to a gateway that has forgotten the guest', async () => {
    const { world, agent, first } = await admitted();
    world.gateway.clear();
    await rounds(world, agent, 1);
    expect([...world.gateway.keys()]).toEqual(['on-1-2/1']);
    expect(agent.state.tenancies[0]?.evidence?.digest).toBe(first);
  });
});

describe('a guest that ends', () => {
  it('takes its life along, and another one begins', async () => {
    const { world, agent } = await started();
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 60);
    world.stopVm('on-1-2/1');
    await rounds(world, agent, 80);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted', epoch: 2 }]);
    expect(world.watcher.violations).toEqual([]);
  });
});

describe('Fabric Manager', () => {
  it('that ended is started with what was active, and its tenants stay', async () => {
    const { world, agent } = await started();
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 60);
    world.fm.stop();
    await rounds(world, agent, 5);
    expect(world.history.some((line) => line.endsWith('fm start resume'))).toBe(true);
    expect(world.log.at(-1)).toMatchObject({
      kind: 'fm-restarted',
      mode: 'resume',
      before: [4],
      after: [4],
    });
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted', leaving: null, epoch: 1 }]);
  });

  it('that others started plainly costs tenants their place, and they come back', async () => {
    const { world, agent } = await started();
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 60);
    world.fm.stop();
    world.startDaemon('plain');
    await rounds(world, agent, 120);
    expect(world.log).toContainEqual(
      expect.objectContaining({ kind: 'fm-restarted', mode: null, before: [4], after: [] }),
    );
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted', leaving: null, epoch: 2 }]);
    expect(world.watcher.violations).toEqual([]);
  });

  it('that ends whenever it is started is started every half minute', async () => {
    const { world, agent } = await started();
    const start = world.fm.start.bind(world.fm);
    world.fm.start = (mode) => {
      start(mode);
      world.fm.stop();
    };
    world.fm.stop();
    await rounds(world, agent, 60);
    const starts = world.history.filter((line) => line.includes(' fm start ')).length;
    expect(starts).toBeGreaterThan(2);
    expect(starts).toBeLessThan(6);
  });

  it('of another version than the driver gets no tenants', async () => {
    const world = new World({ seed: 1, faultProbability: 0, crashProbability: 0 });
    world.fmVersion = '580.95.05';
    const agent = await Agent.open(world.ports());
    await agent.round();
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 60);
    expect(agent.state.failures['on-1-2']?.count).toBeGreaterThan(0);
    expect(world.history.filter((line) => / (fm activate|reset) /.test(line))).toEqual([]);

    world.fmVersion = '590.48.01';
    world.fm.stop();
    await rounds(world, agent, 120);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted' }]);
  });

  it('with another table than before, and no plan, takes the board out of service', async () => {
    const { world, agent } = await started();
    world.fm.table = [{ id: 1, modules: [1, 3] }];
    await rounds(world, agent, 2);
    expect(Object.values(agent.state.quarantine)).toEqual(Array(8).fill('table-changed'));
  });

  it('gets another table once the host is empty, and what still fits comes back', async () => {
    const { world, agent } = await started();
    await agent.apply(
      desired([
        [1, 2],
        [3, 4],
      ]),
    );
    await rounds(world, agent, 60);
    const table = [{ id: 1, modules: [1, 2] }];
    const { tableDigest } = await import('../fm/table.ts');
    await agent.maintain(tableDigest(table));
    const start = world.fm.start.bind(world.fm);
    world.fm.start = (mode) => {
      expect(world.vms.size).toBe(0);
      world.fm.table = table;
      start(mode);
    };
    await rounds(world, agent, 150);
    expect(agent.state.daemon).toMatchObject({ maintenance: null, table: { partitions: table } });
    expect(agent.state.tenancies).toMatchObject([
      { id: 'on-1-2', phase: 'admitted', partition: 1 },
    ]);
    expect(agent.state.quarantine).toEqual({});
  });

  it('that does not have the table that was meant goes on with the one it has', async () => {
    const { world, agent } = await started();
    await agent.apply(desired([[1, 2]]));
    await rounds(world, agent, 60);
    await agent.maintain('0'.repeat(64));
    await rounds(world, agent, 150);
    expect(world.history.filter((line) => line.endsWith('fm start plain'))).toHaveLength(1);
    expect(agent.state.daemon.maintenance).toBeNull();
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted' }]);
  });
});

describe('a quarantine', () => {
  it('of the fabric ends with the host’s boot, and others when a person says so', async () => {
    const { world, agent } = await started();
    world.xid(145, 3);
    await rounds(world, agent, 1);
    expect(Object.keys(agent.state.quarantine)).toHaveLength(8);
    await expect(agent.clear([1])).rejects.toMatchObject({ code: 'needs-restart' });
    world.restartHost();
    await rounds(world, agent, 2);
    expect(agent.state.quarantine).toEqual({});

    world.gpus[0]!.isSilent = true;
    await agent.apply(desired([[5, 6]]));
    await rounds(world, agent, 2);
    expect(agent.state.quarantine).toEqual({ 5: 'device-silent', 6: 'device-silent' });
    world.gpus[0]!.isSilent = false;
    await agent.clear([5, 6]);
    await rounds(world, agent, 80);
    expect(agent.state.tenancies).toMatchObject([{ phase: 'admitted' }]);
  });
});
