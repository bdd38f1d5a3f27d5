import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { World } from '../simulate/world.ts';
import { Agent } from './agent.ts';
import { AgentCommands } from './commands.ts';
import { agentListener } from './listener.ts';

describe('an agent’s socket', () => {
  let server: Server;
  let agent: Agent;
  let isOver = false;

  beforeAll(async () => {
    const world = new World({ seed: 1, faultProbability: 0, crashProbability: 0 });
    agent = await Agent.open(world.ports());
    await agent.round();
    const commands = new AgentCommands();
    const view = { status: async () => ({ host: 'here' }), state: () => agent.state };
    server = createServer(agentListener(view, commands)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const pump = async () => {
      while (!isOver) {
        await commands.arrival();
        await commands.doAll(agent);
      }
    };
    void pump();
  });
  afterAll(() => {
    isOver = true;
    server.close();
    server.closeAllConnections();
  });

  const ask = async (method: string, path: string, body?: string) => {
    const { port } = server.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}${path}`;
    const response = await fetch(url, { method, ...(body !== undefined && { body }) });
    const answer = (await response.json()) as { error?: { code: string } };
    return { status: response.status, code: answer.error?.code ?? null, answer };
  };
  const pair = { id: 'a:b', tenant: 't', modules: [2, 1], order: 'stop-first' };

  test('says what is, and does what it is told, once each', async () => {
    expect((await ask('GET', '/v1/status')).answer).toEqual({ host: 'here' });
    expect((await ask('POST', '/v1/tenancies', JSON.stringify(pair))).status).toBe(200);
    const state = (await ask('GET', '/v1/state')).answer;
    expect(state).toMatchObject({ desired: { sequence: 1, tenancies: [{ id: 'a:b' }] } });
    expect(agent.state.desired!.tenancies[0]!.modules).toEqual([1, 2]);
    expect((await ask('DELETE', `/v1/tenancies/${encodeURIComponent('a:b')}`)).status).toBe(200);
    expect(agent.state.desired!.tenancies).toEqual([]);
    const table = JSON.stringify({ table: 'ab'.repeat(32) });
    expect((await ask('POST', '/v1/maintain', table)).status).toBe(200);
    expect(agent.state.daemon.maintenance).toBe('ab'.repeat(32));
  });

  test.each<[string, string, string | undefined, number, string]>([
    ['DELETE', '/v1/tenancies/none', undefined, 400, 'bad-desired'],
    ['DELETE', '/v1/tenancies/%zz', undefined, 400, 'bad-desired'],
    ['POST', '/v1/tenancies', '{', 400, 'bad-desired'],
    ['POST', '/v1/tenancies', JSON.stringify({ ...pair, more: 1 }), 400, 'bad-desired'],
    ['POST', '/v1/tenancies', JSON.stringify({ ...pair, modules: [1, 3] }), 409, 'does-not-fit'],
    ['PUT', '/v1/desired', '{"tenancies":[]}', 400, 'bad-desired'],
    ['PUT', '/v1/desired', `"${'x'.repeat(2 ** 20)}"`, 400, 'bad-desired'],
    ['POST', '/v1/clear', '{"modules":[0]}', 400, 'bad-desired'],
    ['POST', '/v1/maintain', '{"table":"x"}', 400, 'bad-desired'],
    ['GET', '/v1/other', undefined, 404, 'bad-desired'],
  ])(
    '%s %s refuses what it cannot do, and changes nothing',
    async (method, path, body, ...wanted) => {
      const before = JSON.stringify(agent.state);
      const { status, code } = await ask(method, path, body);
      expect([status, code]).toEqual(wanted);
      expect(JSON.stringify(agent.state)).toBe(before);
    },
  );
});
