import type { Claim } from '../claims/claim.ts';
import type { AttestErrorCode } from '../core/errors.ts';
import { groupBy } from '../core/group.ts';
import { familyOf, requirementsOf } from './families.ts';
import {
  type EvidenceSet,
  type Policy,
  PROOFS,
  type ProvenFamily,
  type Requirement,
  type Toleration,
} from './policy.ts';
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

/**
 * What is absent refuses as what contradicts does: the policy's minimum of evidence must be there
 * and proven; every required claim must be there for every subject of its family, verified and with
 * a value that fits; and every refused claim refuses the whole, unless tolerated. Linear in the
 * claims, which `settle` has seen before.
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
  reasons.push(...lacking(subjects, claims, policy), ...superfluous(subjects, policy));
  for (const [subject, own] of subjects) {
    const byKind = groupBy(own, ({ kind }) => kind);
    for (const [kind, requirement] of requirementsOf(policy, subject, own)) {
      const rule = `require.${familyOf(subject)}["${kind}"]`;
      const { faults, onTrust } = meet(byKind.get(kind) ?? [], requirement, policy);
      for (const text of faults) reasons.push({ rule, subject, kind, text });
      for (const claim of onTrust) believed.push({ claim, rule, because: trustText(claim) });
    }
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

/** The first of the policy's sets of evidence that is there, whole and proven; null: none is. */
export function metMinimum(claims: readonly Claim[], { minimum }: Policy): EvidenceSet | null {
  const proven = provenOf(groupBy(claims, ({ subject }) => subject));
  const gpus = servingGpus(claims);
  return minimum.find((set, i) => gapsOf(set, i, proven, gpus).length === 0) ?? null;
}

type Subjects = ReadonlyMap<string, readonly Claim[]>;

/** What the one set of evidence lacks, or that none of several is there. */
function lacking(subjects: Subjects, claims: readonly Claim[], { minimum }: Policy): Reason[] {
  const proven = provenOf(subjects);
  const gpus = servingGpus(claims);
  const gaps = minimum.map((set, i) => gapsOf(set, i, proven, gpus));
  if (gaps.some(({ length }) => length === 0)) return [];
  return gaps.length === 1 ? gaps[0]! : [noneOf(minimum, proven)];
}

/** By family, how many subjects are proven. */
function provenOf(subjects: Subjects): Map<string, number> {
  const proven = new Map<string, number>();
  for (const [subject, own] of subjects) {
    const family = familyOf(subject);
    if (isProven(family, own)) proven.set(family, (proven.get(family) ?? 0) + 1);
  }
  return proven;
}

function isProven(family: string, own: readonly Claim[]): boolean {
  const proofs: readonly string[] | undefined = PROOFS[family as ProvenFamily];
  const verified = new Set(
    own.filter(({ status }) => status === 'verified').map(({ kind }) => kind),
  );
  return proofs?.every((kind) => verified.has(kind)) ?? false;
}

/** How many GPUs the server says that it serves on; at least one where it does not say. */
function servingGpus(claims: readonly Claim[]): number {
  const said = claims.filter(({ kind }) => kind === 'server.gpus').map(({ value }) => value);
  const counts = said.map((value) => (typeof value === 'number' ? value : 1));
  return said.length === 0 ? 1 : Math.max(...counts);
}

function gapsOf(
  set: EvidenceSet,
  index: number,
  proven: ReadonlyMap<string, number>,
  gpus: number,
): Reason[] {
  return Object.entries(set).flatMap(([family, asked]): Reason[] => {
    const wanted = asked === 'as-served' ? gpus : asked;
    const count = proven.get(family) ?? 0;
    if (count >= wanted) return [];
    const there = count === 0 ? `no ${family} is proven` : `proven of family ${family}: ${count}`;
    const text = `${there}, the policy wants ${wanted}`;
    const rule = `minimum[${index}].${family}`;
    return [{ rule, subject: family.toUpperCase(), kind: 'any', text }];
  });
}

function noneOf(minimum: readonly EvidenceSet[], proven: ReadonlyMap<string, number>): Reason {
  const sets = minimum.map((set) =>
    Object.entries(set)
      .map(([family, count]) => `${count} ${family}`)
      .join(' and '),
  );
  const there = [...proven].map(([family, count]) => `${count} ${family}`).join(', ') || 'nothing';
  const text = `${there} is proven, the policy wants at least ${sets.join(', or ')}`;
  return { rule: 'minimum', subject: 'ALL', kind: 'any', text };
}

function superfluous(subjects: Subjects, { atMost }: Policy): Reason[] {
  const counts = groupBy(subjects.keys(), familyOf);
  return Object.entries(atMost).flatMap(([family, most]): Reason[] => {
    const count = counts.get(family)?.length ?? 0;
    if (count <= most) return [];
    const text = `there is evidence of ${count}, the policy wants at most ${most}`;
    return [{ rule: `atMost.${family}`, subject: family.toUpperCase(), kind: 'any', text }];
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
    if (claim.status === 'verified' || isRefused) continue;
    if (requirement.believe?.some((voucher) => voucher === claim.voucher)) onTrust.push(claim);
    else faults.push(`is required, and is not verified: ${claim.why ?? claim.statement}`);
  }
  return { faults, onTrust };
}

const trustText = ({ voucher }: Claim) =>
  voucher.endsWith('-signed')
    ? `the policy believes what is ${voucher}, although it was compared with nothing`
    : `the policy believes what is ${voucher}; no signature vouches for it`;
