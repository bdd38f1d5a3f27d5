import { beforeAll, describe, expect, it } from 'vitest';
import { AttestError } from '../core/errors.ts';
import { makeReceiptChain, makeReceiptSigner } from '../testing/receipts.ts';
import {
  type ChainHead,
  linkHash,
  type ReceiptLinks,
  readReceiptLinks,
  verifyReceiptChain,
} from './chain.ts';
import { type Receipt, readSignedReceipt, type SignedReceipt } from './receipt.ts';
import type { ReceiptSigner } from './seal.ts';
import { appraiseReceipt, verifyReceipt } from './verify.ts';

let signer: ReceiptSigner;
let receipts: SignedReceipt[];
let links: ReceiptLinks;
let head: ChainHead;

beforeAll(async () => {
  signer = await makeReceiptSigner();
  ({ receipts, links, head } = await makeReceiptChain(signer, 6));
});

const edited = (signed: SignedReceipt, change: Partial<Receipt>): SignedReceipt => ({
  ...signed,
  receipt: { ...signed.receipt, ...change },
});

describe('a receipt', () => {
  it('is verified by its key, after a journey as JSON in any order of keys', async () => {
    for (const signed of receipts) await verifyReceipt(signed, signer.key);
    const { signature, receipt } = receipts[2]!;
    const reversed = Object.fromEntries(Object.entries(receipt).reverse());
    const read = readSignedReceipt(JSON.stringify({ signature, receipt: reversed }, null, 2));
    await verifyReceipt(read, signer.key);
  });

  it.each<[string, Partial<Receipt>]>([
    ['another request', { requestSha256: 'f'.repeat(64) }],
    ['another answer', { responseSha256: 'f'.repeat(64) }],
    ['fewer tokens', { tokens: { prompt: 7, cached: 0, generated: 2 } }],
    ['another place', { sequence: 9 }],
    ['another model', { modelDigest: null }],
    ['another law', { law: 'b300-cc' }],
  ])('is refused with %s', async (_, change) => {
    const wrong = edited(receipts[1]!, change);
    await expect(verifyReceipt(wrong, signer.key)).rejects.toThrow('does not hold');
    const claims = await appraiseReceipt(wrong, { key: signer.key, keyIsProven: true });
    expect(claims).toMatchObject([{ status: 'refused', code: 'signature-invalid' }]);
  });

  it('is refused under another key', async () => {
    const other = await makeReceiptSigner();
    await expect(verifyReceipt(receipts[0]!, other.key)).rejects.toMatchObject({
      code: 'receipt-broken',
    });
    const stolen = edited(receipts[0]!, { key: other.key });
    await expect(verifyReceipt(stolen, other.key)).rejects.toMatchObject({
      code: 'signature-invalid',
    });
  });

  it('proves nothing by itself: a key that no quote holds leaves it unverified', async () => {
    const { requestSha256, responseSha256 } = receipts[0]!.receipt;
    const known = { key: signer.key, requestSha256, responseSha256 };
    const loose = await appraiseReceipt(receipts[0]!, { ...known, keyIsProven: false });
    expect(loose.map(({ status, voucher }) => `${status} ${voucher}`)).toEqual(
      Array(3).fill('unverified operator-asserted'),
    );
    const bound = await appraiseReceipt(receipts[0]!, { ...known, keyIsProven: true });
    expect(bound.map(({ kind, status }) => `${kind} ${status}`)).toEqual([
      'receipt.signature verified',
      'receipt.request verified',
      'receipt.response verified',
    ]);
  });

  it('is refused for what its client did not send, get or ask for', async () => {
    const other = 'e'.repeat(64);
    const claims = await appraiseReceipt(receipts[0]!, {
      key: signer.key,
      keyIsProven: true,
      requestSha256: other,
      responseSha256: other,
      modelDigest: other,
    });
    expect(claims.map(({ kind, code }) => [kind, code])).toEqual([
      ['receipt.signature', undefined],
      ['receipt.request', 'binding-mismatch'],
      ['receipt.response', 'binding-mismatch'],
      ['receipt.model', 'binding-mismatch'],
    ]);
  });
});

describe('a chain', () => {
  it('holds for every piece of it, with all, some or none of the receipts', async () => {
    expect(await verifyReceiptChain(links, receipts, signer.key)).toBe(head.hash);
    expect(await verifyReceiptChain(links, [], signer.key)).toBe(head.hash);
    const first = 3;
    const { previous } = receipts[first - 1]!.receipt;
    const piece = { previous, first, digests: links.digests.slice(first - 1) };
    const held = [receipts[5]!, receipts[2]!];
    expect(await verifyReceiptChain(piece, held, signer.key)).toBe(head.hash);
  });

  it('shows a receipt that was left out, moved, changed or doubled', async () => {
    const refused = (piece: ReceiptLinks, held = receipts) =>
      expect(verifyReceiptChain(piece, held, signer.key)).rejects.toBeInstanceOf(AttestError);
    const { digests } = links;
    await refused({ ...links, digests: digests.filter((_, i) => i !== 2) });
    await refused({ ...links, digests: digests.slice(0, 5) });
    await refused({ ...links, digests: digests.with(1, digests[2]!).with(2, digests[1]!) });
    await refused({ ...links, digests: digests.with(3, '0'.repeat(64)) });
    await refused({ ...links, first: 2 });
    await refused({ ...links, previous: '0'.repeat(64) });
    await refused(links, [...receipts, receipts[0]!]);
  });

  it('has the links that are known of it', async () => {
    const { previous } = receipts[2]!.receipt;
    const piece = { previous, first: 3, digests: links.digests.slice(2) };
    const against = (sequence: number, hash: string | null) =>
      verifyReceiptChain(piece, [], signer.key, { sequence, hash });
    for (const known of [head, { sequence: 2, hash: previous }]) {
      expect(await against(known.sequence, known.hash)).toBe(head.hash);
      const other = against(known.sequence, '0'.repeat(64));
      await expect(other).rejects.toMatchObject({ code: 'receipt-broken' });
    }
    expect(await against(99, '0'.repeat(64))).toBe(head.hash);
  });

  it('has another end for every other history', async () => {
    const digest = links.digests[0]!;
    const once = await linkHash(1, null, digest);
    expect(await linkHash(2, null, digest)).not.toBe(once);
    expect(await linkHash(1, once, digest)).not.toBe(once);
  });
});

describe('reading', () => {
  it.each<[string, (whole: Record<string, unknown>) => unknown]>([
    ['another field', (whole) => ({ ...whole, more: 1 })],
    ['no signature', ({ receipt }) => ({ receipt })],
    ['a short signature', (whole) => ({ ...whole, signature: 'ab' })],
    ['an upper-case signature', (whole) => ({ ...whole, signature: 'A'.repeat(128) })],
    ['a list', (whole) => [whole]],
    ['nothing', () => null],
  ])('refuses %s', (_, change) => {
    const text = JSON.stringify(change({ ...receipts[0]! }));
    expect(() => readSignedReceipt(text)).toThrow(AttestError);
  });

  it('refuses what is too large, and says nothing of what it holds', () => {
    expect(() => readSignedReceipt(' '.repeat(70_000))).toThrow('70000 characters');
    expect(() => readSignedReceipt('{"secret')).toThrow(/^the receipt is not JSON$/);
    expect(() => readReceiptLinks('{}')).toThrow(AttestError);
    expect(readReceiptLinks(JSON.stringify(links))).toEqual(links);
  });
});
