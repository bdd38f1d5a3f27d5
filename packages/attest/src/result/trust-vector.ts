import type { Claim } from '../claims/claim.ts';
import type { VerifyResult } from './result.ts';

/**
 * Trustworthiness claims of AR4SI (draft-ietf-rats-ar4si): 0 says nothing, 2 affirms, 32 warns,
 * 96 contraindicates.
 */
export type TrustValue = 0 | 2 | 32 | 96;
export type TrustAspect = 'instance-identity' | 'configuration' | 'executables' | 'hardware';

export type TrustTier = 'none' | 'affirming' | 'warning' | 'contraindicated';

/** Of one subject: the tier of the worst aspect, and each aspect that any claim bears on. */
export interface Appraisal {
  readonly status: TrustTier;
  readonly vector: Readonly<Partial<Record<TrustAspect, TrustValue>>>;
}

const TIERS: Readonly<Record<TrustValue, TrustTier>> = {
  0: 'none',
  2: 'affirming',
  32: 'warning',
  96: 'contraindicated',
};

/** What a claim bears on, by the last part of its name; what is not listed is of identity. */
const ASPECTS: Readonly<Record<string, TrustAspect>> = {
  debug: 'configuration',
  mode: 'configuration',
  driver: 'executables',
  firmware: 'executables',
  measurements: 'executables',
  pcrs: 'executables',
  vbios: 'executables',
  collateral: 'hardware',
  tcb: 'hardware',
};
const EXECUTABLE_FAMILIES: ReadonlySet<string> = new Set(['rim', 'app']);

function aspectOf(kind: string): TrustAspect {
  const [family, name] = kind.split('.');
  if (EXECUTABLE_FAMILIES.has(family!)) return 'executables';
  return ASPECTS[name!] ?? 'instance-identity';
}

/** The summary by subject. */
export function appraisalsOf({ claims, verdict }: VerifyResult): Record<string, Appraisal> {
  const tolerated = new Set(verdict.tolerated.map(({ claim }) => claim));
  const subjects = new Map<string, Map<TrustAspect, TrustValue[]>>();
  for (const claim of claims) {
    const aspects = subjects.get(claim.subject) ?? new Map<TrustAspect, TrustValue[]>();
    subjects.set(claim.subject, aspects);
    const aspect = aspectOf(claim.kind);
    const values = aspects.get(aspect) ?? [];
    aspects.set(aspect, values);
    values.push(trustOf(claim, tolerated.has(claim)));
  }
  return Object.fromEntries(
    [...subjects].map(([subject, aspects]) => [subject, appraisalOf(aspects)]),
  );
}

function appraisalOf(aspects: ReadonlyMap<TrustAspect, readonly TrustValue[]>): Appraisal {
  const vector = Object.fromEntries(
    [...aspects].map(([aspect, values]) => [aspect, combined(values)]),
  ) as Appraisal['vector'];
  return { status: TIERS[combined(Object.values(vector))], vector };
}

function trustOf({ status }: Claim, isTolerated: boolean): TrustValue {
  if (status === 'refused') return isTolerated ? 32 : 96;
  return status === 'verified' ? 2 : 0;
}

/** Partly verified is a warning: silence about the rest must not read as approval. */
function combined(values: readonly TrustValue[]): TrustValue {
  const highest = worst(values);
  return highest === 2 && values.includes(0) ? 32 : highest;
}

const worst = (values: readonly TrustValue[]): TrustValue => Math.max(0, ...values) as TrustValue;
