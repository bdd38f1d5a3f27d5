import type { webcrypto } from 'node:crypto';
import { type Bytes, fromHex, toHex, utf8 } from '../core/bytes.ts';
import { derOctets, derOid, derSequence } from '../core/der-writer.ts';
import { sha256Hex } from '../core/digest.ts';
import type { TestExtension, TestIssuer } from './certificates.ts';
import { generateKeys, makeCertificate, NAME, signEcdsa, toPem } from './certificates.ts';
import { derUnsigned } from './der-elements.ts';
import { makeRevocationList } from './revocation.ts';

const SGX = '1.2.840.113741.1.13.1';
const FMSPC = '00a06f000000';
const PCE_ID = '0000';
/** What the made-up platform runs, and the level that is up to date. */
const COMPONENT_SVNS = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0] as const;
const PCE_SVN = 11;
export const QE_SIGNER = 'a5'.repeat(32);
const MODULE_SIGNER = '00'.repeat(48);
const SERIALS = { pck: Uint8Array.of(0x51, 1), platformCa: Uint8Array.of(0x51, 2) } as const;

/** Everything the authority makes is good at this moment, and for a month around it. */
export const QUOTE_NOW_MS = Date.UTC(2026, 0, 15);

/** A root like Intel's with all that quotes and collateral need below it. */
export interface IntelAuthority {
  readonly root: TestIssuer;
  readonly rootSha256: string;
  readonly platformCa: TestIssuer;
  readonly pck: TestIssuer;
  readonly tcbSigner: TestIssuer;
  readonly attestation: webcrypto.CryptoKeyPair;
}

export async function makeIntelAuthority(
  changes: { fmspc?: string; pckNotAfter?: string } = {},
): Promise<IntelAuthority> {
  const root = await makeOne('Test SGX Root CA', null, { isCa: true, pathLength: 1 });
  const platformCa = await makeOne('Test SGX PCK Platform CA', root, {
    isCa: true,
    pathLength: 0,
    serial: SERIALS.platformCa,
  });
  const pck = await makeOne('Test SGX PCK Certificate', platformCa, {
    serial: SERIALS.pck,
    extensions: [sgxExtension(changes.fmspc ?? FMSPC)],
    ...(changes.pckNotAfter === undefined ? {} : { notAfter: changes.pckNotAfter }),
  });
  const tcbSigner = await makeTcbSigner(root);
  const rootSha256 = await sha256Hex(root.der);
  const attestation = await generateKeys('P-256');
  return { root, rootSha256, platformCa, pck, tcbSigner, attestation };
}

/** Who signs what Intel says of platforms. */
export function makeTcbSigner(
  root: TestIssuer,
  options: { serial?: Uint8Array; notAfter?: string } = {},
): Promise<TestIssuer> {
  return makeOne('Intel SGX TCB Signing', root, options);
}

function makeOne(
  common: string,
  issuer: TestIssuer | null,
  options: Partial<Parameters<typeof makeCertificate>[0]>,
): Promise<TestIssuer> {
  return makeCertificate({ ...options, subject: [[NAME.common, common]], issuer, curve: 'P-256' });
}

function sgxExtension(fmspc: string): TestExtension {
  const field = (arc: string, value: Uint8Array): Bytes =>
    derSequence(derOid(`${SGX}.${arc}`), value);
  const number = (value: number): Bytes => derUnsigned(Uint8Array.of(value));
  const tcb = derSequence(
    ...COMPONENT_SVNS.map((svn, i) => field(`2.${i + 1}`, number(svn))),
    field('2.17', number(PCE_SVN)),
    field('2.18', derOctets(Uint8Array.from(COMPONENT_SVNS))),
  );
  const value = derSequence(
    field('1', derOctets(new Uint8Array(16).fill(0x77))),
    field('2', tcb),
    field('3', derOctets(fromHex(PCE_ID, 'PCE id'))),
    field('4', derOctets(fromHex(fmspc, 'FMSPC'))),
  );
  return { oid: SGX, value };
}

/** What may be other than good in collateral. Dates are in the JSON's form. */
export interface CollateralChanges {
  readonly tcbInfo?: Record<string, unknown>;
  readonly qeIdentity?: Record<string, unknown>;
  readonly isPckRevoked?: boolean;
  readonly isPlatformCaRevoked?: boolean;
  /** Signs the statements instead of the authority's TCB signer. */
  readonly signer?: TestIssuer;
  /** Signs the QE identity instead of whoever signs the TCB info. */
  readonly qeIdentitySigner?: TestIssuer;
  /** Signs the PCK's list instead of the platform CA. */
  readonly listIssuer?: TestIssuer;
  /** Applied to the finished fields. */
  readonly fields?: Record<string, string>;
}

