import { describe, expect, it } from 'vitest';
import { World } from '../simulate/world.ts';
import { Agent } from './agent.ts';
import { arrivalOf, runAgent, runUntil, withoutTenancy, withTenancy } from './run.ts';

const WANTED = {
  id: 'a',
  tenant: 'aurora-bank',
  modules: [1, 2],
  order: 'stop-first',
  guest: null,
} as const;

async function opened() {
  const world = new World({ seed: 1, faultProbability: 0, crashProbability: 0 });
  const ports = world.ports();
  return { world, clock: ports.clock, agent: await Agent.open(ports) };
}

describe('a partition by hand', () => {
  it('comes and goes', async () => {
    const { world, clock, agent } = await opened();
    await agent.round();
    await agent.apply(withTenancy(agent.state, WANTED));
    const arrival = await runUntil(agent, clock, 60, (state) => arrivalOf(state, 'a'));
    expect(arrival).toEqual({ isThere: true, why: 'activated' });
    expect([...world.fm.active.keys()]).toEqual([4]);

    await agent.apply(withoutTenancy(agent.state, 'a'));
    const isGone = (each: typeof agent.state) => (each.tenancies.length === 0 ? true : null);
    expect(await runUntil(agent, clock, 60, isGone)).toBe(true);
    expect([...world.fm.active.keys()]).toEqual([]);
  });

  it('that is not there cannot go', async () => {
    const { agent } = await opened();
    expect(() => withoutTenancy(agent.state, 'a')).toThrow(
      expect.objectContaining({ code: 'bad-desired' }),
    );
  });

  it('says why it does not come, and does not wait for ever', async () => {
    const { world, clock, agent } = await opened();
    await agent.round();
    world.gpus.find(({ module }) => module === 2)!.isSilent = true;
    await agent.apply(withTenancy(agent.state, WANTED));
    expect(await runUntil(agent, clock, 60, (state) => arrivalOf(state, 'a'))).toEqual({
      isThere: false,
      why: 'quarantine: device-silent',
    });
    expect(await runUntil(agent, clock, 60, () => null)).toBeNull();
  });
});

describe('an agent that runs', () => {
  it('follows what is desired, says what it refuses, and goes on', async () => {
    const { world, clock, agent } = await opened();
    const desired = { host: 'host-1', epoch: 1, sequence: 1, tenancies: [WANTED] };
    const texts = [
      null,
      'nonsense',
      JSON.stringify({ ...desired, host: 'host-2' }),
      JSON.stringify(desired),
    ];
    const troubles: string[] = [];
    let rounds = 0;
    await runAgent({
      agent,
      clock,
      desired: () => texts[Math.min(Math.floor(rounds / 2), texts.length - 1)]!,
      isStopping: () => {
        rounds += 1;
        return rounds > 30;
      },
      onTrouble: ({ code }) => troubles.push(code),
    });
    expect(new Set(troubles)).toEqual(new Set(['bad-desired']));
    expect([...world.fm.active.keys()]).toEqual([4]);
  });

  it('lives through a disk that is full', async () => {
    const { world, clock, agent } = await opened();
    const desired = JSON.stringify({
      host: 'host-1',
      epoch: 1,
      sequence: 1,
      tenancies: [WANTED],
    });
    const troubles: string[] = [];
    let rounds = 0;
    await runAgent({
      agent,
      clock,
      desired: () => desired,
      isStopping: () => {
        rounds += 1;
        world.isDiskFull = rounds > 2 && rounds < 10;
        return rounds > 40;
      },
      onTrouble: ({ code }) => troubles.push(code),
    });
    expect(troubles).toContain('log-unwritable');
    expect(agent.state.tenancies).toMatchObject([{ phase: 'activated' }]);
    expect(world.watcher.violations).toEqual([]);
  });
});
