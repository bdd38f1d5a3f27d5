import type { AttestedDeviceKind } from './device-report.ts';

/** What every device's evidence is checked for; each is a claim `gpu.…` or `switch.…`. */
const COMMON = [
  'chain',
  'expiry',
  'revocation',
  'signature',
  'nonce',
  'identity',
  'class',
  'firmware',
  'vbios',
] as const;
const GPU_ONLY = ['driver', 'mode', 'nvdec0', 'nvlink-encryption'] as const;
const SWITCH_ONLY = ['lock'] as const;

type CommonCheck = (typeof COMMON)[number];
export type GpuCheck = CommonCheck | (typeof GPU_ONLY)[number];
export type SwitchCheck = CommonCheck | (typeof SWITCH_ONLY)[number];
export type DeviceClaimKind = `gpu.${GpuCheck}` | `switch.${SwitchCheck}`;

/** Every kind of claim that `appraiseDevice` makes. */
export const DEVICE_CLAIM_KINDS: readonly DeviceClaimKind[] = [
  ...[...COMMON, ...GPU_ONLY].map((check) => `gpu.${check}` as const),
  ...[...COMMON, ...SWITCH_ONLY].map((check) => `switch.${check}` as const),
];

/** The claim kind of a check that both kinds of device have. */
export function kindOf(device: AttestedDeviceKind, check: CommonCheck): DeviceClaimKind {
  return `${device}.${check}`;
}

/** Every kind of claim that `appraiseDevices` and `appraiseObservedMode` make of a set. */
export const DEVICE_SET_CLAIM_KINDS = [
  'devices.distinct',
  'devices.nonce',
  'devices.confidential',
  'devices.devtools',
] as const;
export type DeviceSetClaimKind = (typeof DEVICE_SET_CLAIM_KINDS)[number];
