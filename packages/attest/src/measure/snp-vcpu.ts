import type { Bytes } from '../core/bytes.ts';

/** Who starts the guest: each has its own initial registers and order of pages. */
export const SNP_VMMS = ['qemu', 'ec2', 'gce'] as const;
export type SnpVmm = (typeof SNP_VMMS)[number];

const signatureOf = (family: number, model: number, stepping: number): number =>
  ((family - 0xf) << 20) | ((model >> 4) << 16) | 0xf00 | ((model & 0xf) << 4) | stepping;

const NAPLES = signatureOf(23, 1, 2);
const ROME = signatureOf(23, 49, 0);
const MILAN = signatureOf(25, 1, 1);
const GENOA = signatureOf(25, 17, 0);

/**
 * CPUID Fn0000_0001 EAX of QEMU's models of processors (AMD publication 25481), which a new vCPU
 * has in its RDX.
 */
export const SNP_VCPU_SIGNATURES: Readonly<Record<string, number>> = {
  EPYC: NAPLES,
  'EPYC-v1': NAPLES,
  'EPYC-v2': NAPLES,
  'EPYC-v3': NAPLES,
  'EPYC-v4': NAPLES,
  'EPYC-IBPB': NAPLES,
  'EPYC-Rome': ROME,
  'EPYC-Rome-v1': ROME,
  'EPYC-Rome-v2': ROME,
  'EPYC-Rome-v3': ROME,
  'EPYC-Milan': MILAN,
  'EPYC-Milan-v1': MILAN,
  'EPYC-Milan-v2': MILAN,
  'EPYC-Genoa': GENOA,
  'EPYC-Genoa-v1': GENOA,
  'EPYC-Turin': signatureOf(26, 0, 0),
};

export interface SnpVcpu {
  readonly vmm: SnpVmm;
  /** Where it begins; the first one at the reset vector. */
  readonly instructionPointer: number;
  /** See `SNP_VCPU_SIGNATURES`; EC2 and GCE start their own. */
  readonly signature: number;
  /** SEV_FEATURES. */
  readonly guestFeatures: bigint;
}

export const RESET_VECTOR = 0xffff_fff0;
const PAGE_BYTES = 4096;

/**
 * The page with a vCPU's initial state (VMSA; AMD's manual 24593, table B-4) as KVM and its VMMs
 * fill it. What is not named is zero.
 */
export function makeVmsa(vcpu: SnpVcpu): Bytes {
  const { vmm, instructionPointer, signature, guestFeatures } = vcpu;
  const page = new Uint8Array(PAGE_BYTES);
  const view = new DataView(page.buffer);
  const u64 = (at: number, value: bigint | number) => view.setBigUint64(at, BigInt(value), true);
  const segment = (at: number, attributes: number, selector = 0, base = 0) => {
    view.setUint16(at, selector, true);
    view.setUint16(at + 2, attributes, true);
    view.setUint32(at + 4, 0xffff, true);
    u64(at + 8, base);
  };
  const isQemu = vmm === 'qemu';
  const isEc2 = vmm === 'ec2';
  const isFirst = instructionPointer === RESET_VECTOR;
  segment(0x00, 0x93); // ES
  const codeBase = (instructionPointer & 0xffff_0000) >>> 0;
  segment(0x10, isEc2 && isFirst ? 0x9a : 0x9b, 0xf000, codeBase); // CS
  segment(0x20, isEc2 ? 0x92 : 0x93); // SS
  segment(0x30, 0x93); // DS
  segment(0x40, 0x93); // FS
  segment(0x50, 0x93); // GS
  segment(0x60, 0); // GDTR
  segment(0x70, 0x82); // LDTR
  segment(0x80, 0); // IDTR
  segment(0x90, isEc2 ? 0x83 : 0x8b); // TR
  u64(0x0d0, 0x1000); // EFER: KVM sets SVME
  u64(0x148, 0x40); // CR4: KVM sets MCE
  u64(0x158, 0x10); // CR0
  u64(0x160, 0x400); // DR7
  u64(0x168, 0xffff_0ff0); // DR6
  u64(0x170, 0x2); // RFLAGS
  u64(0x178, instructionPointer & 0xffff); // RIP
  u64(0x268, vmm === 'gce' ? 0x0007_0106n : 0x0007_0406_0007_0406n); // PAT
  u64(0x310, isQemu ? signature : 0x600); // RDX
  u64(0x3b0, guestFeatures); // SEV_FEATURES
  u64(0x3e8, 0x1); // XCR0
  view.setUint32(0x408, isQemu ? 0x1f80 : 0, true); // MXCSR
  view.setUint16(0x410, isQemu ? 0x37f : 0, true); // x87 control word
  return page;
}
