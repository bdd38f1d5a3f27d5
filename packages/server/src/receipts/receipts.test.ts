import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
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
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../testing/until.ts';
import { ReceiptBook } from './book.ts';
import { ReceiptsError } from './errors.ts';
import { own } from './owner.ts';
import { Receipts, type ReceiptsOptions } from './receipts.ts';
import { ephemeralSigner, signerFromFile } from './signing-key.ts';
import { ReceiptStore } from './store.ts';

let folder: string;
let file: string;
let troubles: string[];
const open: Receipts[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipts-'));
  file = join(folder, 'state/receipts.sqlite');
  troubles = [];
});
afterEach(async () => {
  for (const receipts of open.splice(0)) await receipts.close();
  rmSync(folder, { recursive: true, force: true });
});

const NOW = makeReceiptFacts(0).createdAt;

async function start(options: Partial<ReceiptsOptions> = {}): Promise<Receipts> {
  const receipts = await Receipts.open({
    path: file,
    retention: { countMax: 1000, secondsMax: 86_400 },
    nowSeconds: NOW,
    onTrouble: (message) => troubles.push(message),
    ...options,
  });
  open.push(receipts);
  return receipts;
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
    expect(receipts.counts).toEqual({ issued: 1, written: 1, lost: 0 });
  });

  it('form one chain however fast they come', async () => {
    const receipts = await start({ path: path() });
    for (let n = 1; n <= 600; n++) receipts.issue(makeReceiptFacts(n), 'a');
    const { sequence, hash } = await receipts.head();
    expect(sequence).toBe(600);
    const links = await receipts.links(1, 1000);
    const held = await Promise.all([1, 300, 600].map((n) => find(receipts, makeReceiptFacts(n))));
    const all = held as SignedReceipt[];
    expect(await verifyReceiptChain(links, all, receipts.signer.key)).toBe(hash);
    const piece = await receipts.links(299, 3);
    expect(piece.digests).toHaveLength(3);
    await verifyReceiptChain(piece, [all[1]!], receipts.signer.key);
  });

  it('are kept as many and as long as was asked for; the chain goes on', async () => {
    const receipts = await start({ path: path(), retention: { countMax: 5, secondsMax: 100 } });
    for (let n = 1; n <= 8; n++) receipts.issue(makeReceiptFacts(n), 'a');
    await receipts.head();
    expect(await find(receipts, makeReceiptFacts(3))).toBeNull();
    expect(await find(receipts, makeReceiptFacts(4))).not.toBeNull();
    receipts.prune(NOW + 106);
    expect(await find(receipts, makeReceiptFacts(5))).toBeNull();
    const links = await receipts.links(1, 100);
    expect(links).toMatchObject({ first: 6 });
    const { hash } = await receipts.head();
    expect(await verifyReceiptChain(links, [], receipts.signer.key)).toBe(hash);
    receipts.prune(NOW + 1000);
    expect(await receipts.links(1, 100)).toEqual({ previous: hash, first: 9, digests: [] });
    receipts.issue(makeReceiptFacts(9), 'a');
    expect((await receipts.head()).sequence).toBe(9);
  });
});

describe('a file of receipts', () => {
  it('goes on after a restart, with the same key, readable by its owner only', async () => {
    const first = await start();
    first.issue(makeReceiptFacts(1), 'a');
    await first.close();
    const second = await start();
    expect(second.signer.key).toBe(first.signer.key);
    second.issue(makeReceiptFacts(2), 'a');
    const held = await Promise.all([1, 2].map((n) => find(second, makeReceiptFacts(n))));
    const links: ReceiptLinks = await second.links(1, 10);
    await verifyReceiptChain(links, held as SignedReceipt[], second.signer.key);
    expect(links.digests).toHaveLength(2);
    for (const path of [file, `${file}.key`]) expect(statSync(path).mode & 0o077).toBe(0);
  });

  it('belongs to one process at a time, and is taken over from a dead one', async () => {
    const first = await start();
    await expect(start()).rejects.toMatchObject({ code: 'in-use' });
    await first.close();
    // What a process that was killed in the middle of a write leaves.
    writeFileSync(`${file}.owner`, `${process.pid} 1 another-boot`);
    mkdirSync(`${file}.lock`);
    const second = await start();
    second.issue(makeReceiptFacts(1), 'a');
    expect(await find(second, makeReceiptFacts(1))).not.toBeNull();
    await second.close();
    expect(existsSync(`${file}.owner`)).toBe(false);
  });

  it('is not opened where it is something else, and then left as it was', async () => {
    const text = join(folder, 'text');
    writeFileSync(text, 'no database at all, but long enough to be looked at as one'.repeat(99));
    await expect(start({ path: text })).rejects.toMatchObject({ code: 'bad-file' });
    await expect(start({ path: join(text, 'x') })).rejects.toMatchObject({ code: 'bad-file' });
    expect(existsSync(`${text}.owner`)).toBe(false);
  });

  it('is not signed with a key that others can read, or that is none', async () => {
    const first = await start();
    await first.close();
    chmodSync(`${file}.key`, 0o644);
    await expect(start()).rejects.toThrow('chmod 600');
    chmodSync(`${file}.key`, 0o600);
    writeFileSync(`${file}.key`, 'no key');
    await expect(start()).rejects.toMatchObject({ code: 'bad-key' });
    expect(existsSync(`${file}.owner`)).toBe(false);
  });
});

