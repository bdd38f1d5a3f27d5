import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext } from '../claims/context.ts';
import { ChainCache } from '../core/chain.ts';

/** A context that trusts nobody, asks nobody and judges at the beginning of 2026. */
export function makeContext(changes: Partial<AppraisalContext> = {}): AppraisalContext {
  const none: ReadonlySet<string> = new Set();
  return {
    nowMs: Date.UTC(2026, 0, 1),
    anchors: { nvidiaDevice: none, nvidiaRim: none, intelSgx: none, amdArk: none },
    chains: new ChainCache(),
    nonce: null,
    references: null,
    revocation: null,
    ...changes,
  };
}

/** A claim in short, for comparison: `GPU-0 gpu.nonce refused nonce-mismatch`. */
export function brief({ subject, kind, status, code }: Claim): string {
  return [subject, kind, status, ...(code === undefined ? [] : [code])].join(' ');
}

/** The claims that are not verified, in short. */
export function notVerified(claims: readonly Claim[]): string[] {
  return claims.filter(({ status }) => status !== 'verified').map(brief);
}

/**
 * A claim with all that programs read of it: status or code, who vouches, value, what it rests on,
 * like `CPU cpu.tcb verified by vendor-signed: "UpToDate" [TDX quote, Intel collateral]`.
 */
export function inFull({ subject, kind, status, code, voucher, value, evidence }: Claim): string {
  const said = value === undefined ? '' : `: ${JSON.stringify(value)}`;
  return `${subject} ${kind} ${code ?? status} by ${voucher}${said} [${evidence.join(', ')}]`;
}

/** Claims that tell a reader nothing, or not why it matters that they do not hold. */
export function wordless(claims: readonly Claim[]): Claim[] {
  return claims.filter(({ statement, status, why }) => {
    const words = status === 'verified' ? [statement] : [statement, why];
    return words.some((text) => !text || /undefined|null/.test(text));
  });
}
