import fs, {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChainHead, sealReceipt, verifyReceiptChain } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import sqlite from 'node-sqlite3-wasm';
import { afterEach, beforeEach, describe, expect, it, test, vi } from 'vitest';
import { writeEarlierReceipts } from '../testing/earlier-receipts.ts';
import { ephemeralSigner } from './signing-key.ts';
import { type ReceiptRow, ReceiptStore } from './store.ts';

const signer = ephemeralSigner();
const FOREVER = { countMax: 1e9, secondsMax: 1e9 };
const stores: ReceiptStore[] = [];
let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'store-'));
  file = join(folder, 'receipts.sqlite');
});
afterEach(() => {
  for (const store of stores.splice(0)) store.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(path: string | null = null): ReceiptStore {
  const store = new ReceiptStore(path);
  stores.push(store);
  return store;
}

const close = () => stores.pop()!.close();

/** The next receipts of the chain that ends at `head`. */
async function rowsAfter(head: ChainHead, count: number): Promise<ReceiptRow[]> {
  const rows: ReceiptRow[] = [];
  let at = head;
  for (let n = head.sequence + 1; n <= head.sequence + count; n++) {
    const sealed = await sealReceipt(makeReceiptFacts(n), at, signer);
    rows.push({ sealed, tenant: 'a' });
    at = sealed.head;
  }
  return rows;
}

async function add(store: ReceiptStore, count: number): Promise<void> {
  store.append(await rowsAfter(store.head(), count));
}

/** The numbers of what is kept, which is one piece of the chain. */
function kept(store: ReceiptStore): number[] {
  const { first, digests } = store.links(1, 10_000);
  return digests.map((_, i) => first + i);
}

describe('what is kept', () => {
  it('is the last of them, as many as there may be', async () => {
    const store = open();
    await add(store, 8);
    store.prune({ ...FOREVER, countMax: 8 });
    expect(kept(store)).toHaveLength(8);
    store.prune({ ...FOREVER, countMax: 3 });
    expect(kept(store)).toEqual([6, 7, 8]);
    expect(store.head().sequence).toBe(8);
  });

  it('is what was written within the seconds of running that are kept', async () => {
    const store = open();
    const retention = { ...FOREVER, secondsMax: 100 };
    for (const seconds of [60, 40, 1]) {
      await add(store, 2);
      store.age(seconds);
    }
    store.prune({ ...FOREVER, secondsMax: 101 });
    expect(kept(store)).toEqual([1, 2, 3, 4, 5, 6]);
    store.prune(retention);
    expect(kept(store)).toEqual([3, 4, 5, 6]);
    store.age(100);
    store.prune(retention);
    expect(kept(store)).toEqual([]);
    const { hash } = store.head();
    expect(store.links(1, 10)).toEqual({ previous: hash, first: 7, digests: [] });
    await add(store, 1);
    expect(kept(store)).toEqual([7]);
  });

  it('has no hole and is not erased, whatever the clock says', async () => {
    const store = open();
    const rows = await rowsAfter(store.head(), 0);
    let at = store.head();
    const day = 86_400;
    for (const [n, createdAt] of [50 * day, 1, 9_000 * day, 0, 50 * day].entries()) {
      const sealed = await sealReceipt({ ...makeReceiptFacts(n + 1), createdAt }, at, signer);
      rows.push({ sealed, tenant: 'a' });
      at = sealed.head;
    }
    for (const row of rows) {
      store.append([row]);
      store.prune({ ...FOREVER, secondsMax: day });
    }
    expect(kept(store)).toEqual([1, 2, 3, 4, 5]);
    const { links, receipts } = store.piece(1, 10);
    expect(await verifyReceiptChain(links, receipts, signer.key)).toBe(at.hash);
  });

  it('is counted on where the file is opened again', async () => {
    await add(open(file), 1);
    stores[0]!.age(60);
    await add(stores[0]!, 1);
    close();
    const store = open(file);
    store.age(41);
    store.prune({ ...FOREVER, secondsMax: 100 });
    expect(kept(store)).toEqual([2]);
  });
});

describe('a piece', () => {
  it('has the links and their receipts, as many as were asked for', async () => {
    const store = open();
    await add(store, 6);
    const { links, receipts } = store.piece(2, 3);
    expect(links.first).toBe(2);
    expect(receipts.map(({ receipt }) => receipt.sequence)).toEqual([2, 3, 4]);
    expect(links.previous).toBe(receipts[0]!.receipt.previous);
    await verifyReceiptChain(links, receipts, signer.key);
  });

  it('ends before a hole that an earlier version left, and the next begins behind it', async () => {
    await writeEarlierReceipts(file, signer, { count: 9, missing: [4, 5] });
    const store = open(file);
    expect(kept(store)).toEqual([1, 2, 3]);
    expect(store.links(4, 10)).toMatchObject({ first: 6, digests: { length: 4 } });
    for (const first of [1, 4]) {
      const { links, receipts } = store.piece(first, 10);
      await verifyReceiptChain(links, receipts, signer.key);
    }
  });
});

test('all that are kept come in the order of the chain, however many', async () => {
  const store = open();
  await add(store, 258);
  store.prune({ ...FOREVER, countMax: 257 });
  const all = [...store.all()];
  expect(all.map(({ signed }) => signed.receipt.sequence)).toEqual(
    Array.from({ length: 257 }, (_, i) => i + 2),
  );
  expect(new Set(all.map(({ tenant }) => tenant))).toEqual(new Set(['a']));
  const { id } = makeReceiptFacts(2);
  expect([store.has(id), store.has(makeReceiptFacts(1).id)]).toEqual([true, false]);
});

describe('writing', () => {
  it('is at the end of the chain only, all or nothing', async () => {
    const store = open();
    await add(store, 2);
    const head = store.head();
    const good = await rowsAfter(head, 2);
    expect(() => store.append([good[0]!, good[0]!])).toThrow('UNIQUE');
    expect(store.head()).toEqual(head);
    const elsewhere = await rowsAfter({ sequence: 2, hash: 'f'.repeat(64) }, 1);
    expect(() => store.append(elsewhere)).toThrow('something else wrote to');
    expect(kept(store)).toEqual([1, 2]);
    store.append(good);
    store.append([]);
    expect(store.head()).toEqual(good[1]!.sealed.head);
  });

  it('that fails half-way is taken back then, or before anything else', async () => {
    const store = open(file);
    await add(store, 3);
    const head = store.head();
    const rows = await rowsAfter(head, 40);
    let isHalf = 0;
    const { writeSync } = fs;
    for (let most = 1; ; most += 9) {
      let left = most;
      const write = vi.spyOn(fs, 'writeSync').mockImplementation(((...args: never) => {
        left -= 1;
        if (left <= 0) throw new Error('EIO');
        return (writeSync as (...all: never) => number)(...args);
      }) as never);
      try {
        store.append(rows);
        break;
      } catch {
        write.mockRestore();
        if (existsSync(`${file}-journal`)) isHalf += 1;
        // Whoever opens what a process left so, after its end, finds it as it was as well.
        const copy = join(folder, `copy-${most}.sqlite`);
        for (const end of ['', '-journal']) {
          if (existsSync(`${file}${end}`)) cpSync(`${file}${end}`, `${copy}${end}`);
        }
        expect(open(copy).head()).toEqual(head);
        close();
        expect(store.head()).toEqual(head);
        expect(kept(store)).toEqual([1, 2, 3]);
      } finally {
        write.mockRestore();
      }
    }
    expect(isHalf).toBeGreaterThan(1);
    expect(store.head().sequence).toBe(43);
    expect(kept(store)).toHaveLength(43);
  });

  it('is refused where the file is no longer the one of its name', async () => {
    const store = open(file);
    store.check();
    renameSync(file, `${file}.old`);
    expect(() => store.check()).toThrow(`${file} was moved, deleted or replaced`);
    writeFileSync(file, '');
    expect(() => store.check()).toThrow('replaced');
    renameSync(`${file}.old`, file);
    store.check();
    open().check();
  });
});

describe('a file', () => {
  it('is for its owner only, and is opened although a process died in a write', async () => {
    await add(open(file), 1);
    close();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    chmodSync(file, 0o644);
    mkdirSync(`${file}.lock`);
    expect(kept(open(file))).toEqual([1]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('says what it is where SQLite has room for it', () => {
    open(file);
    close();
    const database = new sqlite.Database(file);
    // "BKR1", and the shape of its tables.
    expect(database.get('PRAGMA application_id')).toEqual({ application_id: 0x424b5231 });
    expect(database.get('PRAGMA user_version')).toEqual({ user_version: 2 });
    database.close();
  });

  it('begins where there is an empty one', () => {
    writeFileSync(file, '');
    const store = open(file);
    expect(store.head()).toEqual({ sequence: 0, hash: null });
    expect(store.hasHeads).toBe(true);
    expect(store.path).toBe(file);
  });

  it.each(['user_version = 3', 'user_version = 0', 'application_id = 7'])(
    'is refused with %s, and left as it was',
    (pragma) => {
      open(file);
      close();
      const database = new sqlite.Database(file);
      database.exec(`PRAGMA ${pragma}`);
      database.close();
      chmodSync(file, 0o640);
      const before = readFileSync(file);
      expect(() => open(file)).toThrow(
        expect.objectContaining({
          code: 'bad-file',
          message: `${file} is no file of receipts of this version`,
        }),
      );
      expect(readFileSync(file)).toEqual(before);
      expect(statSync(file).mode & 0o777).toBe(0o640);
      expect(existsSync(`${file}.lock`)).toBe(false);
    },
  );

  it('is refused where it is no database, and left as it was', () => {
    const text = 'no database at all, but long enough to be looked at as one'.repeat(99);
    writeFileSync(file, text);
    expect(() => open(file)).toThrow(
      expect.objectContaining({
        code: 'bad-file',
        message: expect.stringContaining(file),
        cause: expect.any(Error),
      }),
    );
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  it('of an earlier version goes on, and its receipts begin to age', async () => {
    await writeEarlierReceipts(file, signer, { count: 3 });
    const store = open(file);
    expect(store.hasHeads).toBe(false);
    expect(kept(store)).toEqual([1, 2, 3]);
    store.upgrade();
    store.upgrade();
    expect(store.hasHeads).toBe(true);
    store.prune({ ...FOREVER, secondsMax: 0 });
    expect(kept(store)).toEqual([1, 2, 3]);
    await add(store, 1);
    store.age(1);
    await add(store, 1);
    store.prune({ ...FOREVER, secondsMax: 0 });
    expect(kept(store)).toEqual([5]);
    close();
    expect(open(file).hasHeads).toBe(true);
  });
});
