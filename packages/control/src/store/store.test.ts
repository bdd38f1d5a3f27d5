import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startPostgres, type TestPostgres } from '../testing/postgres.ts';
import { openPostgres } from './postgres.ts';
import { SqlStore } from './sql-store.ts';
import { openSqlite } from './sqlite.ts';
import type { Batch, Lease, Store } from './store.ts';

const EMPTY: Batch = {
  atMs: 5,
  sequence: 0,
  changes: [],
  claims: [],
  releases: [],
  audit: [],
  operations: [],
  blobs: [],
};
const pool = (id: string, from: number, body: string | null) => ({ kind: 'pool', id, from, body });

/** What every store promises. */
function contract(open: () => Promise<Store>) {
  let store: Store;
  let lease: Lease;
  beforeEach(async () => {
    store = await open();
    lease = (await store.acquire('one', 0, 1000))!;
  });
  afterEach(() => store.close());

  it('keeps what was committed, and says it to the next who opens it', async () => {
    const claim = { host: 'a', module: 3, replica: 'r' };
    const audit = { sequence: 1, atMs: 5, actor: 'me', action: 'put', subject: 'p', detail: '' };
    const operation = { key: 'k', digest: 'd', result: '{}', atMs: 5 };
    const batch: Batch = {
      ...EMPTY,
      changes: [pool('p', 0, '{"a":"ü"}'), pool('q', 0, '{}')],
      claims: [claim],
      audit: [audit],
      operations: [operation],
      blobs: [{ id: 'b', body: 'long' }],
    };
    await store.commit(lease, batch);
    await store.close();
    store = await open();
    expect(await store.load()).toMatchObject({
      sequence: 2,
      auditSequence: 1,
      rows: [
        { kind: 'pool', id: 'p', version: 1, body: '{"a":"ü"}' },
        { kind: 'pool', id: 'q', version: 1, body: '{}' },
      ],
      claims: [claim],
    });
    expect(await store.events(1, 10)).toEqual([
      { sequence: 2, atMs: 5, kind: 'pool', id: 'q', version: 1, body: '{}' },
    ]);
    expect(await store.audit(0, 10)).toEqual([audit]);
    expect(await store.operation('k')).toEqual(operation);
    expect(await store.operation('other')).toBeNull();
    expect(await store.blob('b')).toBe('long');
  });

  it('replaces and removes rows of the version that is named', async () => {
    await store.commit(lease, { ...EMPTY, changes: [pool('p', 0, '1'), pool('q', 0, '1')] });
    const changes = [pool('p', 1, '2'), pool('q', 1, null)];
    await store.commit(lease, { ...EMPTY, sequence: 2, changes });
    expect((await store.load()).rows).toEqual([{ kind: 'pool', id: 'p', version: 2, body: '2' }]);
  });

  it.each([
    ['a row that is there already', { changes: [pool('p', 0, '2')] }],
    ['a row of another version', { changes: [pool('p', 2, '2')] }],
    ['a row that is not there', { changes: [pool('other', 1, '2')] }],
    ['the end of a row of another version', { changes: [pool('p', 2, null)] }],
    ['a GPU that is claimed', { claims: [{ host: 'a', module: 1, replica: 's' }] }],
    ['the release of another’s claim', { releases: [{ host: 'a', module: 1, replica: 's' }] }],
    ['an operation that was done', { operations: [{ key: 'k', digest: '', result: '', atMs: 0 }] }],
    ['an event that was written', { sequence: 0, changes: [pool('new', 0, '')] }],
  ])('refuses %s, and writes nothing', async (_, part: Partial<Batch>) => {
    await store.commit(lease, {
      ...EMPTY,
      changes: [pool('p', 0, '1')],
      claims: [{ host: 'a', module: 1, replica: 'r' }],
      operations: [{ key: 'k', digest: '', result: '', atMs: 0 }],
    });
    const before = await store.load();
    const batch = { ...EMPTY, sequence: 1, ...part };
    const changes = [pool('besides', 0, '1'), ...batch.changes];
    const result = store.commit(lease, { ...batch, changes });
    await expect(result).rejects.toMatchObject({ code: 'conflict' });
    expect(await store.load()).toEqual(before);
  });

  it('lets a batch claim what it releases', async () => {
    const claim = { host: 'a', module: 1, replica: 'r' };
    await store.commit(lease, { ...EMPTY, claims: [claim] });
    const next = { ...claim, replica: 's' };
    await store.commit(lease, { ...EMPTY, releases: [claim], claims: [next] });
    expect((await store.load()).claims).toEqual([next]);
  });

  it('writes thousands of rows at once', async () => {
    const ids = Array.from({ length: 2500 }, (_, index) => `p${index}`);
    await store.commit(lease, { ...EMPTY, changes: ids.map((id) => pool(id, 0, '1')) });
    const changes = ids.map((id) => pool(id, 1, '2'));
    await store.commit(lease, { ...EMPTY, sequence: 2500, changes });
    const { rows, sequence } = await store.load();
    expect(rows.filter(({ version, body }) => version === 2 && body === '2')).toHaveLength(2500);
    expect(sequence).toBe(5000);
  });

  describe('the lease', () => {
    it('has one holder until it ends', async () => {
      expect(await store.acquire('two', 999, 1000)).toBeNull();
      expect(await store.acquire('two', 1000, 1000)).toMatchObject({ epoch: lease.epoch + 1 });
    });

    it('is renewed by its holder under the same epoch', async () => {
      expect(await store.acquire('one', 900, 1000)).toEqual({ ...lease, expiresMs: 1900 });
    });

    it('has another epoch where its holder was late', async () => {
      expect(await store.acquire('one', 1000, 1000)).toMatchObject({ epoch: lease.epoch + 1 });
    });

    it('fences a leader that was paused for longer, whatever its clock says', async () => {
      await store.acquire('two', 2000, 1000);
      const result = store.commit(lease, { ...EMPTY, changes: [pool('p', 0, '1')] });
      await expect(result).rejects.toMatchObject({ code: 'fenced' });
      expect((await store.load()).rows).toEqual([]);
    });

    it('can be had at once where it was given back', async () => {
      await store.release(lease);
      expect(await store.acquire('two', 1, 1000)).toMatchObject({ epoch: lease.epoch + 1 });
    });

    it('is over where it stands still, whatever the clock of its holder said', async () => {
      const ahead = (await store.acquire('two', 3_600_000, 1000))!;
      expect(await store.lease()).toEqual(ahead);
      expect(await store.acquire('three', 1000, 1000, lease)).toBeNull();
      const three = await store.acquire('three', 1000, 1000, ahead);
      expect(three).toEqual({ holder: 'three', epoch: ahead.epoch + 1, expiresMs: 2000 });
    });

    it('is not given back by one who has lost it', async () => {
      const two = await store.acquire('two', 2000, 1000);
      await store.release(lease);
      expect(await store.acquire('three', 2001, 1000)).toBeNull();
      expect(two).not.toBeNull();
    });
  });
}

