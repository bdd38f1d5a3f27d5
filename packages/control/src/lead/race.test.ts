import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PoolSpec } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import { admit } from '../fleet/admit.ts';
import type { Change } from '../fleet/context.ts';
import { desiredOf } from '../fleet/desired.ts';
import { observe } from '../fleet/observe.ts';
import { reconcile } from '../fleet/reconcile.ts';
import { quarantine } from '../fleet/replicas.ts';
import { operatorHandlers } from '../serve/operator.ts';
import { openPostgres } from '../store/postgres.ts';
import { SqlStore } from '../store/sql-store.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { SYSTEM_CHANCE } from '../system.ts';
import { faultsOf } from '../testing/history.ts';
import { startPostgres, type TestPostgres } from '../testing/postgres.ts';
import { pretendedFacts, pretendedHost } from '../vmm/pretended.ts';
import { Term } from './term.ts';

// Two controls over one store, both of which believe that they lead: what must hold of a tenant's
// quota and of keys, whoever writes when.

const LEASE_MS = 1000;
const GPUS_MAX = 3;
const HOSTS = ['host-a', 'host-b'] as const;
const AGE_SECONDS = 600;

let nowMs: number;
let holders: number;

async function lead(store: Store): Promise<Term> {
  // The lease of whoever leads is over.
  nowMs += LEASE_MS + 1;
  holders += 1;
  const lease = (await store.acquire(`holder-${holders}`, nowMs, LEASE_MS))!;
  return new Term({
    store,
    lease,
    contents: await store.load(),
    chance: SYSTEM_CHANCE,
    nowMs: () => nowMs,
    onCommit: () => undefined,
    onEnd: () => undefined,
  });
}

const change = <T>(term: Term, make: (change: Change) => T): Promise<T> =>
  term.change({ actor: 'test', operation: null, make });
const codeOf = (result: Promise<unknown>) =>
  result.then(
    () => 'done',
    (error: unknown) => {
      if (error instanceof ControlError) return error.code;
      throw error;
    },
  );

function putPool({ fleet }: Change, pool: string, part: Partial<PoolSpec>): void {
  const spec = PoolSpec.parse({
    models: [pool],
    image: 'storyteller',
    policy: 'trial',
    tenant: 'aurora',
    replicas: { min: 2, max: 2 },
    ...part,
  });
  const rest = { generation: 1, wakeUntilMs: 0, failures: 0, notBeforeMs: 0, trouble: null };
  fleet.put('pool', pool, { pool, spec, ...rest });
}

function seed({ fleet, chance }: Change): void {
  const spec = { policy: 'operator-asserted', maxAgeSeconds: AGE_SECONDS };
  fleet.put('policy', 'trial', { name: 'trial', spec });
  const limits = { requestsPerMinute: null, tokensPerMinute: null, inFlightMax: null };
  const quota = { ...limits, gpusMax: GPUS_MAX, weight: 1 };
  const tenant = { tenant: 'aurora', spec: { quota, pools: null }, salt: chance.secret() };
  fleet.put('tenant', 'aurora', tenant);
  for (const host of HOSTS) {
    fleet.put('host', host, pretendedHost(host));
  }
}

/** Whole GPUs that the tenant has, at each moment of the history. */
async function mostHeld(store: Store): Promise<number> {
  const held = new Map<string, number>();
  let most = 0;
  let atMs = 0;
  const sum = () => [...held.values()].reduce((total, count) => total + count, 0);
  for (const event of await store.events(0, 100_000)) {
    // What is written at once is seen at once.
    if (event.atMs !== atMs) most = Math.max(most, sum());
    atMs = event.atMs;
    if (event.kind !== 'replica') continue;
    const row = event.body === null ? null : JSON.parse(event.body);
    if (row === null) held.delete(event.id);
    else held.set(event.id, row.modules.length);
  }
  return Math.max(most, sum());
}

let one: Store;
let two: Store;

async function begin(open: () => Promise<readonly [Store, Store]>): Promise<void> {
  nowMs = 1000;
  holders = 0;
  [one, two] = await open();
  await change(await lead(one), seed);
}

async function end(): Promise<void> {
  for (const store of new Set([one, two])) await store.close();
}

