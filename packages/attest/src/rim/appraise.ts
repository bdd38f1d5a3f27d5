import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim, ClaimValue } from '../claims/claim.ts';
import type { AppraisalContext, ReferenceSource } from '../claims/context.ts';
import { type Bytes, equalBytes } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import type { DeviceReport } from '../nvidia/device-report.ts';
import { appraiseReference } from './reference.ts';
import type { GoldenMeasurement, Rim } from './swid.ts';

/** The claims about what devices measured, each with why it matters when it does not hold. */
const WHY = {
  measurements: 'A genuine device may run firmware that its vendor does not vouch for',
  svn: 'Firmware below the floor has faults that were mended since',
} as const;

/** What `appraiseMeasurements` makes claims of, besides those of the references. */
export const MEASUREMENT_CLAIM_KINDS = [
  'gpu.measurements',
  'gpu.svn',
  'switch.measurements',
  'switch.svn',
] as const;

/** Measured only where the first video decoder is on. */
const NVDEC0_INDEX = 35;

/** A device whose measurements are to be compared. */
export interface MeasuredDevice {
  /** Like `GPU-0`. */
  readonly subject: string;
  readonly report: DeviceReport;
  /** Whether chain and signature of the report hold; otherwise nothing that it says can. */
  readonly isAuthentic: boolean;
}

/** A reference that a device needs. */
interface Need {
  readonly role: 'driver' | 'VBIOS' | 'BIOS';
  /** To be asked for in this order. */
  readonly ids: readonly string[];
  readonly version: string;
}

/** What came of looking for it: the document, or why there is none. */
type Found = { readonly id: string; readonly bytes: Bytes } | Missing;

/** `not-available`: who has it could not be asked, so that it may exist. */
interface Missing {
  readonly problem: string;
  readonly code: 'reference-missing' | 'not-available';
}

/** A need, and what can be compared with: null where the reference itself is refused. */
type Reference = { readonly need: Need } & (
  | { readonly id: string; readonly rim: Rim | null }
  | Missing
);

/**
 * Compares what devices measured with the vendor's references. Each RIM is fetched and verified
 * once, however many devices share it; for each device there is one claim per RIM that it needs
 * (GPUs: driver and VBIOS; switches: BIOS), with counts as its value, like `31 of 31`.
 */
export async function appraiseMeasurements(
  devices: readonly MeasuredDevice[],
  context: AppraisalContext,
): Promise<Claim[]> {
  const source = context.references;
  if (source === null) return devices.map((one) => notCompared(one, 'No references were given'));
  // An FSP's references are CoRIMs: what they hold is not compared here, so nothing is missing.
  const booted = devices.filter(({ report }) => report.reporter === 'fsp');
  const comparable = devices.filter((one) => !booted.includes(one));
  const needs = comparable.flatMap(({ report }) => needsOf(report));
  const found = await lookUpAll(needs, source);
  const { claims, rims } = await appraiseFound(needs, found, context);
  for (const device of comparable) {
    const references = needsOf(device.report).map((need): Reference => {
      const one = found.get(keyOf(need))!;
      if ('problem' in one) return { need, ...one };
      return { need, id: one.id, rim: rims.get(one.id)! };
    });
    claims.push(...(await appraiseDevice(device, references)));
  }
  claims.push(...booted.map((one) => notCompared(one, "An FSP's references are not read here")));
  return claims;
}

function needsOf({ kind, rimIds, driverVersion, vbiosVersion }: DeviceReport): Need[] {
  const ids = rimIds.vbios === null ? [] : [rimIds.vbios];
  const firmware = { ids, version: vbiosVersion ?? 'none' };
  if (kind === 'switch') return [{ role: 'BIOS', ...firmware }];
  return [
    { role: 'driver', ids: rimIds.driver, version: driverVersion ?? 'none' },
    { role: 'VBIOS', ...firmware },
  ];
}

function keyOf({ ids }: Need): string {
  return ids.join(' ');
}

async function lookUpAll(
  needs: readonly Need[],
  source: ReferenceSource,
): Promise<Map<string, Found>> {
  const distinct = new Map(needs.map((need) => [keyOf(need), need.ids]));
  const found = await Promise.all(
    [...distinct].map(async ([key, ids]) => [key, await lookUp(source, ids)] as const),
  );
  return new Map(found);
}

async function lookUp(source: ReferenceSource, ids: readonly string[]): Promise<Found> {
  const code = 'reference-missing';
  if (ids.length === 0) return { code, problem: 'the report does not say which it would be' };
  try {
    for (const id of ids) {
      const bytes = await source.rim(id);
      if (bytes !== null) return { id, bytes };
    }
    return { code, problem: `${ids.join(' or ')} is not known` };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    const text = `${ids[0]} could not be asked for: ${problem}`;
    return { code: 'not-available', problem: text };
  }
}

