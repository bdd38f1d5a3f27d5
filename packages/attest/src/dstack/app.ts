import { type Check, checkedIn, resting, type Source, unchecked } from '../claims/check.ts';
import { type Claim, type ClaimValue, claim } from '../claims/claim.ts';
import { toHex } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { appraiseEventLog } from '../cpu/event-log.ts';
import type { CpuContext } from '../cpu/guest.ts';
import type { TdxCollateral } from '../cpu/tdx-collateral.ts';
import { appraiseTdxQuote, isVerified } from '../cpu/tdx-verify.ts';
import { type BootEvents, bootEventsOf } from './boot.ts';
import { APP_CLAIMS, type AppClaimKind } from './kinds.ts';
import { type AppDocuments, type Measured, measuredOf } from './measured.ts';
import type { DstackReport, VmConfig } from './report.ts';

const EVIDENCE = ['TDX quote', 'event log'];
const UNKNOWN_SYSTEM =
  'Any operating system can measure any app: it is not known whether this one is the expected';

/**
 * What dstack's report proves: about the CPU, the event log, and the app. The app's claims are what
 * the guest's operating system measured, into a register that any operating system may extend with
 * anything: they depend on which one it is (`cpu.system`).
 */
export async function appraiseDstackReport(
  report: DstackReport,
  collateral: TdxCollateral | null,
  documents: AppDocuments,
  context: CpuContext,
): Promise<Claim[]> {
  const cpu = await appraiseTdxQuote(report.quote, collateral, context);
  const { events, quote, logged } = report;
  const log = await appraiseEventLog(events, quote, isVerified(cpu, 'cpu.quote'), logged);
  const boot = bootEventsOf(report.events);
  const app = await appraiseApp(report, boot, documents, log.status === 'verified');
  return [...cpu, log, ...onSystem(app)];
}

/** Claims of an app depend on which operating system measured it, or holds itself to it. */
export function onSystem(app: readonly Claim[]): Claim[] {
  return app.map((claim) => resting(claim, ['cpu.system'], UNKNOWN_SYSTEM));
}

async function appraiseApp(
  { vmConfig }: DstackReport,
  boot: BootEvents,
  documents: AppDocuments,
  isReplayed: boolean,
): Promise<Claim[]> {
  const hasGpus = (vmConfig?.num_gpus ?? 0) > 0;
  const measured = measuredOf(documents, vmConfig).filter(({ kind, event }) => {
    const isOfGpus = kind === 'app.gpuPolicy' || kind === 'app.gpuBoot';
    return !isOfGpus || hasGpus || boot.payloads(event).length > 0 || boot.isOfApp(event);
  });
  const source = {
    isGenuine: isReplayed && boot.isComplete,
    doubt: isReplayed
      ? 'The log does not say when the app began, and the app can measure what it likes'
      : 'The event log is not proven to be that of the quote',
  };
  const claims: Claim[] = [];
  for (const one of measured) claims.push(await appraiseMeasured(one, boot, source));
  return [
    ...claims,
    ...(await appraiseScripts(boot, source)),
    await appraiseOsImage(boot, vmConfig, source),
    ...appraiseMachine(vmConfig),
  ];
}

async function appraiseMeasured(one: Measured, boot: BootEvents, source: Source): Promise<Claim> {
  const [payload, ...more] = boot.payloads(one.event);
  if (payload === undefined) return appraiseMissing(one, boot);
  const outcome = await one.appraise(payload).catch((error: unknown) => {
    if (error instanceof AttestError) return error;
    throw error;
  });
  const isRefused = outcome instanceof AttestError;
  const value: ClaimValue = isRefused ? toHex(payload) : outcome;
  const check = appCheck(one.kind, `${one.statement} ${shown(value)}`, value);
  return checkedIn(source, check, () => {
    boot.demandPlain();
    const isOnce = more.length === 0;
    demand(isOnce, 'event-log-mismatch', `${one.event} was measured ${1 + more.length} times`);
    if (isRefused) throw outcome;
  });
}

function appraiseMissing(one: Measured, boot: BootEvents): Claim {
  const check = appCheck(one.kind, `the guest measured ${one.event}`, null);
  const reason = boot.isOfApp(one.event)
    ? `${one.event} was measured after the app began, so that the app can have made it up`
    : `The guest measured no ${one.event} while it booted`;
  return unchecked(check, reason);
}

/** Scripts that the compose file lets run before the app, in their order; most apps have none. */
async function appraiseScripts(boot: BootEvents, source: Source): Promise<Claim[]> {
  const hashes = boot.payloads('init-script-hash').map(toHex);
  if (hashes.length === 0) return [];
  const check = appCheck('app.initScripts', `${hashes.length} scripts ran before the app`, hashes);
  return [await checkedIn(source, check, () => boot.demandPlain())];
}

/**
 * The image's hash is measured where a key service gave it to the guest; else the host alone states
 * it, and it is to be found out from the launch measurements. That the host states another one is
 * no refusal: nobody measures its configuration, and it may name the image in another way.
 */
async function appraiseOsImage(
  boot: BootEvents,
  vmConfig: VmConfig | null,
  source: Source,
): Promise<Claim> {
  const stated = vmConfig?.os_image_hash || null;
  const [payload, ...more] = boot.payloads('os-image-hash');
  const measured = payload === undefined ? null : toHex(payload);
  const value = measured ?? stated;
  const isOther = measured !== null && stated !== null && stated !== measured;
  const other = isOther ? `, while the host states ${stated}` : '';
  const check = appCheck('app.osImage', `the operating system's image is ${value}${other}`, value);
  if (measured === null) {
    const reason = 'No os-image-hash was measured: the launch measurements have to be compared';
    return unchecked(check, reason);
  }
  return checkedIn(source, check, () => {
    boot.demandPlain();
    demand(more.length === 0, 'event-log-mismatch', 'os-image-hash was measured several times');
  });
}

/** What the host says of the machine: nobody signs it. */
export function appraiseMachine(vmConfig: VmConfig | null): Claim[] {
  if (vmConfig === null) return [];
  const { cpu_count: cpus, memory_size: memory, num_gpus: gpus, num_nvswitches } = vmConfig;
  const value = [
    `cpus=${cpus}`,
    `memoryBytes=${memory}`,
    `gpus=${gpus}`,
    `switches=${num_nvswitches}`,
  ];
  const check = appCheck('app.machine', `the host gave the guest ${value.join(', ')}`, value);
  return [
    claim({
      ...check,
      status: 'unverified',
      voucher: 'operator-asserted',
      evidence: ['VM configuration'],
    }),
  ];
}

/** A check about the app that a guest of dstack's runs. */
export function appCheck(
  kind: AppClaimKind,
  statement: string,
  value: ClaimValue,
  evidence: readonly string[] = EVIDENCE,
): Check {
  const why = APP_CLAIMS[kind];
  return { kind, subject: 'APP', voucher: 'cpu-signed', statement, evidence, value, why };
}

function shown(value: ClaimValue): string {
  return typeof value === 'object' && value !== null ? value.join(', ') : String(value);
}
