import { type Check, checkedIn, type Source, unchecked } from '../claims/check.ts';
import type { Claim, ClaimValue, Voucher } from '../claims/claim.ts';
import type { AppraisalContext } from '../claims/context.ts';
import { type Bytes, equalBytes, toHex } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { CPU_CLAIMS, type CpuClaimKind } from './kinds.ts';

export interface CpuContext extends AppraisalContext {
  /** The 64 bytes that the guest must have put into the evidence; null: they are not compared. */
  readonly expectedReportData: Bytes | null;
}

/** A check about the CPU that evidence is from. */
export function cpuCheck(
  kind: CpuClaimKind,
  voucher: Voucher,
  statement: string,
  evidence: readonly string[],
  value?: ClaimValue,
): Check {
  const check = { kind, subject: 'CPU', voucher, statement, evidence, why: CPU_CLAIMS[kind] };
  return value === undefined ? check : { ...check, value };
}

/** What a CPU reported of a guest, with whether its signatures hold up to a pinned root. */
export interface GuestReport {
  readonly tee: 'tdx' | 'sev-snp';
  readonly isGenuine: boolean;
  readonly evidence: readonly string[];
  readonly isDebug: boolean;
  /** null: nobody can move the guest. Else what allows it. */
  readonly migration: string | null;
  /** What the guest was started with, before any software of its own ran. */
  readonly launch: Bytes;
  /** By name; the registers that policies compare. */
  readonly measurements: Readonly<Record<string, Bytes>>;
  /** Names of those that firmware and operating system are measured into, and nothing above. */
  readonly systemRegisters: readonly string[];
  readonly reportData: Bytes;
}

/** The claims that TDX and SEV-SNP have in common. */
export async function appraiseGuest(guest: GuestReport, context: CpuContext): Promise<Claim[]> {
  const { evidence, isGenuine, migration } = guest;
  const document = { isGenuine, doubt: 'Nothing proves that the evidence is genuine' };
  const about = (kind: CpuClaimKind, statement: string, value: ClaimValue): Check =>
    cpuCheck(kind, 'cpu-signed', statement, evidence, value);
  const launch = toHex(guest.launch);
  const measurements = Object.entries(guest.measurements).map(
    ([name, bytes]) => `${name}=${toHex(bytes)}`,
  );
  const system = guest.systemRegisters.map((name) => `${name}=${toHex(guest.measurements[name]!)}`);
  return [
    await checkedIn(
      document,
      about('cpu.tee', `the CPU is one of ${guest.tee}`, guest.tee),
      () => {},
    ),
    await checkedIn(document, about('cpu.debug', 'debugging is off', guest.isDebug), () =>
      demand(!guest.isDebug, 'debug-enabled', 'the guest runs in debug mode'),
    ),
    await checkedIn(
      document,
      about('cpu.migration', 'the guest cannot be migrated', migration !== null),
      () => demand(migration === null, 'mode-refused', `the guest can be migrated: ${migration}`),
    ),
    await checkedIn(document, about('cpu.launch', `started with ${launch}`, launch), () => {}),
    await checkedIn(
      document,
      about('cpu.measurements', `${measurements.length} registers were measured`, measurements),
      () => {},
    ),
    uncompared(document, about('cpu.system', 'firmware and operating system are measured', system)),
    await appraiseReportData(guest, document, context),
  ];
}

async function appraiseReportData(
  guest: GuestReport,
  document: Source,
  context: CpuContext,
): Promise<Claim> {
  const { evidence, reportData } = guest;
  const expected = context.expectedReportData;
  const value = toHex(reportData);
  const statement = 'the guest put in what was asked of it';
  const check = cpuCheck('cpu.reportData', 'cpu-signed', statement, evidence, value);
  if (expected === null) {
    return uncompared(document, { ...check, statement: `the guest put in ${value}` });
  }
  return checkedIn(document, check, () =>
    demand(
      equalBytes(reportData, expected),
      'binding-mismatch',
      `the guest put in ${value}, expected was ${toHex(expected)}`,
    ),
  );
}

/** What a document says, which nothing is at hand to compare with: a policy may. */
function uncompared({ isGenuine, doubt }: Source, check: Check): Claim {
  if (!isGenuine) return unchecked(check, doubt);
  return unchecked(check, 'It was compared with nothing', check.voucher);
}
