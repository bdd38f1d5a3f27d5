import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HOST_CLOCK } from '../host-clock.ts';
import { UsageError } from '../settings/resolve.ts';
import { defaultReceiptsFile, openReceipts } from './open.ts';
import type { Receipts } from './receipts.ts';

let folder: string;
let lines: string[];
const opened: Receipts[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-open-'));
  lines = [];
});
afterEach(async () => {
  for (const receipts of opened.splice(0)) await receipts.close();
  rmSync(folder, { recursive: true, force: true });
});

const NOW = makeReceiptFacts(0).createdAt;

async function open(
  receipts: string,
  { defaultFile = undefined as string | undefined, receiptsMax = 100, receiptsDays = 2 } = {},
) {
  const sink = new Writable({
    write: (line, _encoding, done) => {
      lines.push(String(line));
      done();
    },
  });
  const clock = { ...HOST_CLOCK, unixSeconds: () => NOW };
  const settings = { receipts, receiptsMax, receiptsDays };
  const result = await openReceipts(settings, { defaultFile, log: pino(sink), clock });
  if (result !== null) opened.push(result);
  return result;
}

test('receipts are kept where the setting says', async () => {
  const file = join(folder, 'receipts.sqlite');
  expect(await open('off', { defaultFile: file })).toBeNull();
  expect((await open('memory', { defaultFile: file }))?.path).toBeNull();
  expect((await open('auto'))?.path).toBeNull();
  expect((await open('auto', { defaultFile: file }))?.path).toBe(file);
  expect((await open(join(folder, 'other')))?.path).toBe(join(folder, 'other'));
  expect(lines).toEqual([]);
});

test('a file that cannot be had is refused where it is set, else done without', async () => {
  const text = join(folder, 'text');
  writeFileSync(text, 'no folder');
  const file = join(text, 'receipts.sqlite');
  await expect(open(file)).rejects.toBeInstanceOf(UsageError);
  await expect(open(file)).rejects.toThrow(/^--receipts: cannot make /);
  expect((await open('auto', { defaultFile: file }))?.path).toBeNull();
  expect(lines.join('')).toContain('receipts are kept in memory and end with this process');
});

test('receipts are kept for days, up to the number set, in memory up to 10,000', async () => {
  const two = (await open('memory', { receiptsMax: 2 }))!;
  const facts = [1, 2, 3].map((n) => makeReceiptFacts(n));
  for (const each of facts) two.issue(each, 'a');
  const kept = async () =>
    Promise.all(facts.map(async ({ id }) => (await two.find(id, 'a')) !== null));
  expect(await kept()).toEqual([false, true, true]);
  const last = facts[2]!.createdAt;
  two.prune(last + 2 * 86_400);
  expect(await kept()).toEqual([false, false, true]);
  two.prune(last + 2 * 86_400 + 1);
  expect(await kept()).toEqual([false, false, false]);
});

test('the usual file is in the state folder', () => {
  const file = 'bridgekeeper/receipts.sqlite';
  expect(defaultReceiptsFile({ XDG_STATE_HOME: '/state' })).toBe(`/state/${file}`);
  for (const none of [{}, { XDG_STATE_HOME: '' }]) {
    expect(defaultReceiptsFile(none)).toBe(join(homedir(), '.local/state', file));
  }
});
