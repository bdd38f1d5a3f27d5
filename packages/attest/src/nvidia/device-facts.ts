import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim, ClaimValue } from '../claims/claim.ts';
import { type Bytes, equalBytes, toHex } from '../core/bytes.ts';
import { nameOf } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';
import type { DeviceReport, MultiGpuMode } from './device-report.ts';
import type { DeviceEvidence } from './evidence.ts';
import { fwidOf } from './fwid.ts';
import { identityOf } from './identity.ts';
import { type DeviceClaimKind, kindOf } from './kinds.ts';

/** Claims of what a device's report and certificates say, as far as they are authentic. */
export async function appraiseFacts(
  subject: string,
  evidence: DeviceEvidence,
  isAuthentic: boolean,
  nonce: Bytes | null,
): Promise<Claim[]> {
  const { report } = evidence;
  const signed = signedClaims(subject, isAuthentic);
  return [
    await appraiseNonce(signed, evidence, nonce),
    await appraiseIdentity(signed, evidence),
    await appraiseClass(signed, evidence),
    await appraiseFirmware(signed, evidence),
    await appraiseVbios(signed, evidence),
    ...(await (report.kind === 'gpu' ? gpuFacts(signed, evidence) : switchFacts(signed, report))),
  ];
}

/** What the certificates say, rather than the report. */
const VENDORS_WORD: ReadonlySet<DeviceClaimKind> = new Set([
  ...(['gpu', 'switch'] as const).flatMap((device) => [
    kindOf(device, 'identity'),
    kindOf(device, 'class'),
  ]),
]);

type Statement = Pick<Check, 'statement' | 'why'> & { readonly value?: ClaimValue };

/** Makes claims of what a report says: they are refused or, if it is authentic, verified. */
interface SignedClaims {
  checked(kind: DeviceClaimKind, statement: Statement, test: () => unknown): Promise<Claim>;
  unchecked(kind: DeviceClaimKind, statement: Statement, reason: string): Claim;
}

function signedClaims(subject: string, isAuthentic: boolean): SignedClaims {
  const checkOf = (kind: DeviceClaimKind, statement: Statement): Check => ({
    kind,
    subject,
    voucher: VENDORS_WORD.has(kind) ? 'vendor-signed' : 'device-signed',
    evidence: [`${subject} report`],
    ...statement,
  });
  return {
    async checked(kind, statement, test) {
      const check = checkOf(kind, statement);
      const claim = await checked(check, test);
      if (claim.status === 'refused' || isAuthentic) return claim;
      return unchecked(check, "The report's chain or signature is refused");
    },
    unchecked: (kind, statement, reason) => unchecked(checkOf(kind, statement), reason),
  };
}

async function appraiseNonce(
  signed: SignedClaims,
  { report, stated }: DeviceEvidence,
  nonce: Bytes | null,
): Promise<Claim> {
  const kind = kindOf(report.kind, 'nonce');
  const statement = {
    statement: 'the report answers the nonce that was asked with',
    why: 'The report can be an old one, of a machine that has changed since',
  };
  const seen = toHex(report.nonce);
  const isAsStated = stated.nonce === null || equalBytes(stated.nonce, report.nonce);
  if (nonce === null && isAsStated) return signed.unchecked(kind, statement, 'No nonce was given');
  return signed.checked(kind, statement, () => {
    demand(
      isAsStated,
      'nonce-mismatch',
      `the report answers ${seen}, not the nonce stated with it`,
    );
    const isFresh = nonce === null || equalBytes(nonce, report.nonce);
    demand(isFresh, 'nonce-mismatch', `the report answers ${seen}, not the nonce asked with`);
  });
}

async function appraiseIdentity(signed: SignedClaims, evidence: DeviceEvidence): Promise<Claim> {
  const { report, chain } = evidence;
  const serial = chain[1]?.subjectSerial?.slice(2).toLowerCase() ?? 'unknown';
  const statement = {
    statement: `it is the device ${serial}`,
    why: 'It is not known which device this is',
    value: serial,
  };
  const kind = kindOf(report.kind, 'identity');
  return signed.checked(kind, statement, () => identityOf(chain, report));
}

/** The chip, as the certificate of its kind names it: what another device can stand in for. */
async function appraiseClass(
  signed: SignedClaims,
  { report, chain }: DeviceEvidence,
): Promise<Claim> {
  const family = chain.at(-2);
  const value = `${report.arch}: ${family === undefined ? 'unknown' : nameOf(family)}`;
  const statement = {
    statement: `it is one of ${value}`,
    why: 'Another kind of device may protect less',
    value,
  };
  return signed.checked(kindOf(report.kind, 'class'), statement, () => undefined);
}

async function appraiseFirmware(
  signed: SignedClaims,
  { report, chain }: DeviceEvidence,
): Promise<Claim> {
  const kind = kindOf(report.kind, 'firmware');
  const { fwid } = report;
  const statement = {
    statement: 'the firmware that reports is the one the certificate was issued to',
    why: 'Other firmware than the certified one can hold the key',
  };
  if (fwid === null) {
    const reason =
      'The report does not repeat the digest (that of a switch, an FSP or older firmware)';
    return signed.unchecked(kind, statement, reason);
  }
  return signed.checked(kind, { ...statement, value: toHex(fwid) }, () => {
    const certified = fwidOf(chain[0]!, report.arch);
    demand(certified !== null, 'firmware-mismatch', 'its certificate names no firmware');
    const seen = `its certificate is for firmware ${toHex(certified)}, its report ${toHex(fwid)}`;
    demand(equalBytes(certified, fwid), 'firmware-mismatch', seen);
  });
}

