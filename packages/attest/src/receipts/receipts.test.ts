import { beforeAll, describe, expect, it } from 'vitest';
import { AttestError } from '../core/errors.ts';
import { CLAIM_KINDS } from '../policy/kinds.ts';
import { inFull } from '../testing/appraisal.ts';
import { makeReceiptChain, makeReceiptFacts, makeReceiptSigner } from '../testing/receipts.ts';
import {
  type ChainHead,
  linkHash,
  type ReceiptLinks,
  readReceiptLinks,
  receiptDigest,
  verifyReceiptChain,
} from './chain.ts';
import { readSignedHead, sealHead, verifyHead } from './head.ts';
import { type Receipt, readSignedReceipt, type SignedReceipt } from './receipt.ts';
import { type ReceiptSigner, sealReceipt } from './seal.ts';
import { appraiseReceipt, RECEIPT_CLAIMS, verifyReceipt } from './verify.ts';

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

  it('says what the answer had of KV below the device, or nothing', async () => {
    const kv: Receipt['kv'] = [
      { what: 'restored', from: 'disk', tokens: 512 },
      { what: 'recomputed', why: 'lane_slower', tokens: 16 },
    ];
    const before = { sequence: 0, hash: null };
    const { signed } = await sealReceipt({ ...makeReceiptFacts(1), kv }, before, signer);
    const read = readSignedReceipt(JSON.stringify(signed));
    expect(read.receipt.kv).toEqual(kv);
    await verifyReceipt(read, signer.key);
    const less = edited(read, { kv: kv.slice(1) });
    await expect(verifyReceipt(less, signer.key)).rejects.toThrow('does not hold');
    const odd = edited(read, { kv: [{ what: 'kept', from: 'disk', tokens: 1 } as never] });
    expect(() => readSignedReceipt(JSON.stringify(odd))).toThrow();
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

  it('that names a key other than the one that signed it is refused', async () => {
    const other = await makeReceiptSigner();
    const mislabelled = { key: other.key, sign: signer.sign };
    const { signed } = await sealReceipt(
      makeReceiptFacts(1),
      { sequence: 0, hash: null },
      mislabelled,
    );
    for (const key of [signer.key, other.key]) {
      await expect(verifyReceipt(signed, key)).rejects.toBeInstanceOf(AttestError);
      const claims = await appraiseReceipt(signed, { key, keyIsProven: true });
      expect(claims.map(inFull)).toEqual([
        'RECEIPT-1 receipt.signature signature-invalid by operator-asserted [RECEIPT-1]',
      ]);
    }
  });

  it('says which request got which answer, and what crossed for it', async () => {
    const { requestSha256, responseSha256, modelDigest } = receipts[2]!.receipt;
    const context = { key: signer.key, requestSha256, responseSha256, modelDigest: modelDigest! };
    const claims = await appraiseReceipt(receipts[2]!, { ...context, keyIsProven: true });
    expect(claims.map(inFull)).toEqual([
      'RECEIPT-3 receipt.signature verified by cpu-signed [RECEIPT-3]',
      `RECEIPT-3 receipt.request verified by cpu-signed: "${requestSha256}" [RECEIPT-3]`,
      `RECEIPT-3 receipt.response verified by cpu-signed: "${responseSha256}" [RECEIPT-3]`,
      `RECEIPT-3 receipt.model verified by cpu-signed: "${modelDigest}" [RECEIPT-3]`,
    ]);
    expect(claims.map(({ kind }) => kind)).toEqual(RECEIPT_CLAIMS);
    for (const { kind } of claims) expect(CLAIM_KINDS).toContain(kind);
    expect(CLAIM_KINDS).toContain('receipt.chain');
    expect(claims.map(({ why }) => why)).toEqual(claims.map(() => undefined));
    expect(claims.slice(1).map(({ statement: words }) => words)).toEqual([
      'the receipt is for this request',
      'the receipt is for this answer',
      'the receipt is for the expected model',
    ]);
    const [{ statement }] = claims as [(typeof claims)[0]];
    expect(statement).toContain(`request ${requestSha256} got answer ${responseSha256}`);
    expect(statement).toContain('(complete, 3 tokens), for which 96 bytes crossed');
    const crossings = { purpose: 'tokens', direction: 'd2h', crossings: 1.2, bytes: 4.2 } as const;
    const facts = makeReceiptFacts(9);
    const two = { ...facts, crossings: { ...facts.crossings, entries: [crossings, crossings] } };
    const { signed } = await sealReceipt(two, head, signer);
    const [claim] = await appraiseReceipt(signed, { key: signer.key, keyIsProven: true });
    expect(claim!.statement).toMatch(/for which 8 bytes crossed the bridge in 2 crossings$/);
  });

  it('takes its place behind the end of the chain, which moves with it', async () => {
    const { signed, digest, head: next } = await sealReceipt(makeReceiptFacts(7), head, signer);
    const { sequence, previous, key, type } = signed.receipt;
    expect({ sequence, previous, key, type }).toEqual({
      sequence: 7,
      previous: head.hash,
      key: signer.key,
      type: 'bridgekeeper.receipt.v1',
    });
    expect(next).toEqual({ sequence: 7, hash: await linkHash(7, head.hash, digest) });
    await verifyReceipt(signed, signer.key);
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

  it('gives claims that have no field without a value', async () => {
    const { requestSha256 } = receipts[0]!.receipt;
    const fieldsOf = async (requestSha256: string, keyIsProven: boolean) => {
      const context = { key: signer.key, keyIsProven, requestSha256 };
      const claims = await appraiseReceipt(receipts[0]!, context);
      return claims.map((claim) => ['value', 'code', 'why'].filter((name) => name in claim));
    };
    expect(await fieldsOf(requestSha256, true)).toEqual([[], ['value']]);
    expect(await fieldsOf(requestSha256, false)).toEqual([['why'], ['value', 'why']]);
    expect(await fieldsOf('e'.repeat(64), false)).toEqual([['why'], ['value', 'code']]);
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
    expect(claims.slice(1).map(({ statement }) => statement)).toEqual([
      'the receipt is not for this request',
      'the receipt is not for this answer',
      'the receipt is not for the expected model',
    ]);
    const loose = await appraiseReceipt(receipts[0]!, {
      key: signer.key,
      keyIsProven: false,
      requestSha256: other,
    });
    // Why it matters is said of what is open; a refusal speaks for itself.
    expect(loose.map(({ code, why }) => [code, why !== undefined])).toEqual([
      [undefined, true],
      ['binding-mismatch', false],
    ]);
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
    const broken = { code: 'receipt-broken' };
    for (const piece of [
      { ...links, first: 2 },
      { ...links, previous: '0'.repeat(64) },
    ]) {
      await expect(verifyReceiptChain(piece, [], signer.key)).rejects.toMatchObject(broken);
    }
    const doubled = verifyReceiptChain(links, [...receipts, receipts[0]!], signer.key);
    await expect(doubled).rejects.toMatchObject({
      ...broken,
      message: 'two receipts have one number',
    });
    const behind = verifyReceiptChain({ ...links, digests: [] }, receipts, signer.key);
    await expect(behind).rejects.toMatchObject(broken);
    // The digest is compared even where place and signature are right.
    const wrong = { ...links, digests: digests.with(5, '0'.repeat(64)) };
    await expect(verifyReceiptChain(wrong, receipts, signer.key)).rejects.toMatchObject(broken);
    await refused({ ...links, previous: '0'.repeat(64) });
    await refused(links, [...receipts, receipts[0]!]);
  });

  it('refuses a receipt that its server signed for a place in another history', async () => {
    const { receipts: others } = await makeReceiptChain(signer, 3);
    const facts = { ...makeReceiptFacts(2), model: 'another' };
    const elsewhere = { sequence: 1, hash: await linkHash(1, null, 'f'.repeat(64)) };
    const moved = await sealReceipt(facts, elsewhere, signer);
    await verifyReceipt(moved.signed, signer.key);
    const digests = links.digests.slice(0, 1).concat(moved.digest);
    const piece = { previous: null, first: 1, digests };
    await expect(verifyReceiptChain(piece, [moved.signed], signer.key)).rejects.toMatchObject({
      code: 'receipt-broken',
      message: 'receipt 2 (rcpt_00000002) is not the one that the chain has there',
    });
    // What it carries as its previous link is compared with the piece's beginning, too.
    const { digests: all } = links;
    const later = { previous: elsewhere.hash, first: 2, digests: all.slice(1, 3) };
    await expect(verifyReceiptChain(later, [others[1]!], signer.key)).rejects.toMatchObject({
      code: 'receipt-broken',
    });
  });

  it('refuses a receipt that hangs on another link than the one before it', async () => {
    // Every digest is the receipt's own, every signature holds, every number follows the last: only
    // what the second receipt calls its previous one is not the first.
    const first = await sealReceipt(makeReceiptFacts(1), { sequence: 0, hash: null }, signer);
    const torn = { sequence: 1, hash: 'd'.repeat(64) };
    const second = await sealReceipt(makeReceiptFacts(2), torn, signer);
    const piece = { previous: null, first: 1, digests: [first.digest, second.digest] };
    const held = [first.signed, second.signed];
    for (const { digest, signed } of [first, second]) {
      expect(await receiptDigest(signed.receipt)).toBe(digest);
      await verifyReceipt(signed, signer.key);
    }
    expect(await verifyReceiptChain(piece, held.slice(0, 1), signer.key)).not.toBeNull();
    await expect(verifyReceiptChain(piece, held, signer.key)).rejects.toMatchObject({
      code: 'receipt-broken',
      message: 'receipt 2 (rcpt_00000002) is not the one that the chain has there',
    });
    // The first of a piece is held to what the piece says of the one before, in both directions.
    const alone = { previous: first.head.hash, first: 2, digests: [second.digest] };
    await expect(verifyReceiptChain(alone, held.slice(1), signer.key)).rejects.toMatchObject({
      code: 'receipt-broken',
    });
    const begun = await sealReceipt(makeReceiptFacts(1), { sequence: 0, hash: torn.hash }, signer);
    const beginning = { previous: null, first: 1, digests: [begun.digest] };
    await expect(verifyReceiptChain(beginning, [begun.signed], signer.key)).rejects.toMatchObject({
      code: 'receipt-broken',
    });
  });

  it('refuses a receipt in it that its key did not sign', async () => {
    const unsigned = { ...receipts[1]!, signature: receipts[0]!.signature };
    const held = [receipts[0]!, unsigned];
    await expect(verifyReceiptChain(links, held, signer.key)).rejects.toMatchObject({
      code: 'signature-invalid',
    });
    const other = await makeReceiptSigner();
    await expect(verifyReceiptChain(links, receipts, other.key)).rejects.toMatchObject({
      code: 'receipt-broken',
    });
  });

  it('refuses receipts from before and behind its piece, and names the first of them', async () => {
    const piece = {
      previous: receipts[2]!.receipt.previous,
      first: 3,
      digests: links.digests.slice(2, 4),
    };
    expect(await verifyReceiptChain(piece, receipts.slice(2, 4), signer.key)).not.toBeNull();
    for (const [held, outside] of [
      [receipts.slice(1, 4), 2],
      [receipts.slice(2, 5), 5],
    ] as const) {
      const reading = verifyReceiptChain(piece, held, signer.key);
      await expect(reading).rejects.toThrow(`receipt ${outside} is not in the chain's piece`);
    }
    expect(await verifyReceiptChain({ ...piece, digests: [] }, [], signer.key)).toBe(
      piece.previous,
    );
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

describe('a signed head', () => {
  const EMPTY: ChainHead = { sequence: 0, hash: null };

  it('says where the chain ended, after a journey as JSON', async () => {
    for (const end of [head, EMPTY]) {
      const signed = await sealHead(end, signer);
      expect(signed.head).toEqual({
        type: 'bridgekeeper.receipt-head.v1',
        ...end,
        key: signer.key,
      });
      const read = readSignedHead(JSON.stringify(signed));
      expect(read).toEqual(signed);
      const known = await verifyHead(read, signer.key);
      expect(known).toEqual(end);
      expect(await verifyReceiptChain(links, receipts, signer.key, known)).toBe(head.hash);
    }
  });

  it('shows a chain whose end was cut off and written anew', async () => {
    const known = await verifyHead(await sealHead(head, signer), signer.key);
    const five = { ...links, digests: links.digests.slice(0, 5) };
    const end = { sequence: 5, hash: await verifyReceiptChain(five, [], signer.key) };
    const another = await sealReceipt(makeReceiptFacts(9), end, signer);
    const anew = { ...links, digests: [...five.digests, another.digest] };
    await expect(verifyReceiptChain(anew, [], signer.key, known)).rejects.toMatchObject({
      code: 'receipt-broken',
      message: 'the chain that ended at receipt 6 before was another one',
    });
  });

  it('is refused where it was changed, or is of another key', async () => {
    const signed = await sealHead(head, signer);
    const other = await makeReceiptSigner();
    const changed = (change: object) => ({ ...signed, head: { ...signed.head, ...change } });
    for (const wrong of [changed({ sequence: 5 }), changed({ hash: 'a'.repeat(64) })]) {
      await expect(verifyHead(wrong, signer.key)).rejects.toMatchObject({
        code: 'signature-invalid',
        message: `the signature of the head at receipt ${wrong.head.sequence} does not hold`,
      });
    }
    await expect(verifyHead(signed, other.key)).rejects.toMatchObject({
      code: 'receipt-broken',
      message: `the head at receipt 6 names another key than ${other.key}`,
    });
    const stolen = verifyHead(changed({ key: other.key }), other.key);
    await expect(stolen).rejects.toMatchObject({ code: 'signature-invalid' });
  });

  it('is refused where its link does not fit its number, although its key signed it', async () => {
    for (const end of [
      { sequence: 0, hash: 'a'.repeat(64) },
      { sequence: 1, hash: null },
    ]) {
      await expect(verifyHead(await sealHead(end, signer), signer.key)).rejects.toMatchObject({
        code: 'receipt-broken',
        message: `the head at receipt ${end.sequence} has a link that does not fit its number`,
      });
    }
  });

  it.each<[string, object, object]>([
    ['another type', { type: 'bridgekeeper.receipt.v1' }, {}],
    ['a number below none', { sequence: -1 }, {}],
    ['a short link', { hash: 'ab' }, {}],
    ['a short key', { key: 'ab' }, {}],
    ['another field in it', { more: 1 }, {}],
    ['another field beside it', {}, { more: 1 }],
    ['a short signature', {}, { signature: 'ab' }],
  ])('is not read with %s', async (_, inside, beside) => {
    const signed = await sealHead(head, signer);
    const changed = { ...signed, ...beside, head: { ...signed.head, ...inside } };
    expect(() => readSignedHead(JSON.stringify(changed))).toThrow(AttestError);
  });

  it('is not read where it is too large or no JSON, and none of it is quoted', async () => {
    const text = JSON.stringify(await sealHead(head, signer));
    expect(readSignedHead(text.padEnd(4096)).head.sequence).toBe(6);
    expect(() => readSignedHead(text.padEnd(4097))).toThrow('the head has 4097 characters');
    expect(() => readSignedHead('secret', 'x.head')).toThrow(/^x.head is not JSON$/);
  });
});

/** The signed receipt with some of what it says exchanged; undefined: left out. */
function edit(change: Record<string, unknown>) {
  return ({ signature, receipt }: Record<string, unknown>) => ({
    signature,
    receipt: { ...(receipt as object), ...change },
  });
}

/** The signed receipt with those entries of crossings, each changed from a good one. */
function crossed(...changes: readonly Record<string, unknown>[]) {
  const entry = { purpose: 'tokens', direction: 'd2h', crossings: 1, bytes: 1 };
  const entries = changes.map((change) => ({ ...entry, ...change }));
  return edit({ crossings: { attribution: 'equal-share-while-resident', entries } });
}

describe('reading', () => {
  it.each<[string, (whole: Record<string, unknown>) => unknown]>([
    ['another field', (whole) => ({ ...whole, more: 1 })],
    ['no signature', ({ receipt }) => ({ receipt })],
    ['a short signature', (whole) => ({ ...whole, signature: 'ab' })],
    ['an upper-case signature', (whole) => ({ ...whole, signature: 'A'.repeat(128) })],
    ['a list', (whole) => [whole]],
    ['nothing', () => null],
    ['no type', edit({ type: undefined })],
    ['another type', edit({ type: 'bridgekeeper.report.v1' })],
    ['an id that is too short', edit({ id: 'a'.repeat(7) })],
    ['an id that is too long', edit({ id: 'a'.repeat(65) })],
    ['an id with other characters', edit({ id: 'rcpt 0000' })],
    ['an id with another line', edit({ id: 'rcpt_0000\n' })],
    ['number 0', edit({ sequence: 0 })],
    ['half a number', edit({ sequence: 1.5 })],
    ['a previous link that is short', edit({ previous: 'ab' })],
    ['a short key', edit({ key: 'ab' })],
    ['a time before 1970', edit({ createdAt: -1 })],
    ['another outcome', edit({ outcome: 'lost' })],
    ['a short digest of the request', edit({ requestSha256: 'a'.repeat(63) })],
    ['a long digest of the answer', edit({ responseSha256: 'a'.repeat(65) })],
    ['a digest of the model that is none', edit({ modelDigest: 'model' })],
    ['a model of many words', edit({ model: 'a'.repeat(257) })],
    ['a policy of many words', edit({ policy: 'a'.repeat(257) })],
    ['no law', edit({ law: undefined })],
    ['tokens that are fewer than none', edit({ tokens: { prompt: 1, cached: 0, generated: -1 } })],
    ['another count of tokens', edit({ tokens: { prompt: 1, cached: 0, generated: 1, more: 1 } })],
    ['crossings by another rule', edit({ crossings: { attribution: 'mine', entries: [] } })],
    ['a crossing that went nowhere', crossed({ direction: 'd2d' })],
    ['fewer crossings than none', crossed({ crossings: -1 })],
    ['fewer bytes than none', crossed({ bytes: -1 })],
    ['a purpose of many words', crossed({ purpose: 'a'.repeat(33) })],
    ['crossings with another field', crossed({ more: 1 })],
    ['too many crossings', crossed(...Array.from({ length: 65 }, () => ({})))],
  ])('refuses %s', (_, change) => {
    const text = JSON.stringify(change({ ...receipts[0]! }));
    expect(() => readSignedReceipt(text)).toThrow(AttestError);
  });

  it('refuses links of more than 4 MiB, and one that is as large is read', () => {
    const text = JSON.stringify(links);
    const padded = (length: number) => text + ' '.repeat(length - text.length);
    expect(readReceiptLinks(padded(4 * 1024 * 1024))).toEqual(links);
    expect(() => readReceiptLinks(padded(4 * 1024 * 1024 + 1))).toThrow('4194305 characters');
    const receipt = JSON.stringify(receipts[0]);
    const large = (length: number) => receipt + ' '.repeat(length - receipt.length);
    expect(readSignedReceipt(large(64 * 1024))).toEqual(receipts[0]);
    expect(() => readSignedReceipt(large(64 * 1024 + 1))).toThrow('65537 characters');
    const digests = Array.from({ length: 10_000 }, () => 'a'.repeat(64));
    expect(readReceiptLinks(JSON.stringify({ ...links, digests })).digests).toEqual(digests);
  });

  it('takes every outcome, and all that a receipt may hold at its bounds', () => {
    const whole = { ...receipts[0]! };
    const texts = { model: 'a'.repeat(256), policy: 'a'.repeat(256), law: 'a'.repeat(256) };
    const numbers = { tokens: { prompt: 0, cached: 0, generated: 0 }, createdAt: 0 };
    for (const change of [
      ...['complete', 'failed', 'cut'].map((outcome) => edit({ outcome })),
      edit({ ...texts, ...numbers, id: 'a'.repeat(8), previous: null, modelDigest: null }),
      edit({ id: 'Z9_-'.repeat(16), sequence: 1 }),
      crossed({ purpose: 'a'.repeat(32), crossings: 0, bytes: 0, direction: 'h2d' }),
      crossed(...Array.from({ length: 64 }, () => ({}))),
    ]) {
      const changed = change(whole);
      expect(readSignedReceipt(JSON.stringify(changed))).toEqual(changed);
    }
  });

  it.each<[string, object]>([
    ['another field', { more: 1 }],
    ['a first number that is none', { first: 0 }],
    ['a previous link that is none', { previous: 'ab' }],
    ['a digest that is none', { digests: ['ab'] }],
    ['too many digests', { digests: Array.from({ length: 10_001 }, () => 'a'.repeat(64)) }],
  ])('refuses links with %s', (_, change) => {
    expect(() => readReceiptLinks(JSON.stringify({ ...links, ...change }))).toThrow(AttestError);
  });

  it('refuses what is too large, and says nothing of what it holds', () => {
    expect(() => readSignedReceipt(' '.repeat(70_000))).toThrow('70000 characters');
    expect(() => readSignedReceipt('{"secret')).toThrow(/^the receipt is not JSON$/);
    expect(() => readReceiptLinks('{}')).toThrow(AttestError);
    expect(readReceiptLinks(JSON.stringify(links))).toEqual(links);
    const piece = { previous: head.hash, first: 7, digests: [] };
    expect(readReceiptLinks(JSON.stringify(piece))).toEqual(piece);
  });
});
