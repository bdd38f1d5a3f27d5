import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChainHead, readSignedHead, sealHead, verifyHead } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import sqlite from 'node-sqlite3-wasm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeEarlierReceipts } from '../testing/earlier-receipts.ts';
import { ReceiptBook } from './book.ts';
import { HeadFile } from './head-file.ts';
import { ephemeralSigner } from './signing-key.ts';
import { ReceiptStore } from './store.ts';
import { checkTail } from './tail.ts';

const signer = ephemeralSigner();
let folder: string;
let file: string;
let heads: HeadFile;
let store: ReceiptStore;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tail-'));
  file = join(folder, 'receipts.sqlite');
  heads = new HeadFile(`${file}.head`);
  store = new ReceiptStore(file);
});
afterEach(() => {
  store.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Writes that many more, as a server does, whose heads go to `to`. */
async function write(count: number, to: Pick<HeadFile, 'write'> = heads): Promise<ChainHead> {
  const retention = { countMax: 1e9, secondsMax: 1e9 };
  const book = new ReceiptBook({ store, signer, retention, heads: to });
  const first = book.head.sequence + 1;
  for (let n = first; n < first + count; n++) book.add({ facts: makeReceiptFacts(n), tenant: 'a' });
  expect(await book.write()).toEqual({ written: count, trouble: null });
  return book.head;
}

/** Closes the store, changes its file, and opens it again. */
function meddle(action: (database: InstanceType<typeof sqlite.Database>) => void): void {
  store.close();
  const database = new sqlite.Database(file);
  action(database);
  database.close();
  store = new ReceiptStore(file);
}

const check = (key = signer.key) => checkTail(store, heads, key);
const nowhere = { write: () => {} };

const broken = (what: string) => ({
  code: 'broken-tail',
  message: expect.stringMatching(
    new RegExp(`^${file} ${what}: restore it together with .* a new chain then begins`),
  ),
});

describe('the end of a file of receipts', () => {
  it('is where its signed head says', async () => {
    await check();
    await write(0);
    await check();
    const head = await write(3);
    await check();
    const text = readFileSync(heads.path, 'utf8');
    expect(await verifyHead(readSignedHead(text), signer.key)).toEqual(head);
    expect(statSync(heads.path).mode & 0o777).toBe(0o600);
  });

  it('may be behind the head by what a killed process had no time to sign', async () => {
    await write(2, nowhere);
    heads.write(await sealHead({ sequence: 0, hash: null }, signer));
    await check();
    await write(2);
    // 257 from the head on: one more than are looked at together.
    await write(256, nowhere);
    await check();
  });

  it('is where the last was that was deleted', async () => {
    await write(5);
    store.age(1);
    store.prune({ countMax: 2, secondsMax: 1 });
    await check();
    store.prune({ countMax: 2, secondsMax: 0 });
    expect(store.links(1, 9).digests).toEqual([]);
    await check();
  });

  it('is missed where the file was put back to an earlier time, or is empty', async () => {
    await write(3);
    copyFileSync(file, `${file}.copy`);
    await write(2);
    meddle(() => copyFileSync(`${file}.copy`, file));
    await expect(check()).rejects.toMatchObject(broken('ends at receipt 3, and its chain at 5'));
    meddle(() => writeFileSync(file, ''));
    await expect(check()).rejects.toMatchObject(broken('ends at receipt 0, and its chain at 5'));
  });

  it('is missed where rows of it are gone, and the file says otherwise', async () => {
    await write(5);
    meddle((database) => database.exec('DELETE FROM receipts WHERE sequence = 5'));
    await write(1);
    // Behind a head that is older, what it leads to is looked at.
    heads.write(await sealHead({ sequence: 5, hash: 'f'.repeat(64) }, signer));
    await expect(check()).rejects.toMatchObject(broken('has no receipt 5'));
    await write(4, nowhere);
    meddle((database) => database.exec('DELETE FROM receipts WHERE sequence IN (7, 8)'));
    heads.write(await sealHead({ sequence: 6, hash: store.head().hash }, signer));
    await expect(check()).rejects.toMatchObject({ code: 'broken-tail' });
  });

  it('is missed behind a hole', async () => {
    const head = await write(2);
    await write(4, nowhere);
    meddle((database) => database.exec('DELETE FROM receipts WHERE sequence = 4'));
    heads.write(await sealHead(head, signer));
    await expect(check()).rejects.toMatchObject(broken('has no receipt 4'));
  });

  it('is refused where all behind the head is gone', async () => {
    const head = await write(2);
    await write(2, nowhere);
    meddle((database) => database.exec('DELETE FROM receipts'));
    heads.write(await sealHead(head, signer));
    await expect(check()).rejects.toMatchObject(broken('has no receipt 2'));
  });

  it('is refused where it is of another history', async () => {
    const head = await write(2);
    heads.write(await sealHead({ ...head, hash: 'f'.repeat(64) }, signer));
    await expect(check()).rejects.toMatchObject(
      broken('is not the chain that was signed: the chain that ended at receipt 2 before was .*'),
    );
    heads.write(await sealHead(head, signer));
    meddle((database) => database.run('UPDATE chain SET hash = ?', ['e'.repeat(64)]));
    await expect(check()).rejects.toMatchObject(broken('does not end where it says'));
  });

  it('is refused with a receipt that its key did not sign', async () => {
    const head = await write(1);
    await write(1, nowhere);
    heads.write(await sealHead(head, signer));
    const { receipts } = store.piece(2, 1);
    const forged = JSON.stringify({ ...receipts[0]!, signature: '0'.repeat(128) });
    meddle((database) =>
      database.run('UPDATE receipts SET document = ? WHERE sequence = 2', [forged]),
    );
    await expect(check()).rejects.toMatchObject({
      ...broken('is not the chain that was signed: the signature of receipt .* does not hold'),
      cause: { code: 'signature-invalid' },
    });
  });

  it('is refused without a head, or with one that is none or of another key', async () => {
    const head = await write(1);
    rmSync(heads.path);
    await expect(check()).rejects.toMatchObject(broken('has no signed head'));
    writeFileSync(heads.path, '{"head": 1');
    await expect(check()).rejects.toMatchObject(
      broken(`is not the chain that was signed: ${heads.path} is not JSON`),
    );
    const other = ephemeralSigner();
    heads.write(await sealHead(head, other));
    await expect(check()).rejects.toThrow(`names another key than ${signer.key}`);
    heads.write(await sealHead(head, { ...other, key: signer.key }));
    await expect(check()).rejects.toThrow('the signature of the head at receipt 1 does not hold');
  });

  it('cannot be seen to be earlier where both files were put back: a client can', async () => {
    await write(1);
    for (const path of [file, heads.path]) copyFileSync(path, `${path}.copy`);
    await write(1);
    meddle(() => {
      for (const path of [file, heads.path]) copyFileSync(`${path}.copy`, path);
    });
    await check();
  });

  it('of an earlier version is where its last receipt is', async () => {
    store.close();
    rmSync(file);
    await writeEarlierReceipts(file, signer, { count: 9, missing: [3] });
    store = new ReceiptStore(file);
    await check();
    await expect(check(ephemeralSigner().key)).rejects.toMatchObject({ code: 'broken-tail' });
    meddle((database) => database.exec('DELETE FROM receipts WHERE sequence = 9'));
    // Nothing says whether it was deleted for its age.
    await check();
    meddle((database) => database.run('UPDATE chain SET sequence = 8'));
    await expect(check()).rejects.toMatchObject(broken('does not end where it says'));
  });
});

describe('the file of a head', () => {
  it('is none where there is none, and an error where it cannot be read', () => {
    expect(heads.read()).toBeNull();
    expect(() => new HeadFile(folder).read()).toThrow('EISDIR');
  });

  it('is exchanged whole', async () => {
    for (const sequence of [1, 2]) {
      const head = await sealHead({ sequence, hash: 'a'.repeat(64) }, signer);
      heads.write(head);
      expect(heads.read()).toEqual(head);
    }
    expect(() => new HeadFile(join(folder, 'none/head')).write({} as never)).toThrow('ENOENT');
  });
});
