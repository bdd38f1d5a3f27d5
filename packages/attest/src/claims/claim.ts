import type { AttestErrorCode } from '../core/errors.ts';
import { invariant } from '../core/invariant.ts';

/**
 * - verified: it follows from signatures that were checked, up to a pinned root.
 * - refused: it was checked and does not hold.
 * - depends-on: it holds if other claims do, which nobody has shown to hold: `dependsOn`.
 * - unverified: nothing that was checked supports it; `why` says what that means. Where a device, a
 *   CPU or its vendor signed it all the same, its value was compared with nothing.
 */
export type ClaimStatus = 'verified' | 'refused' | 'depends-on' | 'unverified';

/** Who says so. Only what a device, a CPU or its vendor signed can be verified. */
export type Voucher =
  | 'device-signed'
  | 'cpu-signed'
  | 'vendor-signed'
  | 'guest-observed'
  | 'operator-asserted';

/** A value that a policy can be compared with. */
export type ClaimValue = string | number | boolean | null | readonly string[];

/** One statement about a machine, with what it rests on. The result of verification is a list. */
export interface Claim {
  /** Closed per package version: what policies name, like `gpu.signature` or `cpu.tcb`. */
  readonly kind: string;
  /** What it is about: `GPU-0`, `SWITCH-2`, `CPU`, `SERVER`, `MACHINE`. */
  readonly subject: string;
  readonly status: ClaimStatus;
  readonly voucher: Voucher;
  /** One sentence for a reader, without a full stop. */
  readonly statement: string;
  /** What it rests on, like `GPU-0 report` or `RIM NV_GPU_DRIVER_GH100_550.144.03`. */
  readonly evidence: readonly string[];
  readonly value?: ClaimValue;
  /** Why it was refused. */
  readonly code?: AttestErrorCode;
  /** Why it matters that this is not verified. */
  readonly why?: string;
  /** Kinds of the claims that all have to be verified for this one to mean anything. */
  readonly dependsOn?: readonly string[];
}

/** Makes a claim; what nobody signed can never be made `verified`. */
export function claim(fields: Claim): Claim {
  const isSigned = fields.voucher.endsWith('-signed');
  const { status, kind, dependsOn = [] } = fields;
  invariant(status !== 'verified' || isSigned, `${kind}: verified, but unsigned`);
  const isFounded = status !== 'depends-on' || (isSigned && dependsOn.length > 0);
  invariant(isFounded, `${kind}: it depends on nothing, or is unsigned`);
  invariant((status === 'refused') === (fields.code !== undefined), 'refusals have codes');
  const isOpen = status === 'unverified' || status === 'depends-on';
  invariant(!isOpen || fields.why !== undefined, `${status} needs a why`);
  return fields;
}
