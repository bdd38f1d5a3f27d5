import { z } from 'zod';
import { canonicalBytes } from '../core/canonical.ts';
import { sha256Hex } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import { hexOf, parseJson, readShape } from '../core/json-shape.ts';
import type { Receipt, SignedReceipt } from './receipt.ts';
import { verifyReceipt } from './verify.ts';

const LINKS_CHARACTERS_MAX = 4 * 1024 * 1024;

const linksSchema = z.strictObject({
  /** `linkHash` of the link before the first one here; null where that is the chain's first. */
  previous: hexOf(32).nullable(),
  first: z.int().min(1),
  /** SHA-256 of each receipt's canonical JSON, in order of their sequence numbers. */
  digests: z.array(hexOf(32)).max(10_000),
});

/** What is claimed of several receipts, besides what is claimed of each. */
export const RECEIPT_CHAIN_CLAIMS = ['receipt.chain'] as const;

/**
 * A piece of the chain without the receipts themselves: enough to see that none was left out
 * between two that one holds, and it tells nothing of the others' contents, since every receipt
 * holds a random id.
 */
export type ReceiptLinks = Readonly<z.output<typeof linksSchema>>;

/** Where a chain ends. */
export interface ChainHead {
  /** 0: nothing was sealed yet. */
  readonly sequence: number;
  /** `linkHash` of the last receipt; null: there is none. */
  readonly hash: string | null;
}

/** Reads what a server gives out for a range of its chain. Throws AttestError. */
export function readReceiptLinks(text: string, what = 'the chain'): ReceiptLinks {
  return readShape(linksSchema, parseJson(text, LINKS_CHARACTERS_MAX, what), what);
}

/** The name of a receipt's place in the chain, which the next receipt carries as `previous`. */
export function linkHash(sequence: number, previous: string | null, digest: string) {
  return sha256Hex(canonicalBytes({ sequence, previous, digest }));
}

/** SHA-256 of the receipt's canonical JSON. */
export function receiptDigest(receipt: Receipt): Promise<string> {
  return sha256Hex(canonicalBytes(receipt));
}

/**
 * Verifies that `receipts` are signed by `key` (raw Ed25519, hex) and stand where they say in one
 * unbroken piece of a chain; and, if the piece reaches as far as `known`, that it has that link:
 * whoever knows where a chain once ended sees if its history was changed. Resolves to the hash of
 * its last link. Throws AttestError 'receipt-broken' or 'signature-invalid'.
 */
export async function verifyReceiptChain(
  links: ReceiptLinks,
  receipts: readonly SignedReceipt[],
  key: string,
  known: ChainHead | null = null,
): Promise<string | null> {
  const { first, digests } = links;
  demand(
    (first === 1) === (links.previous === null),
    'receipt-broken',
    `the chain begins at receipt ${first}, which does not fit what it says of the one before`,
  );
  const bySequence = new Map(receipts.map((signed) => [signed.receipt.sequence, signed]));
  demand(bySequence.size === receipts.length, 'receipt-broken', 'two receipts have one number');
  let previous = links.previous;
  demandKnown(known, first - 1, previous);
  for (const [i, digest] of digests.entries()) {
    const sequence = first + i;
    const signed = bySequence.get(sequence);
    bySequence.delete(sequence);
    if (signed !== undefined) {
      await verifyReceipt(signed, key);
      const { receipt } = signed;
      const fits = receipt.previous === previous && (await receiptDigest(receipt)) === digest;
      const message = `receipt ${sequence} (${receipt.id}) is not the one that the chain has there`;
      demand(fits, 'receipt-broken', message);
    }
    previous = await linkHash(sequence, previous, digest);
    demandKnown(known, sequence, previous);
  }
  const outside = bySequence.keys().next();
  if (outside.done) return previous;
  throw new AttestError('receipt-broken', `receipt ${outside.value} is not in the chain's piece`);
}

function demandKnown(known: ChainHead | null, sequence: number, hash: string | null): void {
  const isOther = known?.sequence === sequence && known.hash !== hash;
  const message = `the chain that ended at receipt ${sequence} before was another one`;
  demand(!isOther, 'receipt-broken', message);
}
