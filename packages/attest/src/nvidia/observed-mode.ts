import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim, Voucher } from '../claims/claim.ts';
import { demand } from '../core/errors.ts';
import type { MachineObservation } from '../report/observation.ts';
import type { AppraisedDevice } from './device.ts';
import type { DeviceSetClaimKind } from './kinds.ts';

type ConfidentialState = NonNullable<MachineObservation['confidential']>;

type ObservedCheck = Check & { readonly kind: DeviceSetClaimKind };

const UNTOLD = {
  kind: 'devices.confidential',
  statement: 'confidential computing is on',
  value: null,
  why: 'Only what the GPUs sign proves the mode they are in',
} as const;
const NOBODY = 'The guest says so, and nobody signed it';
/** What the driver tells the guest, as the GPUs themselves would sign it. */
const SIGNED_MODES = { none: 'single', 'protected-pcie': 'protected-pcie' } as const;

/**
 * What the guest was told of its GPUs' confidential mode; null: its driver does not say. `voucher`
 * is the guest where it is proven that the guest says so, else whoever answers. It is never
 * verified, but refused where the mode is off or simulated, where developer tools are on, which
 * open a GPU to the host, or where the GPUs sign something else.
 */
export async function appraiseObservedMode(
  state: ConfidentialState | null,
  devices: readonly AppraisedDevice[],
  voucher: Voucher,
): Promise<Claim[]> {
  const common = { subject: 'MACHINE', voucher, evidence: ['NVML'] };
  if (state === null) {
    const check = { ...common, ...UNTOLD };
    return [unchecked(check, 'The driver does not say', check.voucher)];
  }
  const { isOn, isDevTools, environment, multiGpuMode } = state;
  const confidential: ObservedCheck = {
    ...common,
    kind: 'devices.confidential',
    statement: `confidential computing is ${isOn ? 'on' : 'off'} (${environment})`,
    value: isOn,
    why: UNTOLD.why,
  };
  const devTools: ObservedCheck = {
    ...common,
    kind: 'devices.devtools',
    statement: 'no developer tools are on',
    value: isDevTools,
    why: 'With developer tools on, the host can look into the GPU',
  };
  return Promise.all([
    observed(confidential, () => {
      const isReal = isOn && environment !== 'simulation';
      const seen = isOn ? `on (${environment})` : 'off';
      demand(isReal, 'mode-refused', `confidential computing is ${seen}`);
      demandAgreement(multiGpuMode, devices);
    }),
    observed(devTools, () => demand(!isDevTools, 'devtools-enabled', 'developer tools are on')),
  ]);
}

/** A test can refuse, but passing it proves nothing. */
async function observed(check: ObservedCheck, test: () => void): Promise<Claim> {
  const tested = await checked({ ...check, voucher: 'device-signed' }, test);
  if (tested.status === 'refused') return { ...tested, voucher: check.voucher };
  return unchecked(check, NOBODY, check.voucher);
}

function demandAgreement(
  multiGpuMode: ConfidentialState['multiGpuMode'],
  devices: readonly AppraisedDevice[],
): void {
  const isComparable = multiGpuMode === 'none' || multiGpuMode === 'protected-pcie';
  for (const { subject, isAuthentic, report } of devices) {
    if (!isAuthentic || !isComparable || report.multiGpuMode === null) continue;
    const isAgreed = SIGNED_MODES[multiGpuMode] === report.multiGpuMode;
    const seen = `the driver says ${multiGpuMode}, ${subject} signs ${report.multiGpuMode}`;
    demand(isAgreed, 'mode-refused', `the modes differ: ${seen}`);
  }
}