async function appraiseFound(
  needs: readonly Need[],
  found: ReadonlyMap<string, Found>,
  context: AppraisalContext,
): Promise<{ claims: Claim[]; rims: Map<string, Rim | null> }> {
  const claims: Claim[] = [];
  const rims = new Map<string, Rim | null>();
  const wanted = needs.map((need) => ({ one: found.get(keyOf(need))!, version: need.version }));
  for (const { one } of wanted) {
    if ('problem' in one || rims.has(one.id)) continue;
    const same = wanted.filter((other) => 'id' in other.one && other.one.id === one.id);
    const versions = same.map(({ version }) => version);
    const subject = `RIM-${rims.size}`;
    const appraisal = await appraiseReference({ ...one, subject, versions }, context);
    claims.push(...appraisal.claims);
    rims.set(one.id, appraisal.trusted);
  }
  return { claims, rims };
}

async function appraiseDevice(
  device: MeasuredDevice,
  references: readonly Reference[],
): Promise<Claim[]> {
  const overlap = overlapOf(references);
  const claims: Claim[] = [];
  for (const reference of references) {
    const { role } = reference.need;
    if ('problem' in reference) {
      const missing = checkOf(device, 'measurements', '', null);
      const problem = `There is no ${role} reference: ${reference.problem}`;
      const { code } = reference;
      claims.push(await checked(missing, () => demand(false, code, problem)));
      continue;
    }
    const { id, rim } = reference;
    if (rim === null || !device.isAuthentic) {
      const statement = `Measurements were not compared with the ${role} reference`;
      const reason = `The ${device.isAuthentic ? 'reference' : 'report'} itself is refused`;
      claims.push(unchecked(checkOf(device, 'measurements', statement, id), reason));
      continue;
    }
    claims.push(await compare(device, { role, id, rim, overlap }));
    if (rim.floors.length > 0) claims.push(await compareSvn(device, id, rim));
  }
  return claims;
}

/** Indices that more than one of the RIMs speaks for: by NVIDIA's rule there are none. */
function overlapOf(references: readonly Reference[]): number[] {
  const seen = new Set<number>();
  const twice: number[] = [];
  for (const reference of references) {
    const measurements = 'rim' in reference ? reference.rim?.measurements : undefined;
    for (const index of measurements?.keys() ?? []) {
      if (seen.has(index)) twice.push(index);
      seen.add(index);
    }
  }
  return twice;
}

interface Comparison {
  readonly role: Need['role'];
  readonly id: string;
  readonly rim: Rim;
  readonly overlap: readonly number[];
}

function compare(device: MeasuredDevice, { role, id, rim, overlap }: Comparison): Promise<Claim> {
  const { report } = device;
  const due = [...rim.measurements.values()].filter(
    ({ index }) => index !== NVDEC0_INDEX || report.isNvdec0On !== false,
  );
  const wrong = due.filter((golden) => !isMet(golden, report));
  const value = `${due.length - wrong.length} of ${due.length}`;
  const statement = `${value} measurements match the ${role} reference`;
  return checked(checkOf(device, 'measurements', statement, id, value), () => {
    const twice = `the driver's and the VBIOS's reference both speak for ${overlap.join(', ')}`;
    demand(overlap.length === 0, 'reference-conflict', twice);
    demand(due.length > 0, 'reference-missing', `the ${role} reference names no measurement`);
    const names = wrong.map(({ index, name }) => `${index} (${name})`).join(', ');
    demand(wrong.length === 0, 'measurement-mismatch', `${statement}, but not ${names}`);
  });
}

function isMet({ index, alternatives }: GoldenMeasurement, report: DeviceReport): boolean {
  const measured = report.measurements.get(index);
  return measured !== undefined && alternatives.some((golden) => equalBytes(golden, measured));
}

/** The one security version that reports carry is that of the FSP's microcode. */
function compareSvn(device: MeasuredDevice, id: string, rim: Rim): Promise<Claim> {
  const reported = device.report.fspUcodeSvn;
  const floor = Math.max(...rim.floors.map(({ minimum }) => minimum));
  const statement = `Security version ${reported} is not below the floor ${floor}`;
  return checked(checkOf(device, 'svn', statement, id, reported), () => {
    const names = rim.floors.map(({ name }) => name).join(', ');
    const version = reported ?? '(not reported)';
    const problem = `security version ${version} is below the floor ${floor} (${names})`;
    demand(reported !== null && reported >= floor, 'firmware-mismatch', problem);
  });
}

function notCompared(device: MeasuredDevice, reason: string): Claim {
  const statement = 'Measurements were not compared with references';
  return unchecked(checkOf(device, 'measurements', statement, null), reason);
}

function checkOf(
  { subject, report }: MeasuredDevice,
  kind: keyof typeof WHY,
  statement: string,
  rimId: string | null,
  value?: ClaimValue,
): Check {
  return {
    kind: `${report.kind}.${kind}`,
    subject,
    voucher: 'device-signed',
    statement,
    evidence: [`${subject} report`, ...(rimId === null ? [] : [`RIM ${rimId}`])],
    why: WHY[kind],
    ...(value === undefined ? {} : { value }),
  };
}
