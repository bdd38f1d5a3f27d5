import type { Bytes } from '../../core/bytes.ts';

/** What the CPU signed over 64 bytes of ours, and what came with it. */
export interface CpuEvidence {
  readonly tee: 'tdx' | 'sev-snp';
  /** A TDX quote, or an SEV-SNP report. */
  readonly evidence: Bytes;
  /** SEV-SNP: the certificates that the host gave; null: none. */
  readonly certificates: Bytes | null;
  /** dstack only: JSON text of what was measured, of the virtual machine, and the application. */
  readonly eventLog: string | null;
  readonly vmConfig: string | null;
  readonly info: unknown;
}

export const REPORT_DATA_BYTES = 64;
