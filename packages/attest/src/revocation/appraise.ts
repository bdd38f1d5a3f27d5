import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext, RevocationSource, RevocationStatus } from '../claims/context.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { AttestError, demand } from '../core/errors.ts';

/** Asks about every certificate of a chain (leaf first, root last) but the root. */
export async function appraiseRevocation(
  check: Check,
  chain: readonly Certificate[],
  context: AppraisalContext,
): Promise<Claim> {
  const source = context.revocation;
  if (source === null) return unchecked(check, 'Revocation was not checked');
  return checked(check, async () => {
    for (const [i, certificate] of chain.slice(0, -1).entries()) {
      const status = await ask(source, certificate, chain[i + 1]!);
      const name = nameOf(certificate);
      demand(status !== 'revoked', 'certificate-revoked', `${name} is revoked`);
      const message = unknownText(name, 'the responder of its issuer does not know it');
      demand(status === 'good', 'revocation-unknown', message);
    }
  });
}

async function ask(
  source: RevocationSource,
  certificate: Certificate,
  issuer: Certificate,
): Promise<RevocationStatus> {
  try {
    return await source.status(certificate, issuer);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    const message = unknownText(nameOf(certificate), problem);
    throw new AttestError('revocation-unknown', message, { cause });
  }
}

const unknownText = (name: string, reason: string) =>
  `whether ${name} is revoked is not known: ${reason}`;
