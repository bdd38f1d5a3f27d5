import { EventEmitter } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ReceiptFacts,
  type ReceiptLinks,
  readSignedReceipt,
  type SignedReceipt,
  verifyReceipt,
  verifyReceiptChain,
} from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { writeEarlierReceipts } from '../testing/earlier-receipts.ts';
import { HandClock } from '../testing/hand-clock.ts';
import { keepReceiptsHere } from '../testing/receipts-here.ts';
import { ReceiptsError } from './errors.ts';
import { keepReceipts } from './keeper.ts';
import type { FromBook, ToBook } from './messages.ts';
import { own } from './owner.ts';
import { Receipts, type ReceiptsOptions, type ReceiptsThread } from './receipts.ts';
import { signerFromFile } from './signing-key.ts';

let folder: string;
let file: string;
let troubles: string[];
let clock: HandClock;
const open: Receipts[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-'));
  file = join(folder, 'state/receipts.sqlite');
  troubles = [];
  clock = new HandClock();
});
afterEach(async () => {
  for (const receipts of open.splice(0)) await receipts.close();
  rmSync(folder, { recursive: true, force: true });
});

const HOUR = 3600;
const RETENTION = { countMax: 1000, secondsMax: 86_400 };

async function start(options: Partial<ReceiptsOptions> = {}): Promise<Receipts> {
  const receipts = await Receipts.open({
    path: file,
    retention: RETENTION,
    clock,
    waitSeconds: 0,
    onWait: (message) => troubles.push(message),
    onTrouble: (message) => troubles.push(message),
    startThread: keepReceiptsHere,
    ...options,
  });
  open.push(receipts);
  return receipts;
}

/** Says once that it is there, and is then in a call that does not return. */
function stuckThread(posted = (_: string) => {}): EventEmitter & ReceiptsThread {
  const stuck = new EventEmitter();
  setImmediate(() => stuck.emit('message', { kind: 'ready', key: 'k' }));
  const postMessage = ({ kind }: ToBook) => posted(kind);
  return Object.assign(stuck, { postMessage }) as never;
}

async function find(receipts: Receipts, { id }: ReceiptFacts, tenant = 'a') {
  const text = await receipts.find(id, tenant);
  return text === null ? null : readSignedReceipt(text);
}

describe.each([
  ['a file', () => file],
  ['memory', () => null],
])('receipts in %s', (_, path) => {
  it('are found by their tenant only, and verify', async () => {
    const receipts = await start({ path: path() });
    const facts = makeReceiptFacts(1);
    receipts.issue(facts, 'a');
    const signed = await find(receipts, facts);
    expect(signed?.receipt).toMatchObject({ ...facts, sequence: 1, previous: null });
    await verifyReceipt(signed!, receipts.signer.key);
    expect(await find(receipts, facts, 'b')).toBeNull();
    expect(await find(receipts, makeReceiptFacts(2))).toBeNull();
    expect(receipts.counts).toEqual({ issued: 1, written: 1, lost: 0, withheld: 0 });
  });

  it('form one chain however fast they come', async () => {
    const receipts = await start({ path: path() });
    for (let n = 1; n <= 20; n++) receipts.issue(makeReceiptFacts(n), 'a');
    const { sequence, hash } = await receipts.head();
    expect(sequence).toBe(20);
    const links = await receipts.links(1, 1000);
    const held = await Promise.all([1, 10, 20].map((n) => find(receipts, makeReceiptFacts(n))));
    const all = held as SignedReceipt[];
    expect(await verifyReceiptChain(links, all, receipts.signer.key)).toBe(hash);
    const piece = await receipts.links(9, 3);
    expect(piece.digests).toHaveLength(3);
    await verifyReceiptChain(piece, [all[1]!], receipts.signer.key);
  });

  it('are kept as many and as long as was asked for; the chain goes on', async () => {
    const retention = { countMax: 5, secondsMax: 2 * HOUR };
    const receipts = await start({ path: path(), retention });
    for (let n = 1; n <= 8; n++) receipts.issue(makeReceiptFacts(n), 'a');
    await receipts.head();
    expect(await find(receipts, makeReceiptFacts(3))).toBeNull();
    expect(await find(receipts, makeReceiptFacts(4))).not.toBeNull();
    clock.tick(HOUR);
    receipts.issue(makeReceiptFacts(9), 'a');
    clock.tick(HOUR);
    expect(await receipts.links(1, 100)).toMatchObject({ first: 5 });
    clock.tick(HOUR);
    const links = await receipts.links(1, 100);
    expect(links).toMatchObject({ first: 9 });
    const { hash } = await receipts.head();
    expect(await verifyReceiptChain(links, [], receipts.signer.key)).toBe(hash);
    clock.tick(HOUR);
    expect(await receipts.links(1, 100)).toEqual({ previous: hash, first: 10, digests: [] });
    receipts.issue(makeReceiptFacts(10), 'a');
    expect((await receipts.head()).sequence).toBe(10);
  });
});