describe('trouble', () => {
  /** A book over a store whose writes fail while `isFull`. */
  class FullStore extends ReceiptStore {
    isFull = true;

    override append(rows: Parameters<ReceiptStore['append']>[0]): void {
      if (this.isFull) throw new Error('disk is full');
      super.append(rows);
    }
  }

  it('with the disk leaves drafts waiting, and no gap in the chain', async () => {
    const store = new FullStore(null);
    const retention = { countMax: 10_000, secondsMax: 86_400 };
    const book = new ReceiptBook({ store, signer: ephemeralSigner(), retention });
    for (let n = 1; n <= 600; n++) book.add({ facts: makeReceiptFacts(n), tenant: 'a' });
    expect(await book.write()).toEqual({ written: 0, trouble: 'disk is full' });
    expect(book.head).toEqual({ sequence: 0, hash: null });
    store.isFull = false;
    book.add({ facts: makeReceiptFacts(601), tenant: 'a' });
    expect(await book.write()).toEqual({ written: 601, trouble: null });
    expect(book.head.sequence).toBe(601);
    expect(store.links(1, 1000).digests).toHaveLength(601);
    store.close();
  });

  it('with the pace costs what is beyond the bound, and is told once', async () => {
    const receipts = await start({ path: null, pendingMax: 4 });
    for (let n = 1; n <= 10; n++) receipts.issue(makeReceiptFacts(n), 'a');
    expect((await receipts.head()).sequence).toBe(4);
    expect(receipts.counts).toEqual({ issued: 10, written: 4, lost: 6 });
    expect(troubles).toHaveLength(1);
    receipts.issue(makeReceiptFacts(11), 'a');
    expect((await receipts.head()).sequence).toBe(5);
  });

  it('with the thread costs receipts and nothing else', async () => {
    const receipts = await start({ path: null });
    await receipts.close();
    receipts.issue(makeReceiptFacts(1), 'a');
    expect(receipts.counts).toEqual({ issued: 1, written: 0, lost: 1 });
    expect(troubles).toHaveLength(1);
    await expect(receipts.find('x', 'a')).rejects.toBeInstanceOf(ReceiptsError);
  });
});

it('a mark of the same process is a mark of the living', () => {
  const giveBack = own(join(folder, 'x'));
  expect(() => own(join(folder, 'x'))).toThrow(`in use by process ${process.pid}`);
  giveBack();
  own(join(folder, 'x'))();
});

const isLinux = process.platform === 'linux';
it.runIf(isLinux)('a mark of a process that is dead and still listed is taken over', async () => {
  const mark = join(folder, 'x.owner');
  // The shell's child stays a zombie: what the shell becomes does not wait for it.
  const script = 'sleep 60 & echo $!; exec sleep 60';
  const shell = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const [said] = (await once(shell.stdout, 'data')) as [Buffer];
    const pid = Number(said.toString());
    const stat = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    writeFileSync(mark, `${pid} ${stat()[19]} ${boot}`);
    expect(() => own(join(folder, 'x'))).toThrow(`in use by process ${pid}`);
    // Before that, the shell would still notice its child's end.
    const comm = () => readFileSync(`/proc/${shell.pid}/comm`, 'utf8').trim();
    await until('the shell is another program', () => comm() === 'sleep');
    process.kill(pid, 'SIGKILL');
    await until('the child is a zombie', () => stat()[0] === 'Z');
    own(join(folder, 'x'))();
  } finally {
    shell.kill('SIGKILL');
  }
});

it('a key is made once', () => {
  const path = join(folder, 'key');
  expect(signerFromFile(path).key).toBe(signerFromFile(path).key);
});
