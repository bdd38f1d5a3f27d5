import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext } from '../claims/context.ts';
import { toHex } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { type AppraisedDevice, appraiseDevice } from '../nvidia/device.ts';
import type { DeviceEvidence } from '../nvidia/evidence.ts';
import type { DeviceSetClaimKind } from '../nvidia/kinds.ts';
import { appraiseHgx } from './topology.ts';

/** What came of a machine's GPUs and switches. */
export interface AppraisedDevices {
  readonly devices: readonly AppraisedDevice[];
  /** Of each device, of the set, and of the board where it is one of HGX H100 in PPCIe mode. */
  readonly claims: readonly Claim[];
}

/**
 * Checks a machine's devices, each and together. GPUs and switches are numbered in the order they
 * come in: `GPU-0`, `SWITCH-0`, ... Measurements are compared by `appraiseMeasurements`.
 */
export async function appraiseDevices(
  evidence: readonly DeviceEvidence[],
  context: AppraisalContext,
): Promise<AppraisedDevices> {
  const counts = { gpu: 0, switch: 0 };
  const devices = await Promise.all(
    evidence.map((one) => {
      const { kind } = one.report;
      return appraiseDevice(`${kind.toUpperCase()}-${counts[kind]++}`, one, context);
    }),
  );
  const claims = [
    ...devices.flatMap((device) => device.claims),
    await appraiseDistinct(devices),
    await appraiseOneNonce(devices),
    ...(await appraiseHgx(devices)),
  ];
  return { devices, claims };
}

async function appraiseDistinct(devices: readonly AppraisedDevice[]): Promise<Claim> {
  return checkedSet(
    devices,
    {
      kind: 'devices.distinct',
      statement: 'no device is shown twice',
      why: 'One device can be shown in the place of several',
      value: devices.length,
    },
    () => {
      const seen = new Map<string, string>();
      for (const { subject, pdi } of devices) {
        if (pdi === null) continue;
        const other = seen.get(pdi);
        if (other === undefined) seen.set(pdi, subject);
        else throw new AttestError('identity-mismatch', `${other} and ${subject} are one device`);
      }
    },
  );
}

async function appraiseOneNonce(devices: readonly AppraisedDevice[]): Promise<Claim> {
  return checkedSet(
    devices,
    {
      kind: 'devices.nonce',
      statement: 'all reports answer one nonce',
      why: 'The reports can be of different times, or of different machines',
    },
    () => {
      const nonces = new Set(devices.map(({ report }) => toHex(report.nonce)));
      demand(nonces.size <= 1, 'nonce-mismatch', `the reports answer ${nonces.size} nonces`);
    },
  );
}

/** A check of a whole set: it can be refused, but only verified if all devices are authentic. */
async function checkedSet(
  devices: readonly AppraisedDevice[],
  fields: Pick<Check, 'statement' | 'why'> & {
    readonly kind: DeviceSetClaimKind;
    readonly value?: number;
  },
  test: () => void,
): Promise<Claim> {
  const check: Check = {
    subject: 'MACHINE',
    voucher: 'device-signed',
    evidence: devices.map(({ subject }) => `${subject} report`),
    ...fields,
  };
  const claim = await checked(check, test);
  const doubtful = devices.find(({ isAuthentic, pdi }) => !isAuthentic || pdi === null);
  if (claim.status === 'refused' || doubtful === undefined) return claim;
  return unchecked(check, `${doubtful.subject} is not proven to be what it says`);
}
