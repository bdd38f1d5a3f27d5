import type { Claim } from '../claims/claim.ts';
import type { Policy, Requirement, SubjectFamily } from './policy.ts';

/** `GPU-3` is of family `gpu`. */
export function familyOf(subject: string): string {
  return (/^[a-z]+/i.exec(subject)?.[0] ?? '').toLowerCase();
}

/**
 * By kind, what a policy requires of a subject with these claims. What is required under one TEE
 * alone is not required of a guest under the other; of one that names none it is.
 */
export function requirementsOf(
  policy: Policy,
  subject: string,
  own: readonly Claim[],
): ReadonlyMap<string, Requirement> {
  const named = own.find(({ kind }) => kind === 'cpu.tee')?.value;
  const all = Object.entries(policy.require[familyOf(subject) as SubjectFamily] ?? {});
  return new Map(
    all.filter(([, { tee }]) => tee === undefined || named === undefined || tee === named),
  );
}
