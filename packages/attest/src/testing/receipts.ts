import { type Bytes, toHex } from '../core/bytes.ts';
import type { ChainHead, ReceiptLinks } from '../receipts/chain.ts';
import type { SignedReceipt } from '../receipts/receipt.ts';
import { type ReceiptFacts, type ReceiptSigner, sealReceipt } from '../receipts/seal.ts';

/** A signer with a fresh key. */
export async function makeReceiptSigner(): Promise<ReceiptSigner> {
  const pair = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']);
  const { privateKey, publicKey } = pair as { privateKey: CryptoKey; publicKey: CryptoKey };
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', publicKey));
  return {
    key: toHex(raw),
    sign: async (message: Bytes) =>
      new Uint8Array(await crypto.subtle.sign('Ed25519', privateKey, message)),
  };
}

type CryptoKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** What a server knows of its `n`th answer. */
export function makeReceiptFacts(n: number): ReceiptFacts {
  const digest = (letter: string) => letter.repeat(63) + (n % 16).toString(16);
  return {
    id: `rcpt_${String(n).padStart(8, '0')}`,
    createdAt: 1_780_000_000 + n,
    outcome: 'complete',
    requestSha256: digest('a'),
    responseSha256: digest('b'),
    model: 'storyteller',
    modelDigest: digest('c'),
    policy: 'resident',
    law: 'off',
    tokens: { prompt: 7, cached: 0, generated: 3 },
    crossings: {
      attribution: 'equal-share-while-resident',
      entries: [{ purpose: 'tokens', direction: 'd2h', crossings: 1.5, bytes: 96 }],
    },
  };
}

/** A chain of `count` receipts from its beginning, with its links. */
export async function makeReceiptChain(
  signer: ReceiptSigner,
  count: number,
): Promise<{ receipts: SignedReceipt[]; links: ReceiptLinks; head: ChainHead }> {
  const receipts: SignedReceipt[] = [];
  const digests: string[] = [];
  let head: ChainHead = { sequence: 0, hash: null };
  for (let n = 1; n <= count; n++) {
    const sealed = await sealReceipt(makeReceiptFacts(n), head, signer);
    receipts.push(sealed.signed);
    digests.push(sealed.digest);
    head = sealed.head;
  }
  return { receipts, links: { previous: null, first: 1, digests }, head };
}
