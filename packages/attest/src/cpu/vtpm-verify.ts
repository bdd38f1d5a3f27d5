import { checkedIn, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, concatBytes, equalBytes, toHex } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import { cpuCheck } from './guest.ts';
import { type HclReport, pcrValues, type VtpmEvidence } from './vtpm.ts';

const REPORT = ['HCL report', 'vTPM quote'];

/**
 * What the vTPM of a guest on Azure proves. Azure's paravisor, which the launch measures, runs it
 * and put its key into the CPU's evidence. `reportData`: what that evidence carries; `isGenuine`:
 * whether it is; `nonce`: what the guest was asked with, or null.
 */
export async function appraiseVtpm(
  { hcl, quote }: VtpmEvidence,
  reportData: Bytes,
  isGenuine: boolean,
  nonce: Bytes | null,
): Promise<Claim[]> {
  const evidence = { isGenuine, doubt: 'Nothing proves that the evidence of the CPU is genuine' };
  const bound = "the CPU's evidence names the vTPM's key";
  const key = await checkedIn(
    evidence,
    cpuCheck('cpu.vtpmKey', 'cpu-signed', bound, REPORT),
    () => {
      const isBound = equalBytes(reportData, hcl.reportData);
      demand(isBound, 'binding-mismatch', "the CPU's evidence is not for this vTPM's key");
    },
  );
  const known = { isGenuine: key.status === 'verified', doubt: "The vTPM's key is not proven" };
  const signed = "the vTPM's key signed its quote";
  const signature = await checkedIn(
    known,
    cpuCheck('cpu.vtpmQuote', 'cpu-signed', signed, REPORT),
    async () => {
      const isGood = await isSignedBy(hcl.attestationKey, quote.signature, quote.message);
      demand(isGood, 'signature-invalid', "the signature of the vTPM's quote does not hold");
    },
  );
  const source = {
    isGenuine: signature.status === 'verified',
    doubt: "Nothing proves that the vTPM's quote is genuine",
  };
  const registers = `${quote.selected.length} registers of the vTPM were quoted`;
  const pcrs = cpuCheck('cpu.pcrs', 'cpu-signed', registers, REPORT, pcrValues(quote));
  return [
    key,
    signature,
    await appraiseNonce(quote.nonce, nonce, source),
    await checkedIn(source, pcrs, async () => {
      const shown = await digest('SHA-256', concatBytes(...quote.values));
      const isSame = equalBytes(shown, quote.pcrDigest);
      demand(isSame, 'measurement-mismatch', 'the registers shown are not those that were quoted');
    }),
  ];
}

async function appraiseNonce(
  seen: Bytes,
  nonce: Bytes | null,
  source: { readonly isGenuine: boolean; readonly doubt: string },
): Promise<Claim> {
  const statement = 'the vTPM answers the nonce that was asked with';
  const check = cpuCheck('cpu.vtpmNonce', 'cpu-signed', statement, REPORT, toHex(seen));
  if (nonce === null) return unchecked(check, 'No nonce was given');
  return checkedIn(source, check, () => {
    const message = `the vTPM answers ${toHex(seen)}, not the nonce asked with`;
    demand(equalBytes(seen, nonce), 'nonce-mismatch', message);
  });
}

async function isSignedBy(
  { n, e }: HclReport['attestationKey'],
  signature: Bytes,
  message: Bytes,
): Promise<boolean> {
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  try {
    const jwk = { kty: 'RSA', n, e };
    const key = await crypto.subtle.importKey('jwk', jwk, algorithm, false, ['verify']);
    return await crypto.subtle.verify(algorithm, key, signature, message);
  } catch (error) {
    if (error instanceof DOMException || error instanceof AttestError) return false;
    throw error;
  }
}
