import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UsageError } from '../settings/resolve.ts';
import { HandClock } from '../testing/hand-clock.ts';
import { defaultReceiptsFile, openReceipts, retentionOf } from './open.ts';
import type { Receipts } from './receipts.ts';

let folder: string;
let lines: string[];
let clock: HandClock;
const opened: Receipts[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-open-'));
  lines = [];
  clock = new HandClock();
});
afterEach(async () => {
  for (const receipts of opened.splice(0)) await receipts.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(
  receipts: string,
  {
    defaultFile = undefined as string | undefined,
    receiptsMax = 100,
    receiptsDays = 2,
    shutdownTimeout = 0,
  } = {},
) {
  const sink = new Writable({
    write: (line, _encoding, done) => {
      lines.push(String(line));
      done();
    },
  });
  const settings = { receipts, receiptsMax, receiptsDays, shutdownTimeout };
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
  await expect(open(file)).rejects.toThrow(/^--receipts: cannot open /);
  expect((await open('auto', { defaultFile: file }))?.path).toBeNull();
  expect(lines.join('')).toContain('receipts are kept in memory and end with this process');
});

test('receipts are kept for days of running, up to the number set', async () => {
  const two = (await open('memory', { receiptsMax: 2 }))!;
  const facts = [1, 2, 3].map((n) => makeReceiptFacts(n));
  for (const each of facts) two.issue(each, 'a');
  const kept = async () =>
    Promise.all(facts.map(async ({ id }) => (await two.find(id, 'a')) !== null));
  expect(await kept()).toEqual([false, true, true]);
  for (let hour = 0; hour < 48; hour++) clock.tick(3600);
  expect(await kept()).toEqual([false, true, true]);
  clock.tick(3600);
  expect(await kept()).toEqual([false, false, false]);
});

test('in memory no more than 10,000 are kept, however many may be', () => {
  const settings = { receiptsMax: 1e9, receiptsDays: 3 };
  const seconds = { secondsMax: 3 * 86_400 };
  const inMemory = (receiptsMax: number) =>
    retentionOf({ ...settings, receiptsMax }, { isInMemory: true });
  expect(inMemory(1e9)).toEqual({ countMax: 10_000, ...seconds });
  expect(inMemory(10_001)).toEqual({ countMax: 10_000, ...seconds });
  expect(inMemory(9_999)).toEqual({ countMax: 9_999, ...seconds });
  expect(retentionOf(settings, { isInMemory: false })).toEqual({ countMax: 1e9, ...seconds });
});

test('a file in use is waited for as long as its server may take to shut down', async () => {
  const file = join(folder, 'receipts.sqlite');
  await open(file);
  const patience = { shutdownTimeout: 7, defaultFile: file };
  await expect(open(file, patience)).rejects.toThrow(
    `--receipts: ${file} is in use by another process`,
  );
  expect(clock.nowNs()).toBe(7e9);
  expect(lines.splice(0).join('')).toContain('waiting up to 7 s for it');
  expect((await open('auto', { ...patience, shutdownTimeout: 1e6 }))?.path).toBeNull();
  // Nobody asked for that file, which may be another server's for good.
  expect(clock.nowNs()).toBe(7e9 + 5e9);
  expect(lines.join('')).toContain('receipts are kept in memory until that lets go of it');
});

test('trouble is told in the log', async () => {
  const file = join(folder, 'receipts.sqlite');
  const receipts = (await open(file))!;
  rmSync(file);
  clock.tick(1);
  await receipts.head();
  expect(JSON.parse(lines.join(''))).toMatchObject({
    level: 50,
    msg: expect.stringContaining('receipts cannot be written'),
  });
});

test('the usual file is in the state folder', () => {
  const file = 'bridgekeeper/receipts.sqlite';
  expect(defaultReceiptsFile({ XDG_STATE_HOME: '/state' })).toBe(`/state/${file}`);
  for (const none of [{}, { XDG_STATE_HOME: '' }]) {
    expect(defaultReceiptsFile(none)).toBe(join(homedir(), '.local/state', file));
  }
});