function races() {
  it('gives a tenant no GPU beyond its quota, and nothing by one that was replaced', async () => {
    const acknowledged: { kind: string; id: string; version: number }[] = [];
    const outcomes = new Set<string>();
    let old = await lead(one);
    for (let round = 0; round < 6; round++) {
      // Pools and rounds of both at once, while the second takes the lead from the first.
      const ask = async (term: Term, name: string) => {
        const code = await codeOf(change(term, (each) => putPool(each, name, {})));
        outcomes.add(code);
        if (code === 'done') acknowledged.push({ kind: 'pool', id: name, version: 1 });
        outcomes.add(await codeOf(change(term, reconcile)));
      };
      const before = [0, 1, 2].map((index) => ask(old, `p${round}-old-${index}`));
      const next = await lead(round % 2 === 0 ? two : one);
      const after = [0, 1, 2].flatMap((index) => [
        ask(old, `p${round}-late-${index}`),
        ask(next, `p${round}-new-${index}`),
      ]);
      await Promise.all([...before, ...after]);
      old = next;
    }
    expect(await mostHeld(one)).toBe(GPUS_MAX);
    const events = (await one.events(0, 100_000)).map(({ body, ...rest }) => {
      return { ...rest, row: body === null ? null : JSON.parse(body) };
    });
    expect(faultsOf(events, acknowledged)).toEqual([]);
    expect(outcomes).toContain('done');
    expect(outcomes).toContain('fenced');
    const { claims } = await two.load();
    expect(claims).toHaveLength(GPUS_MAX);
  });
}

