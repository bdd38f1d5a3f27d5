import { z } from 'zod';
import { count, hexOf, parseJson, readShape } from '../core/json-shape.ts';

const RECEIPT_CHARACTERS_MAX = 64 * 1024;
const ENTRIES_MAX = 64;

const shortText = z.string().max(256);

/** `complete`: sent to its end; `failed`: ended by an error; `cut`: the client left before. */
const RECEIPT_OUTCOMES = ['complete', 'failed', 'cut'] as const;

const receiptSchema = z.strictObject({
  /** Keeps this from being taken for anything else that the same key signs. */
  type: z.literal('bridgekeeper.receipt.v1'),
  id: z.string().regex(/^[A-Za-z0-9_-]{8,64}$/),
  /** 1 for the first receipt of a chain. */
  sequence: z.int().min(1),
  /** `linkHash` of the receipt before; null for the first. */
  previous: hexOf(32).nullable(),
  /** The raw Ed25519 key that signs it. */
  key: hexOf(32),
  /** Seconds since 1970 by the server's clock. */
  createdAt: count,
  outcome: z.enum(RECEIPT_OUTCOMES),
  /** Of the body's bytes exactly as they came and were sent; a stream's are taken together. */
  requestSha256: hexOf(32),
  responseSha256: hexOf(32),
  model: shortText,
  /** null: the server was given no digest of its model. */
  modelDigest: hexOf(32).nullable(),
  policy: shortText,
  law: shortText,
  /** Which replica of a fleet answered, by the control plane's word; absent: it is of none. */
  replica: z
    .strictObject({
      id: shortText,
      /** Of the tenancy of its GPUs. */
      tenancyEpoch: count,
      /** Of the entry of its host's fabric log that activated them; null: there is no fabric. */
      logIndex: count.nullable(),
    })
    .optional(),
  /** Which engine of its server's finished it; absent: the first. */
  engine: z
    .strictObject({
      /** Engines that failed before, since the server's start. */
      restarts: z.int().min(1),
      /** An engine before it had begun the answer. */
      isResumed: z.boolean(),
    })
    .optional(),
  tokens: z.strictObject({ prompt: count, cached: count, generated: count }),
  /** What it had of KV below the device, brought or computed again; absent: nothing. */
  kv: z
    .array(
      z.discriminatedUnion('what', [
        z.strictObject({ what: z.literal('restored'), from: z.string().max(32), tokens: count }),
        z.strictObject({ what: z.literal('recomputed'), why: z.string().max(32), tokens: count }),
      ]),
    )
    .max(ENTRIES_MAX)
    .optional(),
  crossings: z.strictObject({
    /**
     * Most crossings serve many requests at once. Each is divided equally among the requests that
     * held a row while it was made.
     */
    attribution: z.literal('equal-share-while-resident'),
    entries: z
      .array(
        z.strictObject({
          purpose: z.string().max(32),
          direction: z.enum(['h2d', 'd2h']),
          /** Shares, so with a fraction. */
          crossings: z.number().min(0),
          bytes: z.number().min(0),
        }),
      )
      .max(ENTRIES_MAX),
  }),
});

const signedSchema = z.strictObject({ receipt: receiptSchema, signature: hexOf(64) });

/** What one answer was, and what crossed the bridge for it. No text of anybody's, only digests. */
export type Receipt = Readonly<z.output<typeof receiptSchema>>;

/** A receipt and its key's Ed25519 signature over the receipt's canonical JSON (RFC 8785). */
export type SignedReceipt = Readonly<z.output<typeof signedSchema>>;

/** Reads what a server gives out for a receipt's id. Throws AttestError. */
export function readSignedReceipt(text: string, what = 'the receipt'): SignedReceipt {
  return readShape(signedSchema, parseJson(text, RECEIPT_CHARACTERS_MAX, what), what);
}
