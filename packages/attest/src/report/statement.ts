import { z } from 'zod';
import { type Bytes, concatBytes } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { digest } from '../core/digest.ts';
import { count, hexOf } from '../core/json-shape.ts';
import { observationSchema } from './observation.ts';

const shortText = z.string().max(256);

/** What keeps a server's memory from its host: nothing, or the CPU by one of these. */
const TEES = ['none', 'tdx', 'sev-snp'] as const;
export type Tee = (typeof TEES)[number];

export const statementSchema = z.strictObject({
  /** Keeps this from being taken for anything else that the same key signs. */
  type: z.literal('bridgekeeper.report.v1'),
  nonce: hexOf(32),
  /** Seconds since 1970 by the server's clock. */
  issuedAt: count,
  tee: z.enum(TEES),
  /** Of the key (SubjectPublicKeyInfo, DER) that TLS ends with; null: it does not end here. */
  tlsSpkiSha256: hexOf(32).nullable(),
  /** Of the report's `encryption_keys`; null or absent: requests cannot be encrypted. */
  encryptionKeysSha256: hexOf(32).nullable().optional(),
  /** Raw Ed25519; null: there are no receipts. */
  receiptKey: hexOf(32).nullable(),
  /** Where the chain of receipts ends: whatever is given out later must contain it. */
  receiptChain: z.strictObject({ sequence: count, hash: hexOf(32).nullable() }).nullable(),
  /** Of `nvidia_payload` as it stands in the report; null: there is no GPU evidence. */
  gpuEvidenceSha256: hexOf(32).nullable(),
  software: z.strictObject({
    version: shortText,
    node: shortText,
    commit: shortText.nullable(),
    /** The manifest of the bundle it was unpacked from; null: it runs from no bundle. */
    bundleSha256: hexOf(32).nullable(),
    /** Of our own files as they are on the disk, without what they depend on. */
    filesSha256: hexOf(32).nullable(),
  }),
  /** null: no model is served. */
  model: z
    .strictObject({
      name: shortText,
      sha256: hexOf(32).nullable(),
      /** `manifest`: every byte of it. `headers`: names, shapes and settings, no weights. */
      covers: z.enum(['manifest', 'headers']).nullable(),
    })
    .nullable(),
  /** Of the configuration's canonical JSON; null: nothing is served. */
  configurationSha256: hexOf(32).nullable(),
  /** What the guest was told by its driver. */
  observed: observationSchema.nullable(),
});

/** What a server says of itself, in one quote with the client's nonce. */
export type ReportStatement = Readonly<z.output<typeof statementSchema>>;

/**
 * What the first half of a quote's report data is; its second half is the nonce.
 * - `statement`: SHA-256 of the statement's canonical JSON.
 * - `signing-address`: the signing key or its address, padded with zeros, as private-ml-sdk's and
 *   NEAR AI's clients expect. The statement is then bound by that key's signature.
 * - `signing-address-tls`: SHA-256 of that address and the SHA-256 of the TLS key, as NEAR AI's.
 */
export const REPORT_BINDINGS = ['statement', 'signing-address', 'signing-address-tls'] as const;
export type ReportBinding = (typeof REPORT_BINDINGS)[number];

export interface BoundFields {
  readonly binding: ReportBinding;
  /** 32 bytes. */
  readonly nonce: Bytes;
  readonly statement: ReportStatement | null;
  /** A raw Ed25519 key (32 bytes) or an Ethereum address (20). */
  readonly signingAddress: Bytes | null;
  readonly tlsSpkiSha256: Bytes | null;
}

/** The 64 bytes that a quote must carry for what it is to bind; null: a part is missing. */
export async function reportDataOf(fields: BoundFields): Promise<Bytes | null> {
  const { binding, nonce, statement, signingAddress, tlsSpkiSha256 } = fields;
  if (binding === 'statement') {
    if (statement === null) return null;
    return concatBytes(await digest('SHA-256', canonicalBytes(statement)), nonce);
  }
  if (signingAddress === null || signingAddress.length > 32) return null;
  if (binding === 'signing-address') {
    const padding = new Uint8Array(32 - signingAddress.length);
    return concatBytes(signingAddress, padding, nonce);
  }
  if (tlsSpkiSha256 === null) return null;
  const bound = await digest('SHA-256', concatBytes(signingAddress, tlsSpkiSha256));
  return concatBytes(bound, nonce);
}
