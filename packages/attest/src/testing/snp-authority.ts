import { type Bytes, concatBytes, fromHex, utf8 } from '../core/bytes.ts';
import { TAG } from '../core/der.ts';
import { der } from '../core/der-writer.ts';
import { sha256Hex } from '../core/digest.ts';
import {
  makeCertificate,
  NAME,
  signEcdsa,
  type TestExtension,
  type TestIssuer,
} from './certificates.ts';
import { derUnsigned } from './der-elements.ts';
import { makeRevocationList } from './revocation.ts';

const AMD = '1.3.6.1.4.1.3704.1';
const SIGNER_SERIAL = Uint8Array.of(0x05, 0x01);

/** Security versions by the last arc of their extension. */
const MILAN_TCB: Readonly<Record<number, number>> = {
  1: 3,
  2: 0,
  4: 0,
  5: 0,
  6: 0,
  7: 0,
  3: 8,
  8: 115,
};
const TURIN_TCB: Readonly<Record<number, number>> = { 9: 1, 1: 3, 2: 0, 3: 8, 8: 115 };

export type TestProduct = 'Milan' | 'Turin';

/** A root key (ARK) like AMD's with the keys below it. */
export interface AmdAuthority {
  readonly product: TestProduct;
  readonly ark: TestIssuer;
  readonly arkSha256: string;
  readonly ask: TestIssuer;
  /** The chip's key, or with `isProviders` a cloud provider's. */
  readonly key: TestIssuer;
  readonly isProviders: boolean;
  readonly chipId: Bytes;
}

export async function makeAmdAuthority(
  product: TestProduct = 'Milan',
  isProviders = false,
): Promise<AmdAuthority> {
  const rsa = { isCa: true, isRsaPss: true } as const;
  const ark = await makeOne(`ARK-${product}`, null, rsa);
  const ask = await makeOne(`SEV-${product}`, ark, {
    ...rsa,
    pathLength: 0,
    serial: SIGNER_SERIAL,
  });
  const chipId = new Uint8Array(product === 'Turin' ? 8 : 64).fill(0xc1);
  const owner = isProviders
    ? text(`${AMD}.5`, 'cloud.example')
    : { oid: `${AMD}.4`, value: chipId };
  const name = product === 'Turin' ? 'Turin' : 'Milan-B0';
  const key = await makeOne(isProviders ? 'SEV-VLEK' : 'SEV-VCEK', ask, {
    extensions: [text(`${AMD}.2`, name), ...versions(product), owner],
  });
  return { product, ark, arkSha256: await sha256Hex(ark.der), ask, key, isProviders, chipId };
}

/** AMD's list of revoked keys, good in January of 2026. */
export function makeAmdRevocationList(
  { ark }: AmdAuthority,
  isSignerRevoked: boolean,
): Promise<Bytes> {
  return makeRevocationList({
    issuer: ark,
    serials: isSignerRevoked ? [SIGNER_SERIAL] : [],
    thisUpdate: '20260101000000',
    nextUpdate: '20260201000000',
  });
}

/** What a made-up report says; whatever is left out is as in a good one. */
export interface SnpChanges {
  readonly version?: number;
  readonly policy?: bigint;
  readonly algorithm?: number;
  readonly chipId?: Bytes;
  readonly reportedTcb?: string;
  readonly committedTcb?: string;
  readonly launchTcb?: string;
  readonly platformInfo?: bigint;
  readonly cpuid?: readonly [family: number, model: number, stepping: number];
  readonly keyFlags?: number;
  readonly vmpl?: number;
  readonly reportData?: Bytes;
  readonly hostData?: Bytes;
}

/** A report that the authority's key signed. */
export async function makeSnpReport(
  authority: AmdAuthority,
  changes: SnpChanges = {},
): Promise<Bytes> {
  const { product, isProviders } = authority;
  const version = changes.version ?? 3;
  const tcb = product === 'Turin' ? '0103000800000073' : '0300000000000873';
  const cpuid = product === 'Turin' ? [0x1a, 0x02, 0] : [0x19, 0x01, 1];
  const chipId = new Uint8Array(64);
  chipId.set(changes.chipId ?? authority.chipId);
  const signed = new Uint8Array(0x2a0);
  const view = new DataView(signed.buffer);
  view.setUint32(0, version, true);
  view.setBigUint64(8, changes.policy ?? 0x3_0000n, true);
  view.setUint32(0x30, changes.vmpl ?? 0, true);
  view.setUint32(0x34, changes.algorithm ?? 1, true);
  view.setUint32(0x48, changes.keyFlags ?? (isProviders ? 4 : 0), true);
  signed.set(changes.reportData ?? new Uint8Array(64).fill(0x64), 0x50);
  signed.fill(0x3d, 0x90, 0xc0);
  signed.set(changes.hostData ?? new Uint8Array(32), 0xc0);
  signed.fill(0x1d, 0x140, 0x160);
  for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) signed.set(fromHex(tcb, 'TCB'), at);
  signed.set(fromHex(changes.reportedTcb ?? tcb, 'TCB'), 0x180);
  signed.set(fromHex(changes.committedTcb ?? tcb, 'TCB'), 0x1e0);
  signed.set(fromHex(changes.launchTcb ?? tcb, 'TCB'), 0x1f0);
  view.setBigUint64(0x40, changes.platformInfo ?? 0n, true);
  if (version >= 3) signed.set(changes.cpuid ?? cpuid, 0x188);
  signed.set(chipId, 0x1a0);
  const raw = await signEcdsa(authority.key.keys.privateKey, 'P-384', signed);
  const coordinates = [raw.slice(0, 48), raw.slice(48)].map((half) => half.reverse());
  const signature = concatBytes(
    ...coordinates.map((half) => concatBytes(half, new Uint8Array(24))),
  );
  return concatBytes(signed, signature, new Uint8Array(512 - signature.length));
}

/** The table of certificates that hosts hand out. */
export function makeCertificateTable({ ark, ask, key, isProviders }: AmdAuthority): Bytes {
  const guids = [
    isProviders ? 'a8074bc2a25a483eaae639c045a0b8a1' : '63da758de6644564adc5f4b93be8accd',
    '4ab7b379bbac4fe4a02f05aef327c782',
    'c0b406a4a803495297433fb6014cd0ae',
  ];
  const certificates = [key, ask, ark].map((one) => one.der);
  let offset = (certificates.length + 1) * 24;
  const entries = certificates.map((bytes, i) => {
    const entry = concatBytes(fromHex(guids[i]!, 'GUID'), new Uint8Array(8));
    const view = new DataView(entry.buffer);
    view.setUint32(16, offset, true);
    view.setUint32(20, bytes.length, true);
    offset += bytes.length;
    return entry;
  });
  return concatBytes(...entries, new Uint8Array(24), ...certificates);
}

function makeOne(
  common: string,
  issuer: TestIssuer | null,
  options: Partial<Parameters<typeof makeCertificate>[0]>,
): Promise<TestIssuer> {
  return makeCertificate({ ...options, subject: [[NAME.common, common]], issuer, curve: 'P-384' });
}

function text(oid: string, value: string): TestExtension {
  return { oid, value: der(TAG.ia5String, utf8(value)) };
}

function versions(product: TestProduct): TestExtension[] {
  return Object.entries(product === 'Turin' ? TURIN_TCB : MILAN_TCB).map(([arc, svn]) => ({
    oid: `${AMD}.3.${arc}`,
    value: derUnsigned(Uint8Array.of(svn)),
  }));
}
