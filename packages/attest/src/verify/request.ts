import { type Claim, claim } from '../claims/claim.ts';
import type { Bytes } from '../core/bytes.ts';
import type { Evidence } from './evidence.ts';

/** What a caller wants evidence to carry, with why it matters that nothing was compared with it. */
const WHY = {
  'request.nonce': 'The evidence may be old, or of another machine',
  'request.reportData': 'The evidence may be old, or of another service',
} as const;
type RequestClaimKind = keyof typeof WHY;

/** What evidence was to carry; null or absent: nothing was said. */
interface Wanted {
  readonly nonce: Bytes | null;
  readonly reportData?: Bytes;
}

/**
 * Refusals of what was asked for and compared with nothing: whoever names a nonce believes that it
 * was looked at. Where something can carry it, there is a claim about that instead.
 */
export function appraiseRequest(evidence: Evidence, { nonce, reportData }: Wanted): Claim[] {
  const { cpu, server, devices, token } = evidence;
  const claims: Claim[] = [];
  // A vTPM signs the nonce by itself.
  const isCpuSilent = cpu !== null && cpu.vtpm === null;
  const isOfCpu = cpu !== null && !isCpuSilent;
  const isCarried = isOfCpu || server !== null || devices.length > 0 || token !== null;
  if (nonce !== null && isCpuSilent && server === null && reportData === undefined) {
    const text =
      'the nonce was compared with nothing that the CPU signed: ' +
      'say by the report data what its evidence must carry';
    claims.push(notCompared('request.nonce', text));
  } else if (nonce !== null && !isCarried) {
    const text =
      'the nonce was compared with nothing: nothing that was given carries one' +
      (reportData === undefined ? '' : ', and if report data hold it, ask for them alone');
    claims.push(notCompared('request.nonce', text));
  }
  if (reportData !== undefined && cpu === null) {
    const text = 'the report data were compared with nothing: no CPU’s evidence was given';
    claims.push(notCompared('request.reportData', text));
  }
  return claims;
}

function notCompared(kind: RequestClaimKind, statement: string): Claim {
  return claim({
    kind,
    subject: 'REQUEST',
    status: 'refused',
    voucher: 'operator-asserted',
    statement,
    evidence: [],
    code: 'not-compared',
    why: WHY[kind],
  });
}
