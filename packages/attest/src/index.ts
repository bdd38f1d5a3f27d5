export {
  type Claim,
  type ClaimStatus,
  type ClaimValue,
  claim,
  type Voucher,
} from './claims/claim.ts';
export type {
  AppraisalContext,
  ReferenceSource,
  RevocationSource,
  RevocationStatus,
} from './claims/context.ts';
export { canonicalBytes } from './core/canonical.ts';
export { ChainCache } from './core/chain.ts';
export { AttestError, type AttestErrorCode } from './core/errors.ts';
export type { TrustAnchors } from './core/trust.ts';
export { type AppraisedDevice, appraiseDevice } from './nvidia/device.ts';
export type { DeviceArch, DeviceKind, DeviceReport } from './nvidia/device-report.ts';
export { type AppraisedDevices, appraiseDevices } from './nvidia/device-set.ts';
export { type DeviceEvidence, readEvidenceList, readSingleReport } from './nvidia/evidence.ts';
export { DEVICE_CLAIM_KINDS, DEVICE_SET_CLAIM_KINDS } from './nvidia/kinds.ts';
export { BUILT_IN_POLICIES } from './policy/built-in.ts';
export { type Allowance, judge, type Reason, type Verdict } from './policy/judge.ts';
export { CLAIM_KINDS } from './policy/kinds.ts';
export { pinSoftware } from './policy/pin.ts';
export type { Policy, Requirement, Toleration } from './policy/policy.ts';
export { readPolicy } from './policy/read.ts';
export {
  type ChainHead,
  linkHash,
  type ReceiptLinks,
  readReceiptLinks,
  receiptDigest,
  verifyReceiptChain,
} from './receipts/chain.ts';
export {
  RECEIPT_OUTCOMES,
  type Receipt,
  readSignedReceipt,
  type SignedReceipt,
} from './receipts/receipt.ts';
export {
  type ReceiptFacts,
  type ReceiptSigner,
  type SealedReceipt,
  sealReceipt,
} from './receipts/seal.ts';
export {
  appraiseReceipt,
  RECEIPT_CLAIMS,
  type ReceiptClaim,
  type ReceiptContext,
  verifyReceipt,
} from './receipts/verify.ts';
export {
  appraiseServerReport,
  type ReportContext,
  SERVER_CLAIMS,
  type ServerClaim,
} from './report/appraise.ts';
export { describeObservation, type MachineObservation } from './report/observation.ts';
export { expectedReportData, readServerReport, type ServerReport } from './report/report.ts';
export type { ReportBinding, ReportStatement, Tee } from './report/statement.ts';
export {
  type PreparedReport,
  prepareReport,
  type ReportEvidence,
  reportDocument,
} from './report/write.ts';
export { readSigningKey, signResult, type TokenMaker } from './result/attestation-token.ts';
export { type VerifyDocument, verifyDocument } from './result/document.ts';
export type { VerifyResult } from './result/result.ts';
export { resultLines } from './result/tree.ts';
export type { Appraisal, TrustAspect, TrustTier, TrustValue } from './result/trust-vector.ts';
export { type CollateralSource, collateralService } from './services/collateral.ts';
export type { Http } from './services/http.ts';
export { ocspService } from './services/ocsp.ts';
export { firstReference, keptReferences, referenceService } from './services/references.ts';
export { fetchTokenKeys } from './services/token-keys.ts';
export type { VerifyContext } from './verify/appraise.ts';
export type { GivenFile } from './verify/documents.ts';
export type { EvidenceFile } from './verify/recognise.ts';
export { VENDOR_ROOTS } from './verify/vendor-roots.ts';
export { type VerifyRequest, verifyEvidence } from './verify/verify.ts';
