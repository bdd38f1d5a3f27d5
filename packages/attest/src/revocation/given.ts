import type { RevocationSource } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import { nameOf } from '../core/certificate.ts';
import { AttestError } from '../core/errors.ts';
import { isOcspAbout, readOcspStatus } from './ocsp.ts';

/**
 * Revocation by answers (DER) that were given, for sites without a network. Answers are signed, so
 * that it does not matter who brings them, and they must be of `nowMs`. They answer nobody's nonce
 * here: within their time an older one can be shown in place of a newer one. So "good" of a file
 * counts only where nobody can be asked; where there is a source, `rest`, it is asked all the same,
 * and a file can only say that a certificate is not good. Rejects with AttestError.
 */
export function givenOcspAnswers(
  answers: readonly Bytes[],
  nowMs: number,
  rest: RevocationSource | null,
): RevocationSource {
  return {
    async status(certificate, issuer) {
      let problem = new AttestError(
        'not-available',
        `no answer about ${nameOf(certificate)} was given`,
      );
      let isGood = false;
      for (const answer of answers) {
        if (!(await isOcspAbout(answer, { certificate, issuer }))) continue;
        try {
          const question = { certificate, issuer, nonce: null, nowMs };
          const status = await readOcspStatus(answer, question);
          // Of two answers of one time, the worse one counts.
          if (status !== 'good') return status;
          isGood = true;
        } catch (error) {
          if (!(error instanceof AttestError)) throw error;
          problem = error;
        }
      }
      if (rest !== null) return rest.status(certificate, issuer);
      if (isGood) return 'good';
      throw problem;
    },
  };
}
