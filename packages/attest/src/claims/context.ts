import type { Bytes } from '../core/bytes.ts';
import type { Certificate } from '../core/certificate.ts';
import type { ChainCache } from '../core/chain.ts';
import type { TrustAnchors } from '../core/trust.ts';

/** Where reference measurements (RIMs) come from: a folder, a cache, a vendor's service. */
export interface ReferenceSource {
  /** The document of that id; null: the source has none. Rejects when it cannot be asked. */
  rim(id: string): Promise<Bytes | null>;
}

/** `held`: for now; its issuer may take that back, as it cannot with what is revoked. */
export type RevocationStatus = 'good' | 'held' | 'revoked' | 'unknown';

/** What an issuer says of a certificate today: OCSP answers or revocation lists. */
export interface RevocationSource {
  status(certificate: Certificate, issuer: Certificate): Promise<RevocationStatus>;
}

/**
 * What appraisal needs besides the evidence. Appraising never throws for evidence that is wrong:
 * it returns claims. It has no clock, no network and no files of its own.
 */
export interface AppraisalContext {
  /** The moment that validity is judged at, in ms since 1970. */
  readonly nowMs: number;
  readonly anchors: TrustAnchors;
  readonly chains: ChainCache;
  /** The nonce that the evidence must carry; null: none was asked for, freshness is unverified. */
  readonly nonce: Bytes | null;
  /** null: measurements are not compared. */
  readonly references: ReferenceSource | null;
  /** null: revocation is not checked. */
  readonly revocation: RevocationSource | null;
}
