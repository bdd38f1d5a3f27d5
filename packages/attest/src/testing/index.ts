// A test authority: roots, chains, reports and references of our own, good and bad.

export { makeContext } from './appraisal.ts';
export {
  generateKeys,
  makeCertificate,
  NAME,
  signEcdsa,
  type TestCertificateOptions,
  type TestIssuer,
  toPem,
} from './certificates.ts';
export { type DeviceAuthority, makeDevice, makeDeviceAuthority } from './device-authority.ts';
export { makeBoard, makeBoardReports, type TestBoard } from './device-board.ts';
export { goodFields, makeEvidenceItem, makeReport, withFields } from './device-reports.ts';
export {
  makeFirmwareEvent,
  makeRegisters,
  makeRuntimeEvent,
  type TestEvent,
} from './event-log.ts';
export { makeFirmware, type TestFirmware } from './firmware.ts';
export { FuzzError, type FuzzReport, fuzz, WronglyAccepted } from './fuzz/fuzz.ts';
export type { FuzzCase, FuzzTarget } from './fuzz/target.ts';
export { FUZZ_TARGETS, shareOut } from './fuzz/targets.ts';
export { answerOcsp, makeOcspDelegate } from './ocsp-responder.ts';
export {
  type CollateralChanges,
  type IntelAuthority,
  makeEnclaveLevel,
  makeIntelAuthority,
  makeTcbLevel,
  makeTdxCollateral,
  QUOTE_NOW_MS,
} from './quote-authority.ts';
export { makeTdxQuote, type QuoteChanges } from './quote-report.ts';
export { makeReceiptChain, makeReceiptFacts, makeReceiptSigner } from './receipts.ts';
export { makePayload, makeReportParts, makeStatement } from './reports.ts';
export { editXml, makeRim, makeRimAuthority } from './rim-authority.ts';
export { makeService, type ServiceChanges, type TestService } from './service.ts';
export {
  type AmdAuthority,
  makeAmdAuthority,
  makeAmdRevocationList,
  makeCertificateTable,
  makeSnpReport,
  type SnpChanges,
} from './snp-authority.ts';
export { makeTokenService } from './token-service.ts';
export { makeLogProof, makeNoteSigner, type TestSigner } from './transparency-log.ts';
export { hasVectors, readVector, vectorPath } from './vectors.ts';
