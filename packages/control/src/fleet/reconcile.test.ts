import { beforeEach, describe, expect, it } from 'vitest';
import type { Replica } from '../api/fleet.ts';
import { PoolSpec } from '../api/fleet.ts';
import { SYSTEM_CHANCE } from '../system.ts';
import { pretendedHost } from '../vmm/pretended.ts';
import { type Change, nothingHeard } from './context.ts';
import { Fleet } from './fleet.ts';
import { reconcile } from './reconcile.ts';
import { drain, forget, toPhase } from './replicas.ts';

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

describe('times that a clock wrote which was an hour ahead', () => {
  const AHEAD_MS = 3600_000;

  it('end a drain, and a start, as long after it was set right as they should', () => {
    putPool({ replicas: { min: 1, max: 1 }, drainSeconds: 20, startSeconds: 60 });
    round();
    obey();
    round();
    const [first] = inPhase('serving');
    round(AHEAD_MS / 1000);
    drain(change, first!, 'as told');
    round(0);
    expect(inPhase('starting')).toHaveLength(1);
    round(-AHEAD_MS / 1000);
    const [other] = inPhase('starting');
    expect(inPhase('draining')).toMatchObject([{ deadlineMs: change.nowMs + 20_000 }]);
    expect(other!.deadlineMs).toBe(change.nowMs + 60_000);
    round(20);
    expect(change.fleet.get('replica', first!.replica)!.phase).toBe('stopping');
    round(40);
    expect(change.fleet.get('replica', other!.replica)!.phase).toBe('stopping');
  });

  it('keep no pool waiting for longer than its failures say', () => {
    putPool({ replicas: { min: 1, max: 1 } });
    change.fleet.patch('pool', 'story', { failures: 3, notBeforeMs: change.nowMs + 8500 });
    round();
    expect(replicas()).toEqual([]);
    change.fleet.patch('pool', 'story', { failures: 3, notBeforeMs: change.nowMs + AHEAD_MS });
    round();
    expect(inPhase('starting')).toHaveLength(1);
  });

  it('make no evidence good for longer than its policy says, and have it asked for anew', () => {
    const ageMs = 86_400_000;
    putPool({ replicas: { min: 1, max: 1 } });
    round();
    obey();
    round();
    const [before] = inPhase('serving');
    const evidence = { ...before!.evidence!, notAfterMs: change.nowMs + ageMs + AHEAD_MS };
    change.fleet.patch('replica', before!.replica, { evidence });
    round();
    const asked = change.fleet.get('replica', before!.replica)!;
    expect(asked.evidence!.notAfterMs).toBe(change.nowMs + ageMs / 2);
    expect(asked.challenge).toMatchObject({ atMs: change.nowMs });
    // A question of the future would make its answer good for as long.
    const challenge = { nonce: asked.challenge!.nonce, atMs: change.nowMs + AHEAD_MS };
    change.fleet.patch('replica', before!.replica, { challenge });
    round();
    const again = change.fleet.get('replica', before!.replica)!;
    expect(again.challenge!.atMs).toBe(change.nowMs);
    expect(again.challenge!.nonce).not.toBe(challenge.nonce);
  });
});