describe('a file of receipts', () => {
  it('goes on after a restart, with the same key, readable by its owner only', async () => {
    const first = await start();
    first.issue(makeReceiptFacts(1), 'a');
    await first.close();
    expect(troubles).toEqual([]);
    const second = await start();
    expect(second.signer.key).toBe(first.signer.key);
    second.issue(makeReceiptFacts(2), 'a');
    const held = await Promise.all([1, 2].map((n) => find(second, makeReceiptFacts(n))));
    const links: ReceiptLinks = await second.links(1, 10);
    await verifyReceiptChain(links, held as SignedReceipt[], second.signer.key);
    expect(links.digests).toHaveLength(2);
    for (const path of [file, `${file}.key`, `${file}.head`])
      expect(statSync(path).mode & 0o077).toBe(0);
  });

  it('has one server at a time, by whatever name', async () => {
    const first = await start();
    symlinkSync(file, join(folder, 'link'));
    for (const path of [file, join(folder, 'link')]) {
      await expect(start({ path })).rejects.toMatchObject({ code: 'in-use' });
    }
    await first.close();
    const second = await start({ path: join(folder, 'link') });
    expect(second.signer.key).toBe(first.signer.key);
    expect(readdirSync(folder).sort()).toEqual(['link', 'state']);
  });

  it('is had by a server that waits until the one before it has written and ended', async () => {
    const first = await start();
    for (let n = 1; n <= 40; n++) first.issue(makeReceiptFacts(n), 'a');
    const next = start({ waitSeconds: 1e6 });
    await first.close();
    const second = await next;
    expect((await second.head()).sequence).toBe(40);
    expect(troubles).toEqual([expect.stringContaining('waiting up to 1000000 s')]);
  });

  it('goes on from an earlier version, also where that kept the key beside a link', async () => {
    const link = join(folder, 'link');
    const signer = signerFromFile(`${link}.key`, { mayMake: true });
    const real = join(folder, 'real');
    await writeEarlierReceipts(real, signer, { count: 5, missing: [2] });
    symlinkSync(real, link);
    const first = await start({ path: link });
    expect(first.signer.key).toBe(signer.key);
    expect((await first.head()).sequence).toBe(5);
    expect(await find(first, makeReceiptFacts(1))).not.toBeNull();
    first.issue(makeReceiptFacts(6), 'a');
    await first.close();
    const second = await start({ path: link });
    expect(await second.links(2, 10)).toMatchObject({ first: 3, digests: { length: 4 } });
    await second.close();
    // Under its own name the key is not found, and none is made.
    await expect(start({ path: real })).rejects.toThrow(`${real}.key, which signed the receipts`);
    expect(existsSync(`${real}.key`)).toBe(false);
    renameSync(`${link}.key`, `${real}.key`);
    // Beside the file itself is where it is looked for first.
    signerFromFile(`${link}.key`, { mayMake: true });
    const third = await start({ path: link });
    expect(third.signer.key).toBe(signer.key);
    await third.close();
    expect((await start({ path: real })).signer.key).toBe(signer.key);
  });

  it('that lost its tail is not gone on with', async () => {
    const first = await start();
    first.issue(makeReceiptFacts(1), 'a');
    await first.head();
    await first.close();
    copyFileSync(file, `${file}.copy`);
    const second = await start();
    for (let n = 2; n <= 60; n++) second.issue(makeReceiptFacts(n), 'a');
    await second.close();
    const { size } = statSync(file);
    truncateSync(file, size - 8192);
    await expect(start()).rejects.toMatchObject({ code: 'bad-file' });
    copyFileSync(`${file}.copy`, file);
    await expect(start()).rejects.toMatchObject({
      code: 'broken-tail',
      message: expect.stringContaining('ends at receipt 1, and its chain at 60'),
    });
    rmSync(file);
    await expect(start())
      .rejects.toMatchObject({ code: 'bad-key' })
      .catch(() => {});
    for (const ending of ['', '.key', '.head']) rmSync(`${file}${ending}`, { force: true });
    const { signer } = await start();
    expect(signer.key).not.toBe(first.signer.key);
  });

  it('keeps no more than is to be kept from its start on', async () => {
    const first = await start();
    for (let n = 1; n <= 5; n++) first.issue(makeReceiptFacts(n), 'a');
    await first.close();
    // Starting is no running: none is older than it was.
    const second = await start({ retention: { countMax: 2, secondsMax: 0 } });
    expect(await second.links(1, 9)).toMatchObject({ first: 4, digests: { length: 2 } });
  });

  it('is not opened where it is something else, and then left as it was', async () => {
    const text = join(folder, 'text');
    writeFileSync(text, 'no database at all, but long enough to be looked at as one'.repeat(99));
    await expect(start({ path: text })).rejects.toMatchObject({ code: 'bad-file' });
    await expect(start({ path: join(text, 'x') })).rejects.toMatchObject({ code: 'bad-file' });
    writeFileSync(text, '');
    const receipts = await start({ path: text });
    expect(receipts.path).toBe(text);
  });

  it('has its first key beside itself, by whatever name it is opened', async () => {
    const link = join(folder, 'link');
    symlinkSync(join(folder, 'real'), link);
    await start({ path: link });
    expect(existsSync(join(folder, 'real.key'))).toBe(true);
    expect(existsSync(`${link}.key`)).toBe(false);
  });

  it('is refused where nothing can be written beside it, and then let go', async () => {
    const first = await start();
    await first.close();
    mkdirSync(`${file}.head.next`);
    await expect(start()).rejects.toMatchObject({
      code: 'bad-file',
      message: expect.stringMatching(/^cannot use .*receipts\.sqlite: EISDIR/),
    });
    rmSync(`${file}.head.next`, { recursive: true });
    expect((await start()).signer.key).toBe(first.signer.key);
  });

  it('says where it ends before it says that it is open', async () => {
    let hadHead: boolean | undefined;
    const port = {
      postMessage: ({ kind }: FromBook) => {
        if (kind === 'ready') hadHead = existsSync(`${file}.head`);
      },
      on: () => {},
      close: () => {},
    };
    await own(file, { clock, waitSeconds: 0, onWait: () => {} });
    const data = { file: { path: file, givenPath: file }, retention: RETENTION };
    void keepReceipts(port, data);
    await expect.poll(() => hadHead).toBe(true);
  });

  it('is not signed with a key that others can read, or that is none', async () => {
    const first = await start();
    await first.close();
    chmodSync(`${file}.key`, 0o644);
    await expect(start()).rejects.toThrow('chmod 600');
    chmodSync(`${file}.key`, 0o600);
    writeFileSync(`${file}.key`, 'no key');
    await expect(start()).rejects.toMatchObject({ code: 'bad-key' });
    for (const ending of ['.key', '.head']) rmSync(`${file}${ending}`);
    expect((await start()).signer.key).not.toBe(first.signer.key);
  });
});

