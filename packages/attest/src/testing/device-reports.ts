import { type Bytes, concatBytes, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { OPAQUE } from '../nvidia/opaque.ts';
import { signEcdsa, toPem } from './certificates.ts';
import { opaqueField, pdiBytes, type TestDevice, u16le } from './device-authority.ts';

/** What a test report says; whatever is left out is as in a good one. */
export interface TestReportOptions {
  /** 32 bytes. */
  readonly nonce: Bytes;
  /** Opaque fields in order; a type may be there twice. */
  readonly fields?: readonly OpaqueField[];
  /** Whether the opaque data has the newer format's header. */
  readonly isVersioned?: boolean;
  /** Digests (48 bytes) by SPDM index. */
  readonly measurements?: ReadonlyMap<number, Bytes>;
  /** Of an FSP: the PDI that it repeats, if not its own. */
  readonly ownPdi?: string;
}

export type OpaqueField = readonly [type: number, data: Uint8Array];

const GPU_BLOCKS = 64;
const FSP_BLOCKS = 52;
const FSP_PDI_INDEX = 26;
const SWITCH_BLOCKS = 31;

/** The fields of a good report, to be changed one by one. */
export function goodFields(device: TestDevice): OpaqueField[] {
  if (device.arch === 'ls10') {
    return [
      [OPAQUE.vbiosVersion, utf8('96.10.73.00.01')],
      [OPAQUE.switchPdi, pdiBytes(device.pdi)],
      [OPAQUE.switchLock, u16le(1)],
      [OPAQUE.switchPosition, u16le(0)],
    ];
  }
  return [
    [OPAQUE.vbiosVersion, Uint8Array.of(0x00, 0xa5, 0x00, 0x96, 0x01, 0, 0, 0)],
    [OPAQUE.chipSku, utf8('885\0\0')],
    [OPAQUE.project, utf8('G520\0')],
    [OPAQUE.projectSku, utf8('0200\0')],
    [OPAQUE.driverVersion, utf8('590.12\0')],
    [OPAQUE.nvdec0, Uint8Array.of(0x55)],
    [OPAQUE.fwid, device.fwid],
    [OPAQUE.protectedPcie, Uint8Array.of(0x55)],
    [OPAQUE.featureFlag, u16le(0)],
  ];
}

/** The fields with some exchanged or, where there were none of the type, added. */
export function withFields(
  fields: readonly OpaqueField[],
  ...changes: readonly OpaqueField[]
): OpaqueField[] {
  const changed = new Set(changes.map(([type]) => type));
  return [...fields.filter(([type]) => !changed.has(type)), ...changes];
}

/** A report signed by the device. */
export async function makeReport(device: TestDevice, options: TestReportOptions): Promise<Bytes> {
  const isVersioned = options.isVersioned ?? false;
  const header = isVersioned ? [utf8('NVDAOD'), Uint8Array.of(0, 0, 2, 0, 0, 0)] : [];
  const fields = options.fields ?? (device.reporter === 'fsp' ? [] : goodFields(device));
  const opaque = concatBytes(
    ...header,
    ...fields.map(([type, data]) => opaqueField(type, data, isVersioned)),
  );
  const measurements = options.measurements ?? goodMeasurements(device);
  const own = pdiBytes(options.ownPdi ?? device.pdi);
  const record = concatBytes(
    ...[...measurements].map(([index, value]) =>
      device.reporter === 'fsp' ? fspBlock(index, value, own) : block(index, value, 1),
    ),
  );
  const recordBytes = record.length;
  const signedBytes = concatBytes(
    Uint8Array.of(0x11, 0xe0, 0x01, 0xff),
    options.nonce,
    Uint8Array.of(0, 0x11, 0x60, 0, 0, measurements.size),
    Uint8Array.of(recordBytes & 0xff, (recordBytes >> 8) & 0xff, recordBytes >> 16),
    record,
    new Uint8Array(32).fill(0x5e),
    u16le(opaque.length),
    opaque,
  );
  const { keys, curve } = device.chain[0]!;
  return concatBytes(signedBytes, await signEcdsa(keys.privateKey, curve, signedBytes));
}

function goodMeasurements({ arch, reporter }: TestDevice): Map<number, Bytes> {
  const gpuBlocks = reporter === 'fsp' ? FSP_BLOCKS : GPU_BLOCKS;
  const count = arch === 'ls10' ? SWITCH_BLOCKS : gpuBlocks;
  const indexes = Array.from({ length: count }, (_, i) => i + 1);
  return new Map(indexes.map((index) => [index, new Uint8Array(48).fill(index)]));
}

/** Digests of each type, raw values of one byte, and the PDI. */
function fspBlock(index: number, value: Bytes, pdi: Bytes): Bytes {
  if (index === FSP_PDI_INDEX) return block(index, pdi, 0x82);
  return index > FSP_PDI_INDEX
    ? block(index, Uint8Array.of(index), 0x83)
    : block(index, value, index % 4);
}

function block(index: number, value: Bytes, type: number): Bytes {
  const inner = concatBytes(Uint8Array.of(type), u16le(value.length), value);
  return concatBytes(Uint8Array.of(index, 1), u16le(inner.length), inner);
}

const ARCH_NAMES = { hopper: 'HOPPER', blackwell: 'BLACKWELL', ls10: 'LS10' } as const;

/** An entry of an evidence list, as NVIDIA's SDK serialises it. */
export interface EvidenceItem {
  readonly arch: string;
  readonly certificate: string;
  readonly evidence: string;
  readonly nonce: string;
  readonly version: string;
}

export function makeEvidenceItem(device: TestDevice, report: Bytes): EvidenceItem {
  return {
    arch: ARCH_NAMES[device.arch],
    certificate: toBase64(utf8(toPem(device.chain))),
    evidence: toBase64(report),
    nonce: toHex(report.subarray(4, 36)),
    version: '1.0',
  };
}
