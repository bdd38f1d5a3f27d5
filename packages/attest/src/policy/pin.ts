import type { Claim, ClaimValue } from '../claims/claim.ts';
import { groupBy } from '../core/group.ts';
import { familyOf } from './families.ts';
import { metMinimum } from './judge.ts';
import { type EvidenceSet, type Policy, PROOFS, type Requirement } from './policy.ts';
import { compareVersions } from './value.ts';

/** Of each kind, what a later value must be, given those of now. */
const PINS: Readonly<Record<string, (values: readonly ClaimValue[]) => Requirement | null>> = {
  'cpu.tee': oneOf,
  'cpu.launch': oneOf,
  'cpu.attributes': oneOf,
  'cpu.vmpl': oneOf,
  'cpu.measurements': includes,
  'cpu.system': includes,
  'cpu.platform': includes,
  'cpu.guestPolicy': includes,
  'cpu.collateral': atLeast,
  'cpu.qe': atLeast,
  'cpu.qeIdentity': atLeast,
  'cpu.teeTcbSvn': partsAtLeast,
  'cpu.committedTcb': partsAtLeast,
  'cpu.launchTcb': partsAtLeast,
  // Under TDX it is Intel's word for the platform, which the policy asks for by itself.
  'cpu.tcb': partsAtLeast,
  'app.identity': oneOf,
  'app.compose': oneOf,
  'app.keyProvider': includes,
  'gpu.class': oneOf,
  'gpu.mode': oneOf,
  'gpu.nvlink-encryption': oneOf,
  'gpu.driver': versionAtLeast,
  'gpu.vbios': versionAtLeast,
  'switch.class': oneOf,
  'switch.vbios': versionAtLeast,
};
/** What the software says of itself: it is worth what the pinned measurements are. */
const SAID = ['server.gpus', 'server.software', 'server.model', 'server.configuration'];
const PINNED_FAMILIES = ['server', 'cpu', 'app', 'gpu', 'switch'] as const;

/**
 * The policy with the machine that was shown here as the one that it expects: its software, model
 * and configuration, how many devices of which classes in which modes, and all versions of firmware
 * as the least from now on. Whoever uses it trusts that machine, on first use or because the values
 * agree with those of its makers. null: the policy's minimum of evidence is not proven, or a CPU is
 * there whose software is not.
 */
export function pinPolicy(policy: Policy, claims: readonly Claim[]): Policy | null {
  const met = metMinimum(claims, policy);
  const byKind = groupBy(claims, ({ kind }) => kind);
  const hasCpu = claims.some(({ subject }) => familyOf(subject) === 'cpu');
  const isNamed = ['cpu.launch', 'cpu.measurements'].every((kind) => isStated(byKind.get(kind)));
  if (met === null || (hasCpu && !isNamed)) return null;
  const require: Record<string, Record<string, Requirement>> = {};
  for (const [family, kinds] of Object.entries(policy.require)) require[family] = { ...kinds };
  for (const [kind, own] of byKind) {
    const pinned = pinOf(kind, own);
    if (pinned === null) continue;
    const family = kind.slice(0, kind.indexOf('.'));
    require[family] = { ...require[family], [kind]: { ...require[family]?.[kind], ...pinned } };
  }
  return {
    ...policy,
    name: `${policy.name}, pinned`,
    minimum: [{ ...met, ...countsOf(claims) }],
    require: require as Policy['require'],
  };
}

/** null: the kind is not pinned, or not everything that is said of it is proven. */
function pinOf(kind: string, claims: readonly Claim[]): Requirement | null {
  const values = claims.flatMap(({ value }) => (value === undefined ? [] : [value]));
  if (values.length < claims.length) return null;
  if (SAID.includes(kind)) {
    const isSaid = claims.every(({ status, voucher }) => {
      return status === 'unverified' && voucher === 'guest-observed';
    });
    return isSaid ? { ...oneOf(values), believe: ['guest-observed'] } : null;
  }
  return isStated(claims) ? (PINS[kind]?.(values) ?? null) : null;
}

/** Whether signatures stand behind all of it, even where it was compared with nothing. */
function isStated(claims: readonly Claim[] | undefined): boolean {
  return (claims ?? []).some(isSigned) && claims!.every(isSigned);
}

const isSigned = ({ status, voucher }: Claim) =>
  status !== 'refused' && voucher.endsWith('-signed');

function countsOf(claims: readonly Claim[]): EvidenceSet {
  const counts: Partial<Record<(typeof PINNED_FAMILIES)[number], number>> = {};
  for (const [subject, own] of groupBy(claims, (claim) => claim.subject)) {
    const family = PINNED_FAMILIES.find((one) => one === familyOf(subject));
    if (family === undefined) continue;
    const signed = new Set(own.filter(isSigned).map(({ kind }) => kind));
    if (PROOFS[family].every((kind) => signed.has(kind)))
      counts[family] = (counts[family] ?? 0) + 1;
  }
  return counts;
}

type Scalar = Exclude<ClaimValue, readonly string[]>;
const isScalar = (value: ClaimValue): value is Scalar => !Array.isArray(value);
const isText = (value: ClaimValue) => typeof value === 'string';
const isNumber = (value: ClaimValue) => typeof value === 'number';

function oneOf(values: readonly ClaimValue[]): Requirement | null {
  return values.every(isScalar) ? { oneOf: [...new Set(values)] } : null;
}

/** Of one subject alone: of several, which list is whose would be lost. */
function includes([value, ...more]: readonly ClaimValue[]): Requirement | null {
  return value === undefined || isScalar(value) || more.length > 0
    ? null
    : { includes: [...value] };
}

function atLeast(values: readonly ClaimValue[]): Requirement | null {
  return values.every(isNumber) ? { atLeast: Math.min(...values) } : null;
}

function versionAtLeast(values: readonly ClaimValue[]): Requirement | null {
  if (!values.every(isText)) return null;
  const [oldest] = values.toSorted(compareVersions);
  return oldest === undefined ? null : { atLeast: oldest };
}

function partsAtLeast([value, ...more]: readonly ClaimValue[]): Requirement | null {
  if (value === undefined || isScalar(value) || more.length > 0) return null;
  const parts = value.map((part) => part.split('=')).map(([name, text]) => [name, Number(text)]);
  return { atLeast: Object.fromEntries(parts) };
}
