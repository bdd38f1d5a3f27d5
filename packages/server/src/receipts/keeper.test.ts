import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import sqlite from 'node-sqlite3-wasm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from '../testing/until.ts';
import { keepReceipts } from './keeper.ts';
import type { FromBook, ReceiptsThreadData, ToBook } from './messages.ts';
import { ownNow } from './owner.ts';
import { ReceiptStore } from './store.ts';

const retention = { countMax: 100, secondsMax: 1e6 };
const MEMORY: ReceiptsThreadData = { file: null, retention };
let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'keeper-'));
  file = join(folder, 'receipts.sqlite');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A keeper at the other end of this, which hears all that it says. */
class Port {
  readonly heard: FromBook[] = [];
  isClosed = false;
  say: (message: ToBook) => void = () => {};
  readonly ended: Promise<void>;

  constructor(data: ReceiptsThreadData, hear = (_: FromBook) => {}) {
    this.ended = keepReceipts(
      {
        postMessage: (message) => {
          this.heard.push(message);
          hear(message);
        },
        on: (_, listener) => {
          this.say = listener;
        },
        close: () => {
          this.isClosed = true;
        },
      },
      data,
    );
    this.ended.catch(() => {});
  }

  get kinds(): string[] {
    return this.heard.map(({ kind }) => kind);
  }

  async hears(count: number): Promise<void> {
    await until('it was heard', () => this.heard.length >= count);
  }
}

const draft = (n: number) => ({ facts: makeReceiptFacts(n), tenant: 'a' });
const wrote = (written: number) => ({ kind: 'wrote', result: { written, trouble: null } });

/** The descriptors of this process that are open on the file. */
function descriptorsOn(path: string): number {
  if (process.platform !== 'linux') return 0;
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      // The one of the folder itself is closed by now.
      return false;
    }
  }).length;
}

test('every message is answered once, and what comes together is written together', async () => {
  const port = new Port(MEMORY);
  await port.hears(2);
  const [ready] = port.heard as [FromBook & { kind: 'ready' }];
  for (const n of [1, 2, 3]) port.say({ kind: 'issue', draft: draft(n) });
  await port.hears(3);
  port.say({ kind: 'write' });
  await port.hears(4);
  port.say({ kind: 'age', seconds: 1 });
  await port.hears(5);
  // Another has the file: nothing moves, and nothing is said.
  const owned = ownNow(file)!;
  port.say({ kind: 'move', path: file, retention });
  port.say({ kind: 'ask', ask: 7, question: { kind: 'head', key: ready.key } });
  await port.hears(6);
  owned.release();
  port.say({ kind: 'close' });
  await port.ended;
  expect(port.heard).toEqual([
    { kind: 'ready', key: expect.stringMatching(/^[0-9a-f]{64}$/) },
    wrote(0),
    wrote(3),
    wrote(0),
    wrote(0),
    { kind: 'answer', ask: 7, value: { sequence: 3, hash: expect.any(String) } },
    wrote(0),
  ]);
  expect(port.isClosed).toBe(true);
});

test('a keeper that cannot open its file says so, and lets go of it and of its port', async () => {
  writeFileSync(`${file}.key`, 'no key', { mode: 0o600 });
  const port = new Port({ file: { path: file, givenPath: file }, retention });
  await port.ended;
  expect(port.heard).toEqual([
    { kind: 'refused', code: 'bad-key', message: expect.stringContaining(`${file}.key`) },
  ]);
  expect([port.isClosed, descriptorsOn(file)]).toEqual([true, 0]);
});

test('a keeper that can no longer answer ends with the reason', async () => {
  const port = new Port(MEMORY, ({ kind }) => {
    if (kind === 'wrote') throw new Error('the port is gone');
  });
  await expect(port.ended).rejects.toThrow('the port is gone');
});

test('a keeper that closes lets go of the file that it moved to', async () => {
  const port = new Port(MEMORY);
  await port.hears(2);
  port.say({ kind: 'move', path: file, retention });
  await port.hears(3);
  expect(ownNow(file)).toBeNull();
  port.say({ kind: 'close' });
  await port.ended;
  expect(port.kinds).toEqual(['ready', 'wrote', 'moved', 'wrote']);
  expect([file, folder].map(descriptorsOn)).toEqual([0, 0]);
  ownNow(file)!.release();
});

test('what a keeper moved to is its file, and it moves to no other', async () => {
  const port = new Port(MEMORY);
  await port.hears(2);
  for (const path of [file, `${file}2`]) port.say({ kind: 'move', path, retention });
  port.say({ kind: 'write' });
  await port.hears(4);
  expect(port.kinds).toEqual(['ready', 'wrote', 'moved', 'wrote']);
  expect(readdirSync(folder)).not.toContain('receipts.sqlite2');
  port.say({ kind: 'close' });
  await port.ended;
});

test('why a keeper cannot move is said by its code', async () => {
  const port = new Port(MEMORY);
  await port.hears(2);
  writeFileSync(`${file}.key`, 'no key', { mode: 0o600 });
  port.say({ kind: 'move', path: file, retention });
  await port.hears(3);
  expect(port.heard[2]).toMatchObject({ kind: 'refused', code: 'bad-key' });
  port.say({ kind: 'close' });
  await port.ended;
});

test('what a file has by now is not written to it again', async () => {
  const first = new Port(MEMORY);
  const second = new Port(MEMORY);
  for (const port of [first, second]) {
    await port.hears(2);
    port.say({ kind: 'issue', draft: draft(1) });
    port.say({ kind: 'move', path: file, retention });
    await port.hears(4);
    port.say({ kind: 'close' });
    await port.ended;
  }
  expect(second.heard[3]).toMatchObject({ kind: 'moved', path: file, count: 1 });
  const store = new ReceiptStore(file);
  expect(store.head().sequence).toBe(1);
  store.close();
});

test('receipts stay where they are when the file takes none, and it is let go of', async () => {
  const before = new Port(MEMORY);
  await before.hears(2);
  before.say({ kind: 'move', path: file, retention });
  await before.hears(3);
  before.say({ kind: 'close' });
  await before.ended;
  const database = new sqlite.Database(file);
  const raise = "SELECT RAISE(ABORT, 'disk full')";
  database.exec(`CREATE TRIGGER full BEFORE INSERT ON receipts BEGIN ${raise}; END`);
  database.close();

  const port = new Port(MEMORY);
  await port.hears(2);
  port.say({ kind: 'issue', draft: draft(1) });
  port.say({ kind: 'move', path: file, retention });
  await port.hears(4);
  expect(port.heard[3]).toMatchObject({ kind: 'refused', code: 'bad-file', message: 'disk full' });
  expect(descriptorsOn(file)).toBe(0);
  ownNow(file)!.release();
  const { id } = draft(1).facts;
  port.say({ kind: 'ask', ask: 1, question: { kind: 'find', id, tenant: 'a' } });
  await port.hears(5);
  expect(port.heard[4]).toMatchObject({ kind: 'answer', value: expect.stringContaining(id) });
  port.say({ kind: 'close' });
  await port.ended;
});
