import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext, RevocationSource, RevocationStatus } from '../claims/context.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { AttestError, type AttestErrorCode } from '../core/errors.ts';
import { groupBy } from '../core/group.ts';

/** What keeps a certificate from being good. */
interface Fault {
  readonly code: AttestErrorCode;
  readonly text: string;
}

const CODES = {
  revoked: 'certificate-revoked',
  held: 'certificate-held',
  unknown: 'revocation-unknown',
} as const;

/**
 * Asks about every certificate of a chain (leaf first, root last) but the root. One claim if all
 * are good, else one for each kind of fault: what a policy tolerates hides nothing else.
 */
export async function appraiseRevocation(
  check: Check,
  chain: readonly Certificate[],
  context: AppraisalContext,
): Promise<Claim[]> {
  const source = context.revocation;
  if (source === null) return [unchecked(check, 'Revocation was not checked')];
  const asked = chain
    .slice(0, -1)
    .map((certificate, i) => faultOf(source, certificate, chain[i + 1]!));
  const faults = (await Promise.all(asked)).filter((fault) => fault !== null);
  if (faults.length === 0) return [await checked(check, () => undefined)];
  const byCode = [...groupBy(faults, ({ code }) => code)];
  return Promise.all(
    byCode.map(([, same]) =>
      checked(check, () => {
        throw new AttestError(same[0]!.code, same.map(({ text }) => text).join('; '));
      }),
    ),
  );
}

async function faultOf(
  source: RevocationSource,
  certificate: Certificate,
  issuer: Certificate,
): Promise<Fault | null> {
  const name = nameOf(certificate);
  const unknown = (reason: string): Fault => ({
    code: CODES.unknown,
    text: `whether ${name} is revoked is not known: ${reason}`,
  });
  let status: RevocationStatus;
  try {
    status = await source.status(certificate, issuer);
  } catch (cause) {
    return unknown(cause instanceof Error ? cause.message : String(cause));
  }
  if (status === 'good') return null;
  if (status === 'unknown') return unknown('the responder of its issuer does not know it');
  const text = status === 'held' ? `${name} is on hold` : `${name} is revoked`;
  return { code: CODES[status], text };
}
