import { equalBytes, toHex } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import type { PckIdentity } from './pck.ts';
import { type QeIdentity, TCB_STATUSES, type TcbInfo, type TcbStatus } from './tdx-collateral.ts';
import type { QeReport, TdReport } from './tdx-quote.ts';

/** How a TCB stands, with Intel's advisories about what is known of it. */
export interface TcbAssessment {
  readonly status: TcbStatus;
  readonly advisories: readonly string[];
}

/**
 * How the platform, its TDX module and its quoting enclave stand together. Source: Intel's
 * "Provisioning certification service" documentation of TCB info and of the QE identity. A TD keeps
 * the TDX module's level that it was launched with, even if the module was updated since.
 * Throws AttestError 'reference-conflict' for TCB info of another platform, 'tcb-refused' where no
 * level is met and 'identity-mismatch' for a module that is not Intel's.
 */
export function assessTdxTcb(
  info: TcbInfo,
  identity: QeIdentity,
  pck: PckIdentity,
  report: TdReport,
  qe: QeReport,
): TcbAssessment {
  const isForPlatform = equalBytes(info.fmspc, pck.fmspc) && equalBytes(info.pceId, pck.pceId);
  const platform = `FMSPC ${toHex(pck.fmspc)}, PCE ${toHex(pck.pceId)}`;
  const other = `FMSPC ${toHex(info.fmspc)}, PCE ${toHex(info.pceId)}`;
  const message = `the TCB info is for ${other}, the platform is ${platform}`;
  demand(isForPlatform, 'reference-conflict', message);
  // A module that is not Intel's is worse than any level: a policy may tolerate a level.
  const identified = identifyModule(info, report);
  const parts = [platformLevel(info, pck, report), moduleLevel(identified, report)];
  return [...parts, qeLevel(identity, qe)].reduce(converge);
}

/** Throws AttestError 'identity-mismatch' for an enclave that is not Intel's quoting enclave. */
export function demandQeIdentity(qe: QeReport, identity: QeIdentity): void {
  const signer = `signed by ${toHex(qe.mrSigner)}, product ${qe.isvProdId}`;
  const isIntels = equalBytes(qe.mrSigner, identity.mrsigner);
  const isQe = isIntels && qe.isvProdId === identity.isvprodid;
  demand(isQe, 'identity-mismatch', `the enclave that quoted is ${signer}`);
  const { attributes, attributesMask, miscselect, miscselectMask } = identity;
  const isSetUp =
    isMaskedEqual(qe.attributes, attributesMask, attributes) &&
    isMaskedEqual(qe.miscSelect, miscselectMask, miscselect);
  demand(isSetUp, 'identity-mismatch', 'the quoting enclave has other attributes than Intel says');
}

function platformLevel(info: TcbInfo, pck: PckIdentity, report: TdReport): TcbAssessment {
  // Since TDX 1.5 the module's own two numbers are judged by its identity.
  const first = report.teeTcbSvn[1] === 0 ? 0 : 2;
  const found = info.tcbLevels.find(
    ({ tcb }) =>
      pck.pceSvn >= tcb.pcesvn &&
      tcb.sgxtcbcomponents.every(({ svn }, i) => pck.componentSvns[i]! >= svn) &&
      tcb.tdxtcbcomponents.every(({ svn }, i) => i < first || report.teeTcbSvn[i]! >= svn),
  );
  demand(found !== undefined, 'tcb-refused', 'the platform is older than every level Intel lists');
  return { status: found.tcbStatus, advisories: found.advisoryIDs };
}

type ModuleIdentity = TcbInfo['tdxModuleIdentities'][number];

/** The statement about the guest's TDX module; null: one of TDX 1.0, which has no levels. */
function identifyModule(info: TcbInfo, report: TdReport): ModuleIdentity | null {
  const version = report.teeTcbSvn[1]!;
  const id = `TDX_${version.toString(16).padStart(2, '0')}`.toUpperCase();
  const identity =
    version === 0 ? undefined : info.tdxModuleIdentities.find((one) => one.id === id);
  const isKnown = version === 0 || identity !== undefined;
  demand(isKnown, 'identity-mismatch', `Intel's TCB info knows no TDX module ${id}`);
  const module = identity ?? info.tdxModule;
  const isIntels =
    equalBytes(report.mrSignerSeam, module.mrsigner) &&
    isMaskedEqual(report.seamAttributes, module.attributesMask, module.attributes);
  demand(isIntels, 'identity-mismatch', `the TDX module is not the ${id} that Intel signed`);
  return identity ?? null;
}

function moduleLevel(identity: ModuleIdentity | null, report: TdReport): TcbAssessment {
  if (identity === null) return { status: 'UpToDate', advisories: [] };
  return enclaveLevel(identity.tcbLevels, report.teeTcbSvn[0]!, `TDX module ${identity.id}`);
}

function qeLevel(identity: QeIdentity, qe: QeReport): TcbAssessment {
  return enclaveLevel(identity.tcbLevels, qe.isvSvn, 'quoting enclave');
}

function enclaveLevel(
  levels: QeIdentity['tcbLevels'],
  isvSvn: number,
  what: string,
): TcbAssessment {
  const found = levels.find(({ tcb }) => isvSvn >= tcb.isvsvn);
  const message = `the ${what} has SVN ${isvSvn}, older than every level Intel lists`;
  demand(found !== undefined, 'tcb-refused', message);
  return { status: found.tcbStatus, advisories: found.advisoryIDs };
}

/** The worse of both; a platform that also wants configuration stays one that does. */
function converge(platform: TcbAssessment, part: TcbAssessment): TcbAssessment {
  const wantsConfiguration = platform.status.startsWith('Configuration');
  const partStatus =
    part.status === 'OutOfDate' && wantsConfiguration
      ? 'OutOfDateConfigurationNeeded'
      : part.status;
  const worst = Math.max(TCB_STATUSES.indexOf(platform.status), TCB_STATUSES.indexOf(partStatus));
  return {
    status: TCB_STATUSES[worst]!,
    advisories: [...new Set([...platform.advisories, ...part.advisories])],
  };
}

function isMaskedEqual(value: Uint8Array, mask: Uint8Array, wanted: Uint8Array): boolean {
  return value.length === mask.length && value.every((byte, i) => (byte & mask[i]!) === wanted[i]);
}