describe('receipts that cannot be kept are not opened', () => {
  const FAILED = 'receipts cannot be kept: ';
  test.each([
    ['refused', 'message', { kind: 'refused', code: 'bad-file', message: 'no' }, 'bad-file', 'no'],
    ['failing', 'error', new Error('no memory'), 'failed', `${FAILED}no memory`],
    ['ending', 'exit', 0, 'failed', `${FAILED}its thread ended`],
    ['lost', 'message', { kind: 'answer', ask: 1 }, 'failed', `${FAILED}its thread ended`],
  ])('by a thread %s', async (_, event, what, code, message) => {
    const startThread = () => {
      const thread = new EventEmitter();
      setImmediate(() => thread.emit(event, what));
      return Object.assign(thread, { postMessage: () => {} }) as never;
    };
    for (const path of [null, file]) {
      const opening = start({ path, startThread });
      await expect(opening).rejects.toBeInstanceOf(ReceiptsError);
      const cause = event === 'error' ? { cause: what } : {};
      await expect(opening).rejects.toMatchObject({ code, message, ...cause });
    }
    expect(clock.repeats).toBe(0);
    // The file is let go of.
    expect((await start()).counts.issued).toBe(0);
  });
});

test('other statements are signed with the key of the receipts', async () => {
  const { signer } = await start({ path: null });
  const message = new TextEncoder().encode('a statement');
  const key = await crypto.subtle.importKey(
    'raw',
    Buffer.from(signer.key, 'hex'),
    { name: 'Ed25519' },
    false,
    ['verify'],
  );
  const signature = await signer.sign(message);
  expect(await crypto.subtle.verify('Ed25519', key, signature, message)).toBe(true);
});

