import { z } from 'zod';
import { toHex } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { verifyEd25519 } from '../core/ed25519.ts';
import { demand } from '../core/errors.ts';
import { count, hexOf, parseJson, readShape } from '../core/json-shape.ts';
import type { ChainHead } from './chain.ts';
import type { ReceiptSigner } from './seal.ts';

const HEAD_CHARACTERS_MAX = 4096;

const signedHeadSchema = z.strictObject({
  head: z.strictObject({
    /** Keeps this from being taken for anything else that the same key signs. */
    type: z.literal('bridgekeeper.receipt-head.v1'),
    /** 0: nothing was sealed yet. */
    sequence: count,
    /** `linkHash` of the last receipt; null: there is none. */
    hash: hexOf(32).nullable(),
    /** The raw Ed25519 key that signs it, and the receipts. */
    key: hexOf(32),
  }),
  signature: hexOf(64),
});

/**
 * Where a chain ended, with its key's Ed25519 signature over the canonical JSON (RFC 8785) of
 * `head`. Whoever holds it sees if a chain has been cut behind it or its history changed.
 */
export type SignedHead = Readonly<z.output<typeof signedHeadSchema>>;

/** Signs where a chain ends. */
export async function sealHead(
  { sequence, hash }: ChainHead,
  signer: ReceiptSigner,
): Promise<SignedHead> {
  const { key } = signer;
  const head = { type: 'bridgekeeper.receipt-head.v1' as const, sequence, hash, key };
  return { head, signature: toHex(await signer.sign(canonicalBytes(head))) };
}

/** Reads a signed head. Throws AttestError. */
export function readSignedHead(text: string, what = 'the head'): SignedHead {
  return readShape(signedHeadSchema, parseJson(text, HEAD_CHARACTERS_MAX, what), what);
}

/** Throws AttestError 'receipt-broken' or 'signature-invalid' unless `key` signed the head. */
export async function verifyHead({ head, signature }: SignedHead, key: string): Promise<ChainHead> {
  const { sequence, hash } = head;
  const named = `the head at receipt ${sequence}`;
  demand(head.key === key, 'receipt-broken', `${named} names another key than ${key}`);
  const isWhole = (sequence === 0) === (hash === null);
  demand(isWhole, 'receipt-broken', `${named} has a link that does not fit its number`);
  const holds = await verifyEd25519(key, signature, canonicalBytes(head));
  demand(holds, 'signature-invalid', `the signature of ${named} does not hold`);
  return { sequence, hash };
}
