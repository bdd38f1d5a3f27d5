import { beforeEach, expect, it } from 'vitest';
import type { HostObservation } from '../api/agent.ts';
import { pretendedFacts } from '../vmm/pretended.ts';
import type { Guest } from '../vmm/vmm.ts';
import { HostAgent } from './agent.ts';
import type { Memory } from './memory.ts';

const HOST = 'host-a';
const REPLICA = {
  replica: 'rep_1',
  epoch: 1,
  tenant: null,
  partition: 7,
  modules: [1],
  image: 'storyteller',
  models: ['story'],
  credential: 'secret',
  inFlightMax: 4,
  challenge: null,
  sealedKey: null,
};

let kept: Memory;
let guests: Guest[];
let created: number;
let seen: HostObservation['replicas'];
let order: Pick<HostObservation, 'startedMs' | 'sequence'>;

beforeEach(() => {
  kept = { startedMs: 0, desired: null, begun: [] };
  guests = [];
  created = 0;
});

const started = (nowMs = 1000) =>
  new HostAgent({
    host: HOST,
    bootId: 'boot',
    vmm: {
      facts: async () => pretendedFacts(HOST),
      list: async () => guests,
      create: async () => {
        created += 1;
      },
      remove: async () => undefined,
      giveKey: async () => undefined,
    },
    memory: {
      read: () => kept,
      write: (memory) => {
        kept = structuredClone(memory);
      },
    },
    link: {
      desired: () => Promise.reject(new Error('not called here')),
      observe: async ({ replicas, startedMs, sequence }) => {
        seen = replicas;
        order = { startedMs, sequence };
      },
    },
    askEvidence: async () => null,
    time: { nowMs: () => nowMs, sleep: async () => undefined },
    onTrouble: (error) => {
      throw error;
    },
  });

const guest = (state: Guest['state']): Guest => {
  return { replica: REPLICA.replica, state, progress: state, address: null };
};

it('goes on with what is prepared, and begins nothing again that was there', async () => {
  const agent = started();
  agent.take({ host: HOST, epoch: 1, sequence: 1, replicas: [REPLICA] });
  await agent.round();
  guests = [guest('preparing')];
  await agent.round();
  expect(created).toBe(2);
  guests = [guest('running')];
  await agent.round();
  // The host restarts: its partition comes back, and the guest that was on it does not.
  guests = [guest('preparing')];
  const next = started();
  await next.round();
  expect(created).toBe(2);
  expect(seen).toMatchObject([{ replica: REPLICA.replica, state: 'failed' }]);
});

it('is newer than the one before it, though its clock was set back', async () => {
  await started(5000).round();
  const before = order.startedMs;
  await started(1000).round();
  expect(order.startedMs).toBeGreaterThan(before);
});
