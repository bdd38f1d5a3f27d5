import { randomBytes } from 'node:crypto';
import type { ReportBinding } from '@bridgekeeper/attest';
import { ApiError } from '../http/errors.ts';
import { missingOf } from './missing.ts';
import type { Reporter, ReportSubject } from './reporter.ts';
import { readSoftware, type SoftwareIdentity, type VersionInfo } from './software.ts';

/** Reports that may wait for those before them: each has every GPU sign something. */
const WAITING_MAX = 8;

export interface AttestationParts {
  readonly reporter: Reporter;
  readonly subject: Omit<ReportSubject, 'software'>;
  readonly version: VersionInfo;
  readonly unixSeconds: () => number;
}

/** Makes this server's reports, one after the other. */
export class Attestation {
  readonly #parts: AttestationParts;
  /** Read with the first report: what is on the disk later is not what runs. */
  #software: Promise<SoftwareIdentity> | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(parts: AttestationParts) {
    this.#parts = parts;
  }

  /**
   * A report for a nonce (32 bytes in hex), or for one of our own where there is none. Throws
   * ApiError `queue_full`, `unsupported_value` for a binding that this server cannot give, and
   * `evidence_incomplete` where there is a TEE and GPUs that are not proven under it.
   */
  async report(nonce: string | undefined, binding: ReportBinding): Promise<object> {
    const { receipts, tlsSpkiSha256 } = this.#parts.subject;
    if (binding !== 'statement' && receipts === null) {
      const message = 'This server has no signing key: its receipts are off.';
      throw new ApiError('unsupported_value', message, 'signing_algo');
    }
    if (binding === 'signing-address-tls' && tlsSpkiSha256 === null) {
      const message = 'TLS does not end in this server.';
      throw new ApiError('unsupported_value', message, 'include_tls_fingerprint');
    }
    if (this.#waiting >= WAITING_MAX) {
      throw new ApiError('queue_full', 'Too many reports are being made.');
    }
    this.#waiting += 1;
    const made = this.#tail.then(() => this.#make(nonce, binding));
    this.#tail = made.catch(() => undefined);
    return made.finally(() => {
      this.#waiting -= 1;
    });
  }

  async #make(nonce = randomBytes(32).toString('hex'), binding: ReportBinding): Promise<object> {
    const { reporter, subject, unixSeconds, version } = this.#parts;
    this.#software ??= readSoftware(version);
    const software = await this.#software;
    const request = { nonce: nonce.toLowerCase(), binding, issuedAt: unixSeconds() };
    const made = await reporter.make({ ...subject, software }, request);
    const missing = missingOf(made, subject.configuration);
    if (missing !== null) {
      const message = `This server runs under a TEE and cannot prove its GPUs: ${missing}.`;
      throw new ApiError('evidence_incomplete', message);
    }
    return made.document;
  }
}