describe('the store in SQLite', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'bk-control-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  contract(() => SqlStore.open(openSqlite(join(folder, 'control.db'))));

  it('says that a file is no database', () => {
    const result = (async () => SqlStore.open(openSqlite(process.execPath)))();
    return expect(result).rejects.toMatchObject({ code: 'store-broken' });
  });
});

const postgres: TestPostgres | null = startPostgres();

describe.skipIf(postgres === null)('the store in PostgreSQL', () => {
  let url: string;
  beforeAll(() => {
    url = postgres!.url;
  });
  afterAll(() => postgres!.remove());
  beforeEach(async () => {
    const sql = openPostgres(url);
    await sql.query('DROP SCHEMA public CASCADE', []);
    await sql.query('CREATE SCHEMA public', []);
    await sql.close();
  });

  contract(() => SqlStore.open(openPostgres(url)));

  it('lets another lead while one is paused in the midst of a change', async () => {
    const [one, other] = [openPostgres(url, 100), openPostgres(url)];
    const store = await SqlStore.open(other);
    await store.acquire('one', 0, 1000);
    let goOn = (): void => undefined;
    const isPaused = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let hasBegun = (): void => undefined;
    const begun = new Promise<void>((resolve) => {
      hasBegun = resolve;
    });
    const change = one.transaction(async ({ query }) => {
      await query('UPDATE lease SET epoch = epoch', []);
      hasBegun();
      await isPaused;
      await query('SELECT 1', []);
    });
    const ended = expect(change).rejects.toMatchObject({ code: 'store-unavailable' });
    await begun;
    expect(await store.acquire('two', 1000, 1000)).toMatchObject({ holder: 'two' });
    goOn();
    await ended;
    await Promise.all([one.close(), store.close()]);
  });

  it('says that it is away when it was stopped at once, and is back when that is', async () => {
    const store = await SqlStore.open(openPostgres(url));
    const lease = (await store.acquire('one', 0, 1000))!;
    await store.commit(lease, { ...EMPTY, changes: [pool('p', 0, '1')] });
    postgres!.stopAtOnce();
    const away = store.commit(lease, { ...EMPTY, sequence: 1, changes: [pool('q', 0, '1')] });
    await expect(away).rejects.toMatchObject({ code: 'store-unavailable' });
    postgres!.start();
    await store.commit(lease, { ...EMPTY, sequence: 1, changes: [pool('q', 0, '1')] });
    expect((await store.load()).rows).toHaveLength(2);
    await store.close();
  });

  it('lets another lead where the leader stands still within a transaction', async () => {
    const sql = openPostgres(url);
    const one = await SqlStore.open(sql);
    const lease = (await one.acquire('one', 0, 1000))!;
    let goOn = (): void => undefined;
    const waiting = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    // As a batch that is being written has it: the row of the lease is locked.
    const paused = sql.transaction(async (tx) => {
      await tx.query('UPDATE lease SET epoch = epoch WHERE name = $1', ['leader']);
      await waiting;
      const values = ['pool', 'late', 1, '{}'];
      await tx.query(
        'INSERT INTO objects (kind, id, version, body) VALUES ($1, $2, $3, $4)',
        values,
      );
    });
    const failed = expect(paused).rejects.toMatchObject({ code: 'store-unavailable' });
    const two = await SqlStore.open(openPostgres(url));
    expect(await two.acquire('two', 2000, 1000)).toMatchObject({ epoch: lease.epoch + 1 });
    goOn();
    await failed;
    expect((await two.load()).rows).toEqual([]);
    for (const store of [one, two]) await store.close();
  });
});
