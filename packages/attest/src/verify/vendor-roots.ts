import type { TrustAnchors } from '../core/trust.ts';
import { AMD_ARKS, INTEL_SGX_ROOTS } from '../cpu/roots.ts';
import { NVIDIA_DEVICE_ROOTS } from '../nvidia/roots.ts';
import { NVIDIA_RIM_ROOTS } from '../rim/roots.ts';

/** The roots of the vendors, each read from where its own constant says. */
export const VENDOR_ROOTS: TrustAnchors = {
  nvidiaDevice: NVIDIA_DEVICE_ROOTS,
  nvidiaRim: NVIDIA_RIM_ROOTS,
  intelSgx: INTEL_SGX_ROOTS,
  amdArk: AMD_ARKS,
};
