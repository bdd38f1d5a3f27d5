import type { Claim } from '../claims/claim.ts';
import type { AttestErrorCode } from '../core/errors.ts';
import { groupBy } from '../core/group.ts';
import type { Policy, Requirement, SubjectFamily, Toleration } from './policy.ts';
import { shownValue, valueFault } from './value.ts';

/** Why the whole is refused: one rule, and what it met. */
export interface Reason {
  /** The rule as a path into the policy, like `require.gpu.gpu.nonce`. */
  readonly rule: string;
  readonly subject: string;
  readonly kind: string;
  readonly text: string;
  /** Of the claim, where one was refused. */
  readonly code?: AttestErrorCode;
}

/** A claim that the policy let pass although it does not hold, or although nobody signed it. */
export interface Allowance {
  readonly claim: Claim;
  readonly rule: string;
  readonly because: string;
}

/** Claims turned into a decision. What was not verified stays in the claims. */
export interface Verdict {
  readonly result: 'verified' | 'refused';
  readonly policy: string;
  readonly reasons: readonly Reason[];
  /** Refused claims that the policy tolerates. */
  readonly tolerated: readonly Allowance[];
  /** Unsigned claims that the policy believes; they remain unverified. */
  readonly believed: readonly Allowance[];
}

/** `GPU-3` is of family `gpu`. */
export function familyOf(subject: string): string {
  return (/^[a-z]+/i.exec(subject)?.[0] ?? '').toLowerCase();
}

/**
 * Every refused claim refuses the whole, unless tolerated; every required claim must be there for
 * every subject of its family, verified and with a value that fits; and something must have been
 * verified at all. Linear in the claims.
 */
export function judge(claims: readonly Claim[], policy: Policy): Verdict {
  const reasons: Reason[] = [];
  const tolerated: Allowance[] = [];
  const believed: Allowance[] = [];
  for (const claim of claims.filter(({ status }) => status === 'refused')) {
    const allowed = tolerationOf(claim, policy);
    if (allowed === null) reasons.push(refusal(claim));
    else tolerated.push({ claim, ...allowed });
  }
  const subjects = groupBy(claims, ({ subject }) => subject);
  reasons.push(...wrongCounts(subjects, policy));
  for (const [subject, own] of subjects) {
    const family = familyOf(subject) as SubjectFamily;
    const byKind = groupBy(own, ({ kind }) => kind);
    for (const [kind, requirement] of Object.entries(policy.require[family] ?? {})) {
      const rule = `require.${family}["${kind}"]`;
      const { faults, onTrust } = meet(byKind.get(kind) ?? [], requirement, policy);
      for (const text of faults) reasons.push({ rule, subject, kind, text });
      for (const claim of onTrust) believed.push({ claim, rule, because: trustText(claim) });
    }
  }
  if (!claims.some(({ status }) => status === 'verified')) {
    const text = 'nothing in the evidence could be verified';
    reasons.push({ rule: 'always', subject: 'ALL', kind: 'any', text });
  }
  const result = reasons.length === 0 ? 'verified' : 'refused';
  return { result, policy: policy.name, reasons, tolerated, believed };
}

function refusal(claim: Claim): Reason {
  const { subject, kind, statement, code } = claim;
  return { rule: 'tolerate', subject, kind, text: statement, ...(code && { code }) };
}

function tolerationOf(claim: Claim, policy: Policy): { rule: string; because: string } | null {
  const index = policy.tolerate.findIndex((toleration) => tolerates(toleration, claim));
  const found = policy.tolerate[index];
  return found === undefined ? null : { rule: `tolerate[${index}]`, because: found.because };
}

function tolerates({ kind, codes, values }: Toleration, claim: Claim): boolean {
  const ofCode = codes.some((code) => code === claim.code);
  const ofValue = values === undefined || values.some((value) => value === claim.value);
  return kind === claim.kind && ofCode && ofValue;
}

function wrongCounts(subjects: ReadonlyMap<string, unknown>, policy: Policy): Reason[] {
  const counts = new Map<string, number>();
  for (const subject of subjects.keys()) {
    const family = familyOf(subject);
    counts.set(family, (counts.get(family) ?? 0) + 1);
  }
  return Object.entries(policy.present).flatMap(([family, { atLeast, atMost }]): Reason[] => {
    const count = counts.get(family) ?? 0;
    if (count >= atLeast && count <= atMost) return [];
    const wanted = atLeast === atMost ? `${atLeast}` : `${atLeast} to ${atMost}`;
    const there = count === 0 ? 'there is no evidence of one' : `there is evidence of ${count}`;
    const text = `${there}, the policy wants ${wanted}`;
    return [{ rule: `present.${family}`, subject: family.toUpperCase(), kind: 'any', text }];
  });
}

/** What is wrong with the claims of one kind about one subject, and what is taken on trust. */
function meet(claims: readonly Claim[], requirement: Requirement, policy: Policy) {
  const faults: string[] = [];
  const onTrust: Claim[] = [];
  if (claims.length === 0) faults.push('is required, and the evidence says nothing of it');
  for (const claim of claims) {
    const isRefused = claim.status === 'refused';
    // It is a reason already.
    if (isRefused && tolerationOf(claim, policy) === null) continue;
    const fault = valueFault(claim.value, requirement);
    if (fault !== null) faults.push(`${fault}; here it is ${shownValue(claim.value)}`);
    if (claim.status !== 'unverified') continue;
    if (requirement.believe?.some((voucher) => voucher === claim.voucher)) onTrust.push(claim);
    else faults.push(`is required, and is not verified: ${claim.why ?? claim.statement}`);
  }
  return { faults, onTrust };
}

const trustText = ({ voucher }: Claim) =>
  `the policy believes what is ${voucher}; no signature vouches for it`;