/** A replica that is warm and waits for the key of a tenant’s model. */
function keys() {
  describe('a model’s key', () => {
    let term: Term;
    let sequence = 0;
    const handlers = operatorHandlers({} as Parameters<typeof operatorHandlers>[0]);
    const { write: giveKey } = handlers.giveKey as Extract<
      typeof handlers.giveKey,
      { write: unknown }
    >;
    const caller = { role: 'tenant', tenant: 'aurora', name: 'key_a' } as const;
    const only = (of = term) => [...of.fleet.rows('replica').values()][0]!;
    const give = (of: Term, sealedKey: string, evidence = only(of).evidence!.id) => {
      const params = { replica: only(of).replica };
      const input = { params, query: undefined, body: { evidence, sealedKey } };
      return change(of, (each) => giveKey(each, { ...input, caller, ifMatch: null }));
    };
    const show = async (of: Term, refusals: readonly string[], encryptionKeys = 'AAAA') => {
      const { replica, challenge } = only(of);
      const shown = { replica, nonce: challenge!.nonce, report: '{}' };
      const keys = { encryptionKeys, receiptKey: null, tlsSpkiSha256: null };
      await change(of, (each) => admit(each, shown, { refusals, ...keys }));
    };
    const desired = (of = term) =>
      desiredOf(of.fleet, only(of).host, of.lease.epoch, nowMs)!.replicas.map(
        ({ sealedKey }) => sealedKey,
      );
    /** Half of its time is over: it is asked again. */
    const askAgain = async (of: Term) => {
      nowMs += (AGE_SECONDS / 2) * 1000;
      sayAll(of);
      await change(of, reconcile);
    };
    const sayAll = ({ heard }: Term) => {
      for (const host of HOSTS) heard.hosts.set(host, nowMs);
    };

    beforeEach(async () => {
      term = await lead(one);
      const part = { keyRelease: 'tenant', replicas: { min: 1, max: 1 } } as const;
      await change(term, (each) => putPool(each, 'own', part));
      await change(term, reconcile);
      const { replica, host, epoch } = only();
      sequence += 1;
      const seen = { replica, epoch, state: 'running', progress: '', evidence: null } as const;
      const place = { address: 'http://127.0.0.1:8000', logIndex: null, tenancyEpoch: null };
      await change(term, (each) =>
        observe(each, {
          host,
          bootId: 'boot',
          startedMs: 1,
          sequence,
          appliedEpoch: 1,
          appliedSequence: only().wantedSequence,
          checkpoint: null,
          facts: pretendedFacts(host),
          replicas: [{ ...seen, ...place }],
        }),
      );
      await show(term, []);
      expect(only()).toMatchObject({ phase: 'warm', sealedKey: null });
    });

    it('that is given twice at once is the one written last, and all are noted', async () => {
      await Promise.all([give(term, 'first'), give(term, 'second'), give(term, 'second')]);
      expect(desired()).toEqual(['second']);
      const given = (await one.audit(0, 100)).filter(({ action }) => action === 'key given');
      expect(given).toHaveLength(3);
      await change(term, reconcile);
      expect(only()).toMatchObject({ phase: 'serving', sealedKey: 'second' });
    });

    it('is not taken by a control that was replaced, nor told by it', async () => {
      const next = await lead(two);
      const results = [codeOf(give(term, 'late')), codeOf(give(next, 'now'))];
      expect(await Promise.all(results)).toEqual(['fenced', 'done']);
      expect(desired(next)).toEqual(['now']);
      const third = await lead(one);
      expect(desired(third)).toEqual(['now']);
    });

    it.each([-1, 0, 1])(
      'is taken only before its evidence is too old: %i ms after',
      async (late) => {
        const { evidence } = only();
        nowMs = evidence!.notAfterMs + late;
        sayAll(term);
        // The round that finds it too old comes with it, before it or after it.
        const results = [codeOf(give(term, 'key')), change(term, reconcile)];
        expect((await Promise.all(results))[0]).toBe(late < 0 ? 'done' : 'conflict');
        if (late >= 0) expect(desired().every((key) => key === null)).toBe(true);
        nowMs = evidence!.notAfterMs + 1000;
        expect(desired().every((key) => key === null)).toBe(true);
      },
    );

    it.each(['before', 'after'])(
      'is not handed over where evidence is refused %s it comes',
      async (when) => {
        await askAgain(term);
        if (when === 'before') {
          await show(term, ['it is another GPU']);
          expect(await codeOf(give(term, 'key'))).toBe('conflict');
        } else {
          await give(term, 'key');
          await change(term, reconcile);
          expect(only()).toMatchObject({ phase: 'serving' });
          const { desiredSequence } = term.fleet.get('host', only().host)!;
          await show(term, ['it is another GPU']);
          expect(only()).toMatchObject({ phase: 'draining', sealedKey: null });
          // Its host is told.
          expect(term.fleet.get('host', only().host)!.desiredSequence).toBeGreaterThan(
            desiredSequence,
          );
          expect(await codeOf(give(term, 'again'))).toBe('conflict');
        }
        expect(desired().every((key) => key === null)).toBe(true);
      },
    );

    it('is not taken while its GPUs are in quarantine', async () => {
      const { host, modules } = only();
      await change(term, (each) => quarantine(each, host, modules, 'another host has them, too'));
      expect(await codeOf(give(term, 'key'))).toBe('conflict');
      expect(desired()).toEqual([null]);
    });

    it('is of no use to a replica that shows another encryption key', async () => {
      const before = only().evidence!.id;
      await give(term, 'key');
      await askAgain(term);
      await show(term, [], 'BBBB');
      expect(desired()).toEqual([null]);
      expect(await codeOf(give(term, 'key', before))).toBe('conflict');
      await give(term, 'other');
      expect(desired()).toEqual(['other']);
    });
  });
}

describe('two terms over SQLite', () => {
  let folder: string;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'bk-race-'));
    // Embedded: it is one process that has it open.
    const store = await SqlStore.open(openSqlite(join(folder, 'control.db')));
    await begin(async () => [store, store]);
  });
  afterEach(async () => {
    await end();
    rmSync(folder, { recursive: true });
  });

  races();
  keys();
});

const postgres: TestPostgres | null = startPostgres();

describe.skipIf(postgres === null)('two controls over PostgreSQL', () => {
  const open = () => SqlStore.open(openPostgres(postgres!.url));

  beforeEach(async () => {
    const sql = openPostgres(postgres!.url);
    await sql.query('DROP SCHEMA public CASCADE', []);
    await sql.query('CREATE SCHEMA public', []);
    await sql.close();
    await begin(async () => [await open(), await open()]);
  });
  afterEach(end);
  afterAll(() => postgres!.remove());

  races();
});
