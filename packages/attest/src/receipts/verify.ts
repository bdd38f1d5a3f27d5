import { type Claim, claim } from '../claims/claim.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { verifyEd25519 } from '../core/ed25519.ts';
import { type AttestErrorCode, demand } from '../core/errors.ts';
import type { Receipt, SignedReceipt } from './receipt.ts';

/** Throws AttestError 'receipt-broken' or 'signature-invalid' unless `key` signed the receipt. */
export async function verifyReceipt(signed: SignedReceipt, key: string): Promise<void> {
  const { receipt, signature } = signed;
  const named = `receipt ${receipt.id}`;
  demand(receipt.key === key, 'receipt-broken', `${named} names another key than ${key}`);
  const holds = await verifyEd25519(key, signature, canonicalBytes(receipt));
  demand(holds, 'signature-invalid', `the signature of ${named} does not hold`);
}

/** The claims that a receipt can give. */
export const RECEIPT_CLAIMS = [
  'receipt.signature',
  'receipt.request',
  'receipt.response',
  'receipt.model',
] as const;
export type ReceiptClaim = (typeof RECEIPT_CLAIMS)[number];

export interface ReceiptContext {
  /** The server's receipt key (raw Ed25519, hex), from its report. */
  readonly key: string;
  /** Whether that key was found in a quote that was verified. */
  readonly keyIsProven: boolean;
  /** Of the bytes that the client sent and got, where it kept them. */
  readonly requestSha256?: string;
  readonly responseSha256?: string;
  /** The model that the client expects to have spoken. */
  readonly modelDigest?: string;
}

/** Judges one receipt against what its client knows. Never throws for a receipt that is wrong. */
export async function appraiseReceipt(
  signed: SignedReceipt,
  context: ReceiptContext,
): Promise<Claim[]> {
  const { receipt, signature } = signed;
  const holds =
    receipt.key === context.key &&
    (await verifyEd25519(context.key, signature, canonicalBytes(receipt)));
  const make = claimsOf(`RECEIPT-${receipt.sequence}`, holds && context.keyIsProven);
  if (!holds) {
    const statement = 'the receipt is not signed by the key of the server';
    return [make('receipt.signature', statement, { code: 'signature-invalid' })];
  }
  const compared = (kind: ReceiptClaim, what: string, has: string | null, wanted?: string) => {
    if (wanted === undefined) return [];
    const statement = `the receipt is for ${what}`;
    const code = has === wanted ? undefined : 'binding-mismatch';
    return [make(kind, code ? `the receipt is not for ${what}` : statement, { code, value: has })];
  };
  return [
    make('receipt.signature', `the receipt's key signed ${describe(receipt)}`, {}),
    ...compared('receipt.request', 'this request', receipt.requestSha256, context.requestSha256),
    ...compared('receipt.response', 'this answer', receipt.responseSha256, context.responseSha256),
    ...compared('receipt.model', 'the expected model', receipt.modelDigest, context.modelDigest),
  ];
}

function describe(receipt: Receipt): string {
  const { requestSha256, responseSha256, tokens, outcome, crossings } = receipt;
  const sum = (unit: 'crossings' | 'bytes') =>
    Math.round(crossings.entries.reduce((total, entry) => total + entry[unit], 0));
  return (
    `that request ${requestSha256} got answer ${responseSha256} (${outcome}, ` +
    `${tokens.generated} tokens), for which ${sum('bytes')} bytes crossed the bridge in ` +
    `${sum('crossings')} crossings`
  );
}

function claimsOf(subject: string, isProven: boolean) {
  return (
    kind: ReceiptClaim,
    statement: string,
    found: { code?: AttestErrorCode | undefined; value?: string | null },
  ): Claim => {
    const { code, value } = found;
    const why = isProven
      ? undefined
      : 'it holds, and is only as good as its key, which no verified quote holds';
    return claim({
      kind,
      subject,
      status: code === undefined ? (isProven ? 'verified' : 'unverified') : 'refused',
      voucher: isProven ? 'cpu-signed' : 'operator-asserted',
      statement,
      evidence: [subject],
      ...(value === undefined ? {} : { value }),
      ...(code === undefined ? {} : { code }),
      ...(why === undefined || code !== undefined ? {} : { why }),
    });
  };
}
