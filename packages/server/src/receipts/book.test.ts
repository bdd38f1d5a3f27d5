import type { ChainHead, SignedHead } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ReceiptBook } from './book.ts';
import { ephemeralSigner } from './signing-key.ts';
import { ReceiptStore, type Retention } from './store.ts';

/** A store whose writes fail while `isFull`. */
class FullStore extends ReceiptStore {
  isFull = false;
  batches: number[] = [];

  override append(rows: Parameters<ReceiptStore['append']>[0]): void {
    if (this.isFull) throw new Error('disk is full');
    this.batches.push(rows.length);
    super.append(rows);
  }

  override age(seconds: number): void {
    if (this.isFull) throw new Error('disk is full');
    super.age(seconds);
  }
}

let store: FullStore;
let heads: number[];
let headTrouble: string | null;

beforeEach(() => {
  store = new FullStore(null);
  heads = [];
  headTrouble = null;
});
afterEach(() => store.close());

function open(retention: Retention = { countMax: 10_000, secondsMax: 86_400 }): ReceiptBook {
  const write = ({ head }: SignedHead) => {
    if (headTrouble !== null) throw new Error(headTrouble);
    heads.push(head.sequence);
  };
  return new ReceiptBook({ store, signer: ephemeralSigner(), retention, heads: { write } });
}

function add(book: ReceiptBook, first: number, last = first): void {
  for (let n = first; n <= last; n++) book.add({ facts: makeReceiptFacts(n), tenant: 'a' });
}

const EMPTY: ChainHead = { sequence: 0, hash: null };

test('trouble with the disk leaves drafts waiting, and no gap in the chain', async () => {
  const book = open();
  store.isFull = true;
  add(book, 1, 600);
  expect(await book.write()).toEqual({ written: 0, trouble: 'disk is full' });
  expect(book.head).toEqual(EMPTY);
  store.isFull = false;
  add(book, 601);
  expect(await book.write()).toEqual({ written: 601, trouble: null });
  expect(book.head.sequence).toBe(601);
  expect(store.links(1, 1000).digests).toHaveLength(601);
});

test('a head is signed behind each batch, and once', async () => {
  const book = open();
  add(book, 1, 600);
  await book.write();
  expect(store.batches).toEqual([256, 256, 88]);
  expect(heads).toEqual([0, 256, 512, 600]);
  await book.write();
  expect(heads).toHaveLength(4);
});

test('no batch is written while the head of the last one is not', async () => {
  const book = open();
  await book.write();
  headTrouble = 'no head';
  add(book, 1, 600);
  expect(await book.write()).toEqual({ written: 256, trouble: 'no head' });
  expect(await book.write()).toEqual({ written: 0, trouble: 'no head' });
  expect(store.batches).toEqual([256]);
  headTrouble = null;
  expect(await book.write()).toEqual({ written: 344, trouble: null });
  expect(heads).toEqual([0, 256, 512, 600]);
});

test('what need not be kept is deleted behind each write, and with age', async () => {
  const book = open({ countMax: 3, secondsMax: 100 });
  add(book, 1, 5);
  await book.write();
  expect(store.links(1, 10)).toMatchObject({ first: 3, digests: { length: 3 } });
  expect(await book.age(60)).toEqual({ written: 0, trouble: null });
  add(book, 6);
  expect(await book.age(40)).toEqual({ written: 1, trouble: null });
  expect(store.links(1, 10).first).toBe(4);
  await book.age(1);
  // The sixth was written before the 40 seconds were counted.
  expect(store.links(1, 10).first).toBe(6);
});

test('trouble with ageing is told, and costs nothing', async () => {
  const book = open({ countMax: 3, secondsMax: 0 });
  add(book, 1);
  await book.write();
  store.isFull = true;
  expect(await book.age(60)).toEqual({ written: 0, trouble: 'disk is full' });
  expect(store.links(1, 10).digests).toHaveLength(1);
  add(book, 2);
  store.isFull = false;
  headTrouble = 'no head';
  // Nothing is deleted while the head is behind: it could not be held against what is left.
  expect(await book.age(60)).toEqual({ written: 1, trouble: 'no head' });
  expect(store.links(1, 10).digests).toHaveLength(2);
});

test('a file that was moved away is told also where nothing waits', async () => {
  const book = open();
  store.check = () => {
    throw new Error('it was moved');
  };
  expect(await book.write()).toEqual({ written: 0, trouble: 'it was moved' });
});

test('in memory there is no head to be signed', async () => {
  const retention = { countMax: 10, secondsMax: 10 };
  const book = new ReceiptBook({ store, signer: ephemeralSigner(), retention, heads: null });
  add(book, 1);
  expect(await book.write()).toEqual({ written: 1, trouble: null });
});