async function appraiseVbios(
  signed: SignedClaims,
  { report, stated }: DeviceEvidence,
): Promise<Claim> {
  const kind = kindOf(report.kind, 'vbios');
  const what = report.kind === 'gpu' ? 'VBIOS' : 'BIOS';
  return appraiseVersion(signed, kind, what, report.vbiosVersion, stated.vbiosVersion);
}

async function appraiseVersion(
  signed: SignedClaims,
  kind: DeviceClaimKind,
  what: string,
  reported: string | null,
  stated: string | null,
): Promise<Claim> {
  const why = `It is not known which ${what} runs`;
  if (reported === null) {
    const statement = { statement: `its ${what} has a version`, why };
    return signed.unchecked(kind, statement, `The report does not say which ${what} runs`);
  }
  const statement = { statement: `its ${what} is ${reported}`, why, value: reported };
  return signed.checked(kind, statement, () => {
    const isAsStated = stated === null || stated === reported;
    demand(isAsStated, 'binding-mismatch', `its ${what} is ${reported}, stated to be another one`);
  });
}

async function gpuFacts(
  signed: SignedClaims,
  { report, stated }: DeviceEvidence,
): Promise<Claim[]> {
  const { driverVersion, isNvdec0On, isNvlinkEncrypted, multiGpuMode } = report;
  const unsaid = report.reporter === 'fsp' ? OF_BOOT : 'It is not reported';
  return [
    await appraiseVersion(signed, 'gpu.driver', 'driver', driverVersion, stated.driverVersion),
    await appraiseMode(signed, report),
    await appraiseState(signed, 'gpu.nvdec0', 'the first video decoder is', isNvdec0On, {
      why: 'Where it is on, its firmware is measured as well',
      unsaid,
    }),
    await appraiseState(
      signed,
      'gpu.nvlink-encryption',
      'NVLink encryption is',
      isNvlinkEncrypted,
      {
        why: 'Without it, whoever controls the links and switches can read what GPUs exchange',
        // A mode is what the driver was set to; drivers since CUDA 13.5 report the links' state.
        unsaid:
          multiGpuMode === 'multi'
            ? 'The report names the mode that encrypts links, and not whether they are encrypted'
            : unsaid,
      },
      (isOn) => {
        const isNeeded = report.multiGpuMode === 'multi';
        demand(isOn || !isNeeded, 'mode-refused', 'it shares plain NVLink, which no mode protects');
      },
    ),
  ];
}

const OF_BOOT = 'The FSP reports what the GPU booted with, and not what its driver set up';
const MODES: Readonly<Record<MultiGpuMode, string>> = {
  single: 'it works alone',
  multi: 'it exchanges data with GPUs of the same guest over encrypted NVLink',
  'protected-pcie': 'it exchanges data over plain NVLink with the GPUs and switches of its board',
};

async function appraiseMode(signed: SignedClaims, report: DeviceReport): Promise<Claim> {
  const { multiGpuMode, isProtectedPcie } = report;
  const mode = multiGpuMode ?? (isProtectedPcie === true ? 'protected-pcie' : null);
  const why = 'The mode says what is protected: one GPU, several, or the whole board with switches';
  if (mode === null) {
    const statement = { statement: 'it shares its channel in a known way', why };
    const old = 'Drivers this old do not report the mode';
    const reason = report.reporter === 'fsp' ? OF_BOOT : old;
    return signed.unchecked('gpu.mode', statement, reason);
  }
  const said = `its multi-GPU mode is ${mode}: ${MODES[mode]}`;
  const statement = { statement: said, why, value: mode };
  return signed.checked('gpu.mode', statement, () => {
    const isAgreed = isProtectedPcie === null || isProtectedPcie === (mode === 'protected-pcie');
    const state = isProtectedPcie ? 'on' : 'off';
    demand(isAgreed, 'mode-refused', `its mode is ${mode}, yet Protected PCIe is ${state}`);
  });
}

async function appraiseState(
  signed: SignedClaims,
  kind: DeviceClaimKind,
  what: string,
  isOn: boolean | null,
  { why, unsaid }: { readonly why: string; readonly unsaid: string },
  test: (isOn: boolean) => void = () => {},
): Promise<Claim> {
  if (isOn === null) {
    return signed.unchecked(kind, { statement: `${what} on or off`, why }, unsaid);
  }
  const statement = { statement: `${what} ${isOn ? 'on' : 'off'}`, why, value: isOn };
  return signed.checked(kind, statement, () => test(isOn));
}

async function switchFacts(signed: SignedClaims, { place }: DeviceReport): Promise<Claim[]> {
  const why = 'Until a switch is locked, the host can change where it sends what GPUs exchange';
  if (place === null) {
    const statement = { statement: 'its routing is locked', why };
    return [signed.unchecked('switch.lock', statement, 'The report does not say so')];
  }
  const statement = { statement: 'its routing is locked', why, value: place.isLocked };
  return [
    await signed.checked('switch.lock', statement, () => {
      demand(place.isLocked, 'mode-refused', 'its routing is not locked');
    }),
  ];
}
