import { beforeEach, describe, expect, it } from 'vitest';
import type { HostObservation } from '../api/agent.ts';
import { PoolSpec } from '../api/fleet.ts';
import { SYSTEM_CHANCE } from '../system.ts';
import { pretendedFacts, pretendedHost } from '../vmm/pretended.ts';
import { admit } from './admit.ts';
import { type Change, nothingHeard } from './context.ts';
import { Fleet } from './fleet.ts';
import { observe } from './observe.ts';
import { Offers } from './placement.ts';
import { reconcile } from './reconcile.ts';
import { challenge } from './replicas.ts';

const HOST = 'host-a';
const KEYS = { encryptionKeys: null, receiptKey: null, tlsSpkiSha256: null };

let change: Change;
let sequence: number;

beforeEach(() => {
  sequence = 0;
  const fleet = Fleet.of({ rows: [], claims: [] }).draft();
  change = { fleet, heard: nothingHeard(() => 1000), nowMs: 1000, chance: SYSTEM_CHANCE };
  fleet.put('policy', 'trial', {
    name: 'trial',
    spec: { policy: 'operator-asserted', maxAgeSeconds: 600 },
  });
  fleet.put('host', HOST, pretendedHost(HOST));
});

const say = (part: Partial<HostObservation> = {}) => {
  sequence += 1;
  return observe(change, {
    host: HOST,
    bootId: 'boot',
    startedMs: 1,
    sequence,
    appliedEpoch: 1,
    appliedSequence: change.fleet.get('host', HOST)!.desiredSequence,
    facts: pretendedFacts(HOST),
    replicas: [],
    checkpoint: null,
    ...part,
  });
};
const hostNow = () => change.fleet.get('host', HOST)!;

describe('the head of a fabric’s log', () => {
  const head = (size: number | string, root = 'root', origin = 'bk/host-a/fabric') =>
    `${origin}\n${size}\n${root}\n\n— signature\n`;

  it('is taken as it grows', () => {
    for (const size of [3, 3, 8]) say({ checkpoint: head(size) });
    expect(hostNow()).toMatchObject({ checkpoint: head(8), quarantined: [] });
    say();
    expect(hostNow().checkpoint).toBe(head(8));
  });

  it.each([
    ['cut back', head(4)],
    ['another story of the same length', head(5, 'other')],
    ['another log', head(9, 'root', 'bk/host-b/fabric')],
    ['no head at all', 'nothing'],
    ['a length that is none', head('1e9')],
  ])('is not taken when it is %s, and nothing new goes there', (_, checkpoint) => {
    say({ checkpoint: head(5) });
    say({ checkpoint });
    const { checkpoint: kept, quarantined } = hostNow();
    expect(kept).toBe(head(5));
    expect(quarantined).toHaveLength(8);
    expect(quarantined[0]!.reason).toContain('cut back or replaced');
  });
});

describe('a replica on a fabric', () => {
  const only = () => [...change.fleet.rows('replica').values()][0]!;
  const replica = (logIndex: number | null, tenancyEpoch: number | null) => ({
    replica: only().replica,
    epoch: only().epoch,
    state: 'running' as const,
    progress: '',
    address: 'http://127.0.0.1:8000',
    evidence: null,
    logIndex,
    tenancyEpoch,
  });

  beforeEach(() => {
    const spec = PoolSpec.parse({
      models: ['story'],
      image: 'storyteller',
      policy: 'trial',
      replicas: { min: 1, max: 1 },
    });
    change.fleet.put('pool', 'story', {
      pool: 'story',
      spec,
      generation: 1,
      wakeUntilMs: 0,
      failures: 0,
      notBeforeMs: 0,
      trouble: null,
    });
    reconcile(change);
    say({ replicas: [replica(4, 9)] });
    const { replica: id, challenge } = only();
    const verdict = { refusals: [], ...KEYS };
    admit(change, { replica: id, nonce: challenge!.nonce, report: '{}' }, verdict);
  });

  it('has the place of its activation in its admission', () => {
    const [evidence] = [...change.fleet.rows('evidence').values()];
    expect(evidence).toMatchObject({ isAccepted: true, logIndex: 4, tenancyEpoch: 9 });
    say({ replicas: [replica(4, 9)] });
    expect(only()).toMatchObject({ phase: 'warm', logIndex: 4, tenancyEpoch: 9 });
  });

  it.each([
    [5, 9],
    [4, 10],
    [null, null],
  ])('is not the one that was attested with entry %s of tenancy %s', (logIndex, epoch) => {
    say({ replicas: [replica(logIndex, epoch)] });
    expect(only()).toMatchObject({ phase: 'stopping' });
    expect(only().reason).toContain('another tenancy');
  });

  it('leaves its host’s evidence behind, until that boots anew or evidence is refused', () => {
    const [evidence] = [...change.fleet.rows('evidence').values()];
    const { evidence: id, atMs } = evidence!;
    expect(hostNow().lastEvidence).toEqual({ id, atMs });
    say({ replicas: [replica(4, 9)] });
    expect(hostNow().lastEvidence).toEqual({ id, atMs });
    challenge(change, only());
    const { replica: name, challenge: open } = only();
    const shown = { replica: name, nonce: open!.nonce, report: '{}' };
    admit(change, shown, { refusals: ['it is another GPU'], ...KEYS });
    expect(hostNow().lastEvidence).toBeNull();
    change.fleet.patch('host', HOST, { lastEvidence: { id, atMs } });
    say({ bootId: 'another boot' });
    expect(hostNow().lastEvidence).toBeNull();
  });

  it('goes, where that is asked for, only to hosts whose evidence is young', () => {
    const spec = { ...change.fleet.get('pool', 'story')!.spec, evidenceMaxAgeSeconds: 60 };
    const later = { ...change, nowMs: change.nowMs + 60_000 };
    expect(new Offers(change.fleet, later.nowMs).place(spec)).toMatchObject({ host: HOST });
    expect(new Offers(change.fleet, later.nowMs + 2000).place(spec)).toMatchObject({
      cause: expect.stringContaining('needs evidence of at most 60 s ago'),
      nearest: { host: HOST, lift: expect.stringContaining('have a guest attested there') },
    });
  });
});