describe('an answer is promised a receipt', () => {
  it('unless too many wait', async () => {
    const receipts = await start({ path: null, pendingMax: 2 });
    const promises = [1, 2, 3].map((n) => {
      const isPromised = receipts.promise();
      if (isPromised) receipts.issue(makeReceiptFacts(n), 'a');
      return isPromised;
    });
    expect(promises).toEqual([true, true, false]);
    expect((await receipts.head()).sequence).toBe(2);
    expect(receipts.counts).toEqual({ issued: 2, written: 2, lost: 0, withheld: 1 });
    expect(receipts.promise()).toBe(true);
    expect(troubles).toEqual([]);
  });

  it('while no more than 16,384 wait, unless asked otherwise', async () => {
    const posted: string[] = [];
    const startThread = () => stuckThread((kind) => posted.push(kind));
    const receipts = await start({ path: null, startThread });
    const facts = makeReceiptFacts(1);
    for (let n = 1; n < 16_384; n++) receipts.issue(facts, 'a');
    expect(receipts.promise()).toBe(true);
    receipts.issue(facts, 'a');
    expect(receipts.promise()).toBe(false);
    const closed = receipts.close();
    for (let second = 0; second < 31; second++) clock.tick(1);
    await closed;
    await receipts.close();
    expect(posted.filter((kind) => kind === 'close')).toHaveLength(1);
    expect(receipts.counts).toEqual({ issued: 16_384, written: 0, lost: 16_384, withheld: 1 });
  });

  it('that is kept although more wait by then', async () => {
    const receipts = await start({ path: null, pendingMax: 1 });
    for (let n = 1; n <= 20; n++) receipts.issue(makeReceiptFacts(n), 'a');
    expect((await receipts.head()).sequence).toBe(20);
    expect(receipts.counts).toEqual({ issued: 20, written: 20, lost: 0, withheld: 0 });
  });

  it('unless its file is gone, and again once it is back', async () => {
    const receipts = await start();
    expect(receipts.promise()).toBe(true);
    renameSync(file, `${file}.away`);
    receipts.issue(makeReceiptFacts(1), 'a');
    await receipts.head();
    expect(receipts.promise()).toBe(false);
    expect(receipts.counts).toEqual({ issued: 1, written: 0, lost: 0, withheld: 1 });
    clock.tick(1);
    await receipts.head();
    const waits =
      'receipts cannot be written, and wait; answers name none until they can: ' +
      `${file} was moved, deleted or replaced`;
    expect(troubles).toEqual([waits]);
    renameSync(`${file}.away`, file);
    clock.tick(1);
    await receipts.head();
    expect(troubles).toEqual([waits, 'receipts are written again']);
    expect(receipts.promise()).toBe(true);
    expect(await find(receipts, makeReceiptFacts(1))).not.toBeNull();
    expect(receipts.counts).toEqual({ issued: 1, written: 1, lost: 0, withheld: 1 });
  });

  it('unless receipts have ended; what was promised and not kept is counted', async () => {
    const receipts = await start();
    expect(clock.repeats).toBe(2);
    renameSync(file, `${file}.away`);
    receipts.issue(makeReceiptFacts(1), 'a');
    const closing = receipts.close();
    expect(receipts.promise()).toBe(false);
    await expect(receipts.head()).rejects.toMatchObject({ code: 'failed' });
    await closing;
    await receipts.close();
    expect(clock.repeats).toBe(0);
    expect(receipts.promise()).toBe(false);
    receipts.issue(makeReceiptFacts(2), 'a');
    expect(receipts.counts).toEqual({ issued: 2, written: 0, lost: 2, withheld: 2 });
    expect(troubles.at(-1)).toBe('receipts are being lost: see the metrics');
    expect(troubles).toHaveLength(2);
    await expect(receipts.find('x', 'a')).rejects.toBeInstanceOf(ReceiptsError);
  });

  it('whatever was asked that could not be read', async () => {
    const receipts = await start();
    // As of a disk that fails: SQLite cannot take it.
    const failed = { code: 'failed', message: expect.stringContaining('cannot be read now') };
    await expect(receipts.find({} as never, 'a')).rejects.toMatchObject(failed);
    expect(receipts.promise()).toBe(true);
    receipts.issue(makeReceiptFacts(1), 'a');
    expect((await receipts.head()).sequence).toBe(1);
  });

  it('unless the thread that keeps them has died, and what asked it is answered', async () => {
    let thread: ReceiptsThread | undefined;
    const receipts = await start({
      startThread: (data) => {
        thread = keepReceiptsHere(data);
        return thread;
      },
    });
    const gone = {
      code: 'failed',
      message: 'the thread that keeps the receipts is gone',
    };
    receipts.issue(makeReceiptFacts(1), 'a');
    await receipts.head();
    receipts.issue(makeReceiptFacts(2), 'a');
    const asked = [receipts.find('y', 'a'), receipts.find('x', 'a')];
    const died = thread as unknown as EventEmitter & ReceiptsThread;
    died.emit('error', new Error('it ran out of memory'));
    // Nothing more is heard of it but its end.
    died.removeAllListeners('message');
    died.postMessage({ kind: 'close' });
    for (const each of asked) await expect(each).rejects.toMatchObject(gone);
    expect(receipts.promise()).toBe(false);
    expect(receipts.counts).toMatchObject({ issued: 2, withheld: 1 });
    expect(receipts.counts.written + receipts.counts.lost).toBe(2);
    await receipts.close();
    const ends = troubles.filter((text) => text.startsWith('receipts are no longer kept: '));
    expect(ends).toHaveLength(1);
    expect(ends[0]).not.toContain('its thread ended');
    expect(clock.repeats).toBe(0);
    // The next server goes on where the chain ends.
    expect((await start()).counts.issued).toBe(0);
  });

  it('are withheld while the disk does not answer, and not waited for at the end', async () => {
    let stuck!: EventEmitter;
    const startThread = () => {
      const thread = stuckThread();
      stuck = thread;
      return thread;
    };
    const receipts = await start({ path: null, startThread });
    const says = (written: number) => {
      stuck.emit('message', { kind: 'wrote', result: { written, trouble: null } });
    };
    receipts.issue(makeReceiptFacts(1), 'a');
    for (let second = 0; second < 15; second++) clock.tick(1);
    expect(receipts.promise()).toBe(true);
    clock.tick(1);
    expect(receipts.promise()).toBe(false);
    // However long it takes while the server runs.
    for (let second = 0; second < 40; second++) clock.tick(1);
    expect(troubles.splice(0)).toEqual([expect.stringContaining('the disk does not answer')]);
    // It came back, and is gone again.
    says(1);
    clock.tick(1);
    expect([receipts.promise(), troubles.splice(0)]).toEqual([
      true,
      ['receipts are written again'],
    ]);
    // Whoever asked that is no longer there.
    for (const kind of ['answer', 'unanswered']) stuck.emit('message', { kind, ask: 99 });
    receipts.issue(makeReceiptFacts(2), 'a');
    const closed = receipts.close();
    for (let second = 0; second < 31; second++) clock.tick(1);
    await closed;
    expect(receipts.counts).toEqual({ issued: 2, written: 1, lost: 1, withheld: 1 });
    expect(troubles.at(-1)).toBe('receipts are being lost: see the metrics');
    expect(clock.repeats).toBe(0);
  });
});
