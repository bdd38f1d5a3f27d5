import { type Bytes, concatBytes, fromHex, utf8 } from '../core/bytes.ts';
import { der, derOctets, derOid, derSequence } from '../core/der-writer.ts';
import { sha256Hex } from '../core/digest.ts';
import type { DeviceArch, GpuReporter } from '../nvidia/device-report.ts';
import { makeCertificate, NAME, type TestExtension, type TestIssuer } from './certificates.ts';
import { derUnsigned } from './der-elements.ts';

/** A vendor of devices, of our own: a root, and what stands between it and the devices. */
export interface DeviceAuthority {
  readonly root: TestIssuer;
  readonly identity: TestIssuer;
  readonly provisioner: TestIssuer;
  /** To be pinned instead of NVIDIA's. */
  readonly rootSha256: ReadonlySet<string>;
}

/** A GPU or switch with its key and its chain, leaf first. */
export interface TestDevice {
  readonly arch: DeviceArch;
  readonly reporter: GpuReporter;
  /** 16 hexadecimal digits. */
  readonly pdi: string;
  readonly fwid: Bytes;
  readonly chain: readonly TestIssuer[];
}

export interface TestDeviceOptions {
  readonly arch: DeviceArch;
  /** Of a GPU; by default its GSP. */
  readonly reporter?: GpuReporter;
  readonly pdi: string;
  /** 48 bytes, as the certificate has it. */
  readonly fwid?: Bytes;
  readonly notAfter?: string;
}

const CHIPS = { hopper: 'GH100 A01 GSP', blackwell: 'GB100 A01 GSP', ls10: 'LS_10 A01 FSP' };
const SHA_384 = '2.16.840.1.101.3.4.2.2';
const FWID = new Uint8Array(48).fill(0xf1);

export async function makeDeviceAuthority(): Promise<DeviceAuthority> {
  const named = (common: string): [string, string][] => [
    [NAME.common, common],
    [NAME.organisation, 'Bridgekeeper Test'],
  ];
  const root = await makeCertificate({
    subject: named('Test Device CA'),
    issuer: null,
    isCa: true,
  });
  const identity = await makeCertificate({
    subject: named('Test Chip Identity'),
    issuer: root,
    isCa: true,
  });
  const provisioner = await makeCertificate({
    subject: named('Test Provisioner ICA 1'),
    issuer: identity,
    isCa: true,
  });
  return { root, identity, provisioner, rootSha256: new Set([await sha256Hex(root.der)]) };
}

export async function makeDevice(
  authority: DeviceAuthority,
  { arch, reporter = 'gsp', pdi, fwid = FWID, notAfter = '99991231235959' }: TestDeviceOptions,
): Promise<TestDevice> {
  const gpuKind = reporter === 'fsp' ? '40' : '41';
  const kind = arch === 'ls10' ? '50' : gpuKind;
  const chip = reporter === 'fsp' ? CHIPS[arch].replace('GSP', 'FSP') : CHIPS[arch];
  const device = await makeCertificate({
    subject: [
      [NAME.serial, `${kind}${pdi.toUpperCase()}`],
      [NAME.common, `${chip} BROM`],
    ],
    issuer: authority.provisioner,
    isCa: true,
    notAfter,
  });
  const leaf = await makeCertificate({
    subject: [[NAME.common, `${chip} FMC LF`]],
    issuer: device,
    extensions: [arch === 'blackwell' ? tcbInfo(fwid) : compositeDeviceId(fwid, device)],
  });
  const { provisioner, identity, root } = authority;
  return { arch, reporter, pdi, fwid, chain: [leaf, device, provisioner, identity, root] };
}

function fwidElement(fwid: Bytes): Bytes {
  return derSequence(derOid(SHA_384), derOctets(fwid));
}

function compositeDeviceId(fwid: Bytes, device: TestIssuer): TestExtension {
  const key = derSequence(derOctets(device.subjectDer));
  const value = derSequence(derUnsigned(Uint8Array.of(1)), key, fwidElement(fwid));
  return { oid: '2.23.133.5.4.1', value };
}

function tcbInfo(fwid: Bytes): TestExtension {
  const others = fwidElement(new Uint8Array(48));
  const value = derSequence(der(0x80, utf8('TEST')), der(0xa6, fwidElement(fwid), others));
  return { oid: '2.23.133.5.4.1.1', value };
}

/** Eight bytes of an identity, as switches and certificates write them. */
export function pdiBytes(pdi: string): Bytes {
  return fromHex(pdi, 'a test identity');
}

/** A 16-bit field, least significant byte first. */
export function u16le(value: number): Bytes {
  return Uint8Array.of(value & 0xff, value >> 8);
}

/** A field of opaque data in the older format, or with a value type in the newer one. */
export function opaqueField(type: number, data: Uint8Array, isVersioned: boolean): Bytes {
  const valueType = isVersioned ? [u16le(0x82)] : [];
  return concatBytes(u16le(type), ...valueType, u16le(data.length), data);
}
