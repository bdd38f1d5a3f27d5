// What a client verifies with, what a server reports and signs with, and the types of both. The
// README says what each is for; test authorities are in ./testing, what needs Node in ./node.

export type { Claim } from './claims/claim.ts';
export type { ReferenceSource, RevocationSource } from './claims/context.ts';
export type { FabricClaimKind } from './claims/fabric-kinds.ts';
export { canonicalBytes } from './core/canonical.ts';
export { ChainCache } from './core/chain.ts';
export { AttestError, type AttestErrorCode, type UnreadableFile } from './core/errors.ts';
export type { TrustAnchors } from './core/trust.ts';
export { type ExpectedGuest, expectGuest } from './measure/expect.ts';
export {
  readSnpFirmware,
  type SnpFirmware,
  type SnpLaunch,
  snpLaunchDigest,
} from './measure/snp-launch.ts';
export { SNP_VCPU_SIGNATURES, SNP_VMMS, type SnpVmm } from './measure/snp-vcpu.ts';
export {
  PAGE_ORDERS,
  type PageOrder,
  readTdvf,
  type TdvfSection,
  tdxMrtd,
} from './measure/tdvf.ts';
export {
  type AcpiDigests,
  commandLineDigest,
  tdxRtmr0,
  tdxRtmr1,
  tdxRtmr2,
} from './measure/tdx-registers.ts';
export { readTokenKeys, type TokenKeys } from './nras/keys.ts';
export { BUILT_IN_POLICIES } from './policy/built-in.ts';
export { decide } from './policy/decide.ts';
export { requireEncryption } from './policy/encryption.ts';
export type { Verdict } from './policy/judge.ts';
export { pinPolicy } from './policy/pin.ts';
export type { Policy } from './policy/policy.ts';
export { readPolicy } from './policy/read.ts';
export {
  type ChainHead,
  type ReceiptLinks,
  readReceiptLinks,
  verifyReceiptChain,
} from './receipts/chain.ts';
export { readSignedHead, type SignedHead, sealHead, verifyHead } from './receipts/head.ts';
export { readSignedReceipt, type SignedReceipt } from './receipts/receipt.ts';
export {
  type ReceiptFacts,
  type ReceiptSigner,
  type SealedReceipt,
  sealReceipt,
} from './receipts/seal.ts';
export { appraiseReceipt, verifyReceipt } from './receipts/verify.ts';
export { appraiseServerReport } from './report/appraise.ts';
export type { MachineObservation } from './report/observation.ts';
export { expectedReportData, readServerReport } from './report/report.ts';
export type { ReportBinding, ReportStatement, Tee } from './report/statement.ts';
export { prepareReport, reportDocument } from './report/write.ts';
export { readSigningKey, signResult } from './result/attestation-token.ts';
export { verifyDocument } from './result/document.ts';
export type { VerifyResult } from './result/result.ts';
export { sarifFailureLog, sarifLog } from './result/sarif.ts';
export { resultLines } from './result/tree.ts';
export { type CollateralSource, collateralService } from './services/collateral.ts';
export type { Http } from './services/http.ts';
export { ocspService } from './services/ocsp.ts';
export { firstReference, keptReferences, referenceService } from './services/references.ts';
export { fetchTokenKeys } from './services/token-keys.ts';
export {
  type LoggedEntry,
  type LogProof,
  type LogTrust,
  readCheckpoint,
  readLogProof,
  verifyLogProof,
} from './transparency/log-proof.ts';
export {
  isSignedByLog,
  type NoteKey,
  readNoteKey,
  readSignedNote,
  seenByWitness,
} from './transparency/signed-note.ts';
export type { VerifyContext } from './verify/appraise.ts';
export type { GivenFile } from './verify/documents.ts';
export type { EvidenceFile } from './verify/recognise.ts';
export { VENDOR_ROOTS } from './verify/vendor-roots.ts';
export { type Found, type VerifyRequest, verifyEvidence } from './verify/verify.ts';
