import { createHash } from 'node:crypto';
import { type ReceiptFacts, readSignedReceipt } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import { expect, test } from 'vitest';
import { HandClock } from '../testing/hand-clock.ts';
import { Receipts } from './receipts.ts';
import { ReceiptTicket, requestDigest } from './ticket.ts';

test('a ticket becomes a receipt of every part sent, and of all that crossed', async () => {
  const receipts = await Receipts.open({
    path: null,
    retention: { countMax: 10, secondsMax: 1000 },
    clock: new HandClock(),
    waitSeconds: 0,
    onWait: () => {},
    onTrouble: () => {},
  });
  const { model, modelDigest, policy, law, requestSha256, tokens } = makeReceiptFacts(1);
  const about = { model, modelDigest, policy, law, requestSha256 };
  const ticket = new ReceiptTicket(receipts, { ...about, tenant: 'a' });
  expect(ticket.id).toMatch(/^rcpt_[0-9a-f]{32}$/);
  ticket.sent('the ');
  ticket.sent('sea');
  const share = { purpose: 'tokens', direction: 'd2h' } as const;
  const kv: ReceiptFacts['kv'] = [
    { what: 'restored', from: 'host', tokens: 1024 },
    { what: 'recomputed', why: 'lane_busy', tokens: 16 },
  ];
  ticket.issue({
    outcome: 'complete',
    tokens,
    kv,
    createdAt: 7,
    crossings: [
      { ...share, crossings: 0.25, bytes: 10.25 },
      { ...share, direction: 'h2d', crossings: 1, bytes: 3 },
      { ...share, crossings: 1 / 3, bytes: 20.5 },
    ],
  });
  const { receipt } = readSignedReceipt((await receipts.find(ticket.id, 'a'))!);
  expect(receipt).toMatchObject({
    ...about,
    outcome: 'complete',
    createdAt: 7,
    kv,
    responseSha256: createHash('sha256').update('the sea').digest('hex'),
    crossings: {
      attribution: 'equal-share-while-resident',
      entries: [
        { ...share, crossings: 0.583333, bytes: 31 },
        { ...share, direction: 'h2d', crossings: 1, bytes: 3 },
      ],
    },
  });
  await receipts.close();
});

test('a request is known by the SHA-256 of its bytes', () => {
  // FIPS 180-2, appendix B.1.
  expect(requestDigest(new TextEncoder().encode('abc'))).toBe(
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  );
});
