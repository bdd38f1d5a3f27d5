import { AttestError } from '../core/errors.ts';
import { type Claim, type ClaimValue, claim, type Voucher } from './claim.ts';

/** A claim before it is known whether it holds. */
export interface Check {
  readonly kind: string;
  readonly subject: string;
  readonly voucher: Voucher;
  /** What is so if the check passes, for a reader, without a full stop. */
  readonly statement: string;
  readonly evidence: readonly string[];
  readonly value?: ClaimValue;
  /** Why it matters if it does not pass. */
  readonly why: string;
}

/** The claim that `test` makes of a check: an AttestError that it throws is the refusal. */
export async function checked(check: Check, test: () => unknown): Promise<Claim> {
  const { why, ...fields } = check;
  try {
    await test();
    return claim({ ...fields, status: 'verified' });
  } catch (error) {
    if (!(error instanceof AttestError)) throw error;
    const { code, message } = error;
    return claim({ ...fields, status: 'refused', statement: message, code, why });
  }
}

/** The claim of what could not be checked, for that `reason`; `voucher` says it all the same. */
export function unchecked(
  check: Check,
  reason: string,
  voucher: Voucher = 'operator-asserted',
): Claim {
  return claim({ ...check, status: 'unverified', voucher, why: `${reason}. ${check.why}` });
}

/**
 * The claim of what holds only if the claims of other kinds do. A refusal stays one, and what is
 * not verified for another reason stays unverified.
 */
export function resting(found: Claim, dependsOn: readonly string[], why: string): Claim {
  if (found.status !== 'verified') return found;
  return claim({ ...found, status: 'depends-on', dependsOn, why });
}

/** A document that checks are about: whether it is proven genuine, and what to say if it is not. */
export interface Source {
  readonly isGenuine: boolean;
  readonly doubt: string;
}

/**
 * A check of what a document says: if nothing proves the document genuine, it can be refused but
 * not verified, and no more than the operator stands behind it.
 */
export async function checkedIn(source: Source, check: Check, test: () => unknown): Promise<Claim> {
  const result = await checked(check, test);
  if (source.isGenuine || result.status !== 'verified') return result;
  return unchecked(check, source.doubt);
}
