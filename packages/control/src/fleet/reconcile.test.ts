import { beforeEach, expect, it } from 'vitest';
import type { Replica } from '../api/fleet.ts';
import { PoolSpec } from '../api/fleet.ts';
import { SYSTEM_CHANCE } from '../system.ts';
import { pretendedHost } from '../vmm/pretended.ts';
import { type Change, nothingHeard } from './context.ts';
import { Fleet } from './fleet.ts';
import { reconcile } from './reconcile.ts';
import { forget, toPhase } from './replicas.ts';

const HOSTS = ['host-a', 'host-b'];
const START_MS = 1e12;
const KEYS = { encryptionKeys: null, receiptKey: null, tlsSpkiSha256: null };

let change: Change;

beforeEach(() => {
  const fleet = Fleet.of({ rows: [], claims: [] }).draft();
  change = { fleet, heard: nothingHeard(() => START_MS), nowMs: START_MS, chance: SYSTEM_CHANCE };
  const spec = { policy: 'operator-asserted', maxAgeSeconds: 86_400 };
  fleet.put('policy', 'trial', { name: 'trial', spec });
  for (const host of HOSTS) {
    fleet.put('host', host, pretendedHost(host));
  }
});

const replicas = () => [...change.fleet.rows('replica').values()];
const inPhase = (phase: Replica['phase']) => replicas().filter((each) => each.phase === phase);

function putPool(part: object, generation = 1): void {
  const given = { models: ['story'], image: 'storyteller', policy: 'trial', idleSeconds: 60 };
  const spec = PoolSpec.parse({ ...given, ...part });
  const rest = { generation, wakeUntilMs: 0, failures: 0, notBeforeMs: 0, trouble: null };
  change.fleet.put('pool', 'story', { pool: 'story', spec, ...rest });
}

/** Time passes, hosts are heard, and a round is made. */
function round(seconds = 1): void {
  change = { ...change, nowMs: change.nowMs + seconds * 1000 };
  for (const host of HOSTS) change.heard.hosts.set(host, change.nowMs);
  reconcile(change);
}

/** Hosts do what is wanted at once: guests come up with evidence that holds, and go. */
function obey(): void {
  for (const each of inPhase('starting')) {
    const notAfterMs = change.nowMs + 86_400_000;
    const evidence = { id: SYSTEM_CHANCE.id('ev', change.nowMs), notAfterMs, ...KEYS };
    const part = { evidence, address: 'http://127.0.0.1:1', deadlineMs: null };
    toPhase(change, each, 'warm', part);
  }
  for (const each of inPhase('stopping')) forget(change, each);
}

it('goes to zero without requests, and comes back when it is woken', () => {
  putPool({ replicas: { min: 0, max: 2 } });
  round();
  expect(replicas()).toEqual([]);
  change.fleet.patch('pool', 'story', { wakeUntilMs: change.nowMs + 60_000 });
  round();
  obey();
  round();
  expect(inPhase('serving')).toHaveLength(1);
  for (let turn = 0; turn < 40; turn++) {
    round(10);
    obey();
  }
  expect(inPhase('serving')).toEqual([]);
});

it('replaces what is old one host at a time, and never has fewer that serve', () => {
  const part = { gpus: 2, replicas: { min: 4, max: 4 }, drainSeconds: 5 };
  putPool(part);
  round();
  obey();
  round();
  expect(inPhase('serving')).toHaveLength(4);
  putPool(part, 2);
  for (let turn = 0; turn < 60; turn++) {
    round(2);
    expect(inPhase('serving').length).toBeGreaterThanOrEqual(4);
    const leaving = replicas().filter(
      ({ phase, generation }) => generation === 1 && phase !== 'serving',
    );
    expect(new Set(leaving.map(({ host }) => host)).size).toBeLessThanOrEqual(1);
    obey();
  }
  expect(inPhase('serving').map(({ generation }) => generation)).toEqual([2, 2, 2, 2]);
});

it('keeps warm replicas without a key, and one that gets its key serves', () => {
  putPool({ keyRelease: 'tenant', warm: 1, replicas: { min: 1, max: 1 } });
  round();
  obey();
  round();
  expect(inPhase('warm')).toHaveLength(2);
  const [first] = inPhase('warm');
  change.fleet.patch('replica', first!.replica, { sealedKey: 'sealed' });
  round();
  expect(inPhase('serving')).toMatchObject([{ replica: first!.replica }]);
  expect(inPhase('warm')).toHaveLength(1);
});
