import type { RevocationSource } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import type { Certificate } from '../core/certificate.ts';
import { AttestError, demand } from '../core/errors.ts';
import { type OcspQuestion, readOcspStatus, writeOcspRequest } from '../revocation/ocsp.ts';
import { ask, type Http } from './http.ts';
import type { ByteStore } from './store.ts';

/** NVIDIA's responder for devices, switches and RIM signers. */
const NVIDIA_OCSP_SERVICE = 'https://ocsp.ndis.nvidia.com';

const ANSWER_BYTES_MAX = 64 * 1024;

export interface OcspOptions {
  /** null: offline, so only answers that were kept can be had. */
  readonly http: Http | null;
  /** By default, that of NVIDIA. */
  readonly url?: string;
  readonly nowMs: number;
  /** 1 to 32 random bytes, new each time. */
  readonly nonce: () => Bytes;
  /** Answers are kept while they are fresh. */
  readonly store: ByteStore | null;
}

/**
 * Revocation as OCSP responders tell it. Rejects with AttestError when a status cannot be had: see
 * `readOcspStatus`, and 'not-available' where no responder answers.
 */
export function ocspService(options: OcspOptions): RevocationSource {
  return {
    async status(certificate, issuer) {
      const { nowMs, store } = options;
      const name = `ocsp-${certificate.sha256}.der`;
      const kept = (await store?.get(name)) ?? null;
      if (kept !== null) {
        const question = { certificate, issuer, nonce: null, nowMs };
        const status = await statusIfGood(kept, question);
        if (status !== null) return status;
      }
      const { answer, nonce } = await askResponder(options, certificate, issuer);
      const status = await readOcspStatus(answer, { certificate, issuer, nonce, nowMs });
      await store?.put(name, answer);
      return status;
    },
  };
}

/** null: the answer that was kept is of no use (any more). */
async function statusIfGood(kept: Bytes, question: OcspQuestion) {
  try {
    return await readOcspStatus(kept, question);
  } catch (error) {
    if (error instanceof AttestError) return null;
    throw error;
  }
}

async function askResponder(options: OcspOptions, certificate: Certificate, issuer: Certificate) {
  const { http, url = NVIDIA_OCSP_SERVICE } = options;
  const offline = 'no answer was kept, and the network is not to be used';
  demand(http !== null, 'not-available', offline);
  const nonce = options.nonce();
  const body = await writeOcspRequest(certificate, issuer, nonce);
  const headers = {
    'content-type': 'application/ocsp-request',
    accept: 'application/ocsp-response',
  };
  const answer = await ask(http, { url, headers, body, answerBytesMax: ANSWER_BYTES_MAX });
  demand(answer !== null, 'not-available', `there is no responder at ${url}`);
  return { answer, nonce };
}
