import type { Policy, VerifyResult } from '@bridgekeeper/attest';
import type { OutgoingRequest } from './outgoing.ts';

/** What a verified report proves to be the server's, and requests are held to. */
export interface Pin {
  readonly kind: 'tls' | 'encryption';
  /**
   * SHA-256, hexadecimal: of the TLS key (SubjectPublicKeyInfo), or of the key configurations that
   * requests are encrypted to.
   */
  readonly sha256: string;
}

/** A server's report as it came, and by whose connection. */
export interface FetchedReport {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the peer's SubjectPublicKeyInfo, hexadecimal; absent: it cannot be seen here. */
  readonly connectionSpkiSha256?: string;
}

/**
 * A way to one server that can be held to a key of it. Asked for the report, then pinned, and only
 * then given requests.
 */
export interface Channel {
  /** What of a policy must be otherwise for this way to a server. */
  policy(policy: Policy): Policy;
  /** Throws ClientError. No secret is sent: `authorization` proves a key without showing it. */
  fetchReport(
    nonceHex: string,
    authorization: string | null,
    signal: AbortSignal,
  ): Promise<FetchedReport>;
  /** From now on requests go to this key. Throws ClientError 'nothing-to-pin'. */
  pin(result: VerifyResult, report: FetchedReport): Promise<Pin>;
  /**
   * Sends it to the pinned key, or not at all. Throws ClientError 'key-changed' before anything of
   * the request was sent that another key could read.
   */
  send(request: OutgoingRequest): Promise<Response>;
  /** Takes no more requests; what is under way comes to its end. */
  retire(): void;
  /** Ends everything at once. */
  close(): void;
}
