import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSignedReceipt, verifyReceipt, verifyReceiptChain } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HandClock } from '../testing/hand-clock.ts';
import { until } from '../testing/until.ts';
import { Receipts } from './receipts.ts';

const RETENTION = { countMax: 100, secondsMax: 1e6 };

let folder: string;
let path: string;
let clock: HandClock;
let lines: string[];
const opened: Receipts[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-move-'));
  path = join(folder, 'receipts.sqlite');
  clock = new HandClock();
  lines = [];
});
afterEach(async () => {
  for (const receipts of opened.splice(0)) await receipts.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(where: 'file' | 'memory'): Promise<Receipts> {
  const receipts = await Receipts.open({
    path: where === 'file' ? path : null,
    ...(where === 'file' ? {} : { awaited: { path, retention: RETENTION } }),
    retention: RETENTION,
    clock,
    waitSeconds: 0,
    onWait: () => {},
    onTrouble: (message) => lines.push(message),
  });
  opened.push(receipts);
  return receipts;
}

const facts = [1, 2, 3, 4, 5].map((n) => makeReceiptFacts(n));

test('receipts in memory move to their file when its owner lets go, and none is lost', async () => {
  const before = await open('file');
  before.issue(facts[0]!, 'a');
  const after = await open('memory');
  after.issue(facts[1]!, 'b');
  after.issue(facts[2]!, 'a');
  const { signer: formerSigner } = after;
  const formerHead = await after.head();
  clock.tick(1);
  await after.head();
  expect([after.path, after.awaitedPath]).toEqual([null, path]);

  await before.close();
  clock.tick(1);
  await until('they have moved', () => after.path === path);
  expect(after.awaitedPath).toBeNull();
  expect(lines).toEqual([`receipts: ${path} is free: 2 moved there from memory, under its key`]);
  after.issue(facts[3]!, 'a');
  // One chain, under the file's key, with what the server before had written.
  expect(after.signer.key).toBe(before.signer.key);
  const head = await after.head();
  expect(head.sequence).toBe(4);
  const owners = ['a', 'b', 'a', 'a'];
  const texts = await Promise.all(owners.map((tenant, i) => after.find(facts[i]!.id, tenant)));
  const receipts = texts.map((text) => readSignedReceipt(text!));
  for (const receipt of receipts) await verifyReceipt(receipt, after.signer.key);
  const links = await after.links(1, 10);
  expect(await verifyReceiptChain(links, receipts, after.signer.key, head)).toBe(head.hash);
  expect(await after.find(facts[1]!.id, 'a')).toBeNull();
  expect(after.counts).toMatchObject({ issued: 3, written: 3, lost: 0 });

  // A report that was begun with the former key is still finished with it.
  expect(formerSigner.key).not.toBe(after.signer.key);
  expect(await after.head(formerSigner.key)).toEqual(formerHead);
  expect(await formerSigner.sign(Uint8Array.of(1))).toHaveLength(64);

  await after.close();
  const next = await open('file');
  expect((await next.head()).sequence).toBe(4);
  expect(await next.find(facts[1]!.id, 'b')).not.toBeNull();
});

test('receipts stay in memory, and say so, where the file turns out to be no chain', async () => {
  const before = await open('file');
  const after = await open('memory');
  after.issue(facts[0]!, 'a');
  await before.close();
  writeFileSync(path, 'something else');
  clock.tick(1);
  await until('that was told', () => lines.length > 0);
  expect(lines[0]).toMatch(/^receipts stay in memory and end with this process: cannot open /);
  expect([after.path, after.awaitedPath]).toEqual([null, null]);
  expect(await after.find(facts[0]!.id, 'a')).not.toBeNull();
  after.issue(facts[1]!, 'a');
  expect((await after.head()).sequence).toBe(2);
});
