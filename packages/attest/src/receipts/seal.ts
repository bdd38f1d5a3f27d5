import type { Bytes } from '../core/bytes.ts';
import { toHex } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { type ChainHead, linkHash, receiptDigest } from './chain.ts';
import type { Receipt, SignedReceipt } from './receipt.ts';

/** Holds the private key. */
export interface ReceiptSigner {
  /** Raw Ed25519, 32 bytes in hex. */
  readonly key: string;
  /** The 64 bytes of an Ed25519 signature. */
  sign(message: Bytes): Promise<Bytes>;
}

/** What is known of an answer once it was sent: a receipt without its place in the chain. */
export type ReceiptFacts = Omit<Receipt, 'type' | 'sequence' | 'previous' | 'key'>;

/** A receipt at its place, and the chain's new end. */
export interface SealedReceipt {
  readonly signed: SignedReceipt;
  readonly digest: string;
  readonly head: ChainHead;
}

/** Signs the next receipt of a chain. */
export async function sealReceipt(
  facts: ReceiptFacts,
  { sequence, hash }: ChainHead,
  signer: ReceiptSigner,
): Promise<SealedReceipt> {
  const receipt: Receipt = {
    type: 'bridgekeeper.receipt.v1',
    ...facts,
    sequence: sequence + 1,
    previous: hash,
    key: signer.key,
  };
  const signature = toHex(await signer.sign(canonicalBytes(receipt)));
  const digest = await receiptDigest(receipt);
  const next = await linkHash(receipt.sequence, receipt.previous, digest);
  return {
    signed: { receipt, signature },
    digest,
    head: { sequence: receipt.sequence, hash: next },
  };
}