/** Collateral as services hand it out, in JSON. */
export async function makeTdxCollateral(
  authority: IntelAuthority,
  changes: CollateralChanges = {},
): Promise<string> {
  const { root, platformCa } = authority;
  const signer = changes.signer ?? authority.tcbSigner;
  const tcbInfo = JSON.stringify({ ...goodTcbInfo(), ...changes.tcbInfo });
  const qeIdentity = JSON.stringify({ ...goodQeIdentity(), ...changes.qeIdentity });
  const qeSigner = changes.qeIdentitySigner ?? signer;
  const sign = async (text: string, by: TestIssuer): Promise<string> =>
    toHex(await signEcdsa(by.keys.privateKey, 'P-256', utf8(text)));
  const list = (issuer: TestIssuer, serial: Uint8Array, isOn = false): Promise<Bytes> =>
    makeRevocationList({
      issuer,
      serials: isOn ? [Uint8Array.of(9), serial] : [],
      thisUpdate: '20260101000000',
      nextUpdate: '20260201000000',
    });
  return JSON.stringify({
    pck_crl_issuer_chain: toPem([platformCa, root]),
    root_ca_crl: toHex(await list(root, SERIALS.platformCa, changes.isPlatformCaRevoked)),
    pck_crl: toHex(await list(changes.listIssuer ?? platformCa, SERIALS.pck, changes.isPckRevoked)),
    tcb_info_issuer_chain: toPem([signer, root]),
    tcb_info: tcbInfo,
    tcb_info_signature: await sign(tcbInfo, signer),
    qe_identity_issuer_chain: toPem([qeSigner, root]),
    qe_identity: qeIdentity,
    qe_identity_signature: await sign(qeIdentity, qeSigner),
    ...changes.fields,
  });
}

const VALIDITY = {
  issueDate: '2026-01-01T00:00:00Z',
  nextUpdate: '2026-02-01T00:00:00Z',
  tcbEvaluationDataNumber: 18,
};

/** A level as TCB info lists it: of those components, or of the platform's own. */
export function makeTcbLevel(
  tcbStatus: string,
  changes: { sgx?: readonly number[]; tdx?: readonly number[]; pcesvn?: number } = {},
  advisoryIDs: readonly string[] = [],
): Record<string, unknown> {
  const components = (svns: readonly number[]) => svns.map((svn) => ({ svn }));
  const tdx = changes.tdx ?? [5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  return {
    tcb: {
      sgxtcbcomponents: components(changes.sgx ?? COMPONENT_SVNS),
      pcesvn: changes.pcesvn ?? PCE_SVN,
      tdxtcbcomponents: components(tdx),
    },
    tcbDate: '2025-01-01T00:00:00Z',
    tcbStatus,
    advisoryIDs,
  };
}

/** A level of the TDX module or of the quoting enclave. */
export function makeEnclaveLevel(isvsvn: number, tcbStatus: string): Record<string, unknown> {
  return { tcb: { isvsvn }, tcbDate: '2025-01-01T00:00:00Z', tcbStatus };
}

function goodTcbInfo(): Record<string, unknown> {
  const module = {
    mrsigner: MODULE_SIGNER,
    attributes: '00'.repeat(8),
    attributesMask: 'FF'.repeat(8),
  };
  const older = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  return {
    id: 'TDX',
    version: 3,
    ...VALIDITY,
    fmspc: FMSPC,
    pceId: PCE_ID,
    tcbType: 0,
    tdxModule: module,
    tdxModuleIdentities: [
      {
        id: 'TDX_01',
        ...module,
        tcbLevels: [makeEnclaveLevel(4, 'UpToDate'), makeEnclaveLevel(2, 'OutOfDate')],
      },
    ],
    tcbLevels: [
      makeTcbLevel('UpToDate'),
      makeTcbLevel('OutOfDate', { sgx: older, pcesvn: 5, tdx: older }, ['INTEL-SA-00001']),
    ],
  };
}

function goodQeIdentity(): Record<string, unknown> {
  return {
    id: 'TD_QE',
    version: 2,
    ...VALIDITY,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: `11${'00'.repeat(15)}`,
    attributesMask: `FB${'FF'.repeat(7)}${'00'.repeat(8)}`,
    mrsigner: QE_SIGNER,
    isvprodid: 2,
    tcbLevels: [makeEnclaveLevel(4, 'UpToDate')],
  };
}
