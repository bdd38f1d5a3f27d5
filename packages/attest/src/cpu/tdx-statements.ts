import { checked, checkedIn, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { nameOf } from '../core/certificate.ts';
import { expiryOf, verifyChain } from '../core/chain.ts';
import { demand } from '../core/errors.ts';
import { type CpuContext, cpuCheck } from './guest.ts';
import { demandNoneRevoked } from './revocation-list.ts';
import { demandSignature, keyOf } from './signature.ts';
import type { SignedDocument, TdxCollateral } from './tdx-collateral.ts';
import type { TdxQuote } from './tdx-quote.ts';

const TCB_SIGNER = 'Intel SGX TCB Signing';
const EVIDENCE = ['Intel collateral'];

/** Whether the collateral is Intel's and current, and leaves the quote's certificates good. */
export async function appraiseCollateral(
  quote: TdxQuote,
  collateral: TdxCollateral | null,
  context: CpuContext,
): Promise<Claim[]> {
  const authentic = cpuCheck(
    'cpu.collateral',
    'vendor-signed',
    'Intel signed the TCB info and the QE identity',
    EVIDENCE,
    collateral === null ? null : evaluationOf(collateral),
  );
  const ends = collateral === null ? null : validityOf(collateral).untilMs;
  const valid = cpuCheck(
    'cpu.collateralExpiry',
    'vendor-signed',
    "Intel's statements hold at this time",
    EVIDENCE,
    ends === null ? null : new Date(ends).toISOString(),
  );
  const good = cpuCheck(
    'cpu.revocation',
    'vendor-signed',
    'no certificate is on a revocation list',
    EVIDENCE,
  );
  const form = collateral?.qeIdentity.content.version ?? null;
  const identity = cpuCheck(
    'cpu.qeIdentity',
    'vendor-signed',
    form === null ? 'the form of the QE identity is known' : `the QE identity has form ${form}`,
    EVIDENCE,
    form,
  );
  if (collateral === null) {
    const reason = "Intel's collateral is not at hand";
    return [authentic, identity, valid, good].map((check) => unchecked(check, reason));
  }
  const isIntels = await checked(authentic, () => demandIntels(collateral, context));
  const document = { isGenuine: isIntels.status === 'verified', doubt: 'Nobody vouches for it' };
  return [
    isIntels,
    await checkedIn(document, identity, () => {}),
    await checked(valid, () => demandCurrent(collateral, context.nowMs)),
    await checked(good, () => demandAllGood(quote, collateral)),
  ];
}

/** Intel counts its evaluations of what is known: a policy may ask for a number or a later one. */
function evaluationOf({ tcbInfo, qeIdentity }: TdxCollateral): number {
  const numbers = [tcbInfo, qeIdentity].map(({ content }) => content.tcbEvaluationDataNumber);
  return Math.min(...numbers);
}

async function demandIntels(collateral: TdxCollateral, context: CpuContext): Promise<void> {
  for (const document of [collateral.tcbInfo, collateral.qeIdentity]) {
    const [signer, root, ...more] = document.signers;
    const isPair = root !== undefined && more.length === 0 && nameOf(signer!) === TCB_SIGNER;
    const message = `the ${document.name} is not signed by a TCB signer that the root names`;
    demand(isPair, 'chain-broken', message);
    await verifyChain(document.signers, context.anchors.intelSgx, context.chains);
    await demandDocument(document);
  }
}

async function demandDocument(document: SignedDocument): Promise<void> {
  const key = await keyOf(document.signers[0]!, 'P-256');
  await demandSignature(key, 'P-256', document.signature, document.text, `the ${document.name}`);
}

interface Validity {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** When all of Intel's statements hold at once. */
function validityOf(collateral: TdxCollateral): Validity {
  const { tcbInfo, qeIdentity, pckCrl, rootCrl } = collateral;
  const windows = [
    ...[tcbInfo, qeIdentity].map(({ content }) => [content.issueDate, content.nextUpdate]),
    ...[pckCrl, rootCrl].map((list) => [list.thisUpdateMs, list.nextUpdateMs ?? Infinity]),
  ] as [number, number][];
  return {
    fromMs: Math.max(...windows.map(([from]) => from)),
    untilMs: Math.min(...windows.map(([, until]) => until)),
  };
}

function demandCurrent(collateral: TdxCollateral, nowMs: number): void {
  const { fromMs, untilMs } = validityOf(collateral);
  const window = `from ${new Date(fromMs).toISOString()} to ${new Date(untilMs).toISOString()}`;
  const isCurrent = fromMs <= nowMs && nowMs <= untilMs;
  demand(isCurrent, 'collateral-expired', `Intel's statements hold ${window}`);
  const signers = [...collateral.tcbInfo.signers, ...collateral.qeIdentity.signers];
  const expired = expiryOf(signers, nowMs);
  const name = expired === null ? '' : nameOf(expired);
  demand(expired === null, 'certificate-expired', `${name} signed, and its certificate is expired`);
}

/** The quote's own chain says who issued the PCK, so that the list's own chain is not needed. */
function demandAllGood(quote: TdxQuote, collateral: TdxCollateral): Promise<void> {
  const { pckCrl, rootCrl, tcbInfo, qeIdentity } = collateral;
  const [pck, issuer, root] = quote.pckChain;
  const signers = [tcbInfo.signers[0]!, qeIdentity.signers[0]!];
  return demandNoneRevoked([
    { list: pckCrl, issuer: issuer!, certificates: [pck!] },
    { list: rootCrl, issuer: root!, certificates: [issuer!, ...signers] },
  ]);
}
