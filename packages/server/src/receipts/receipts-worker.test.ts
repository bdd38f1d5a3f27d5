import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { readSignedReceipt, verifyReceipt, verifyReceiptChain } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HandClock } from '../testing/hand-clock.ts';
import { Receipts, type ReceiptsOptions } from './receipts.ts';

let folder: string;
let file: string;
let troubles: string[];
const open: Receipts[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-'));
  file = join(folder, 'receipts.sqlite');
  troubles = [];
});
afterEach(async () => {
  for (const receipts of open.splice(0)) await receipts.close();
  rmSync(folder, { recursive: true, force: true });
});

async function start(options: Partial<ReceiptsOptions> = {}): Promise<Receipts> {
  const receipts = await Receipts.open({
    path: file,
    retention: { countMax: 1000, secondsMax: 86_400 },
    clock: new HandClock(),
    waitSeconds: 0,
    onWait: (message) => troubles.push(message),
    onTrouble: (message) => troubles.push(message),
    ...options,
  });
  open.push(receipts);
  return receipts;
}

test('a thread of its own keeps receipts beyond a restart', async () => {
  const first = await start();
  for (let n = 1; n <= 300; n++) first.issue(makeReceiptFacts(n), 'a');
  await first.close();
  expect(first.counts).toEqual({ issued: 300, written: 300, lost: 0, withheld: 0 });
  const second = await start();
  expect(second.signer.key).toBe(first.signer.key);
  const text = await second.find(makeReceiptFacts(300).id, 'a');
  const signed = readSignedReceipt(text!);
  await verifyReceipt(signed, second.signer.key);
  const { hash } = await second.head();
  const links = await second.links(1, 300);
  expect(await verifyReceiptChain(links, [signed], second.signer.key)).toBe(hash);
});

test('the thread says why it cannot keep them', async () => {
  await (await start()).close();
  writeFileSync(`${file}.key`, 'no key');
  await expect(start()).rejects.toMatchObject({ code: 'bad-key' });
});

test('a thread that dies takes no answer along', async () => {
  let worker: Worker | undefined;
  const startThread: ReceiptsOptions['startThread'] = (workerData) => {
    worker = new Worker(new URL('./receipts-worker.js', import.meta.url), { workerData });
    return worker;
  };
  const receipts = await start({ startThread });
  await worker!.terminate();
  expect(receipts.promise()).toBe(false);
  expect(troubles).toEqual([expect.stringContaining('receipts are no longer kept: ')]);
  expect((await start()).promise()).toBe(true);
});
