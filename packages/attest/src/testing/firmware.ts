import { type Bytes, concatBytes, utf8 } from '../core/bytes.ts';
import { FIRMWARE_GUID, guidBytes } from '../measure/firmware-table.ts';

/** Of a section of our own firmware. */
export interface TestSection {
  readonly address: number;
  readonly bytes: number;
  readonly type: number;
}

export interface TestTdvfSection extends TestSection {
  /** Where its content is in the file, and how long that is. */
  readonly at: number;
  readonly contentBytes: number;
  readonly attributes: number;
}

export interface TestFirmware {
  readonly bytes?: number;
  readonly sev?: readonly TestSection[];
  readonly tdx?: readonly TestTdvfSection[];
  readonly hashTableAddress?: number;
  readonly resetAddress?: number;
}

const u32 = (...values: readonly number[]): Bytes => {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value, true);
  return bytes;
};

/**
 * A firmware of ours that starts nothing: a pattern, then descriptors, then the table of GUIDs and
 * 32 bytes behind it, as OVMF has them.
 */
export function makeFirmware(firmware: TestFirmware): Bytes {
  const { bytes = 4 * 4096, sev, tdx, hashTableAddress, resetAddress } = firmware;
  const entry = (guid: string, content: Bytes): Bytes => {
    const size = content.length + 18;
    return concatBytes(content, Uint8Array.of(size & 0xff, size >> 8), guidBytes(guid));
  };
  const pointers: [guid: string, descriptor: Bytes][] = [];
  if (sev !== undefined) {
    const sections = sev.map((one) => u32(one.address, one.bytes, one.type));
    const head = u32(16 + 12 * sev.length, 1, sev.length);
    pointers.push([FIRMWARE_GUID.sevMetadata, concatBytes(utf8('ASEV'), head, ...sections)]);
  }
  if (tdx !== undefined) {
    const sections = tdx.map((one) =>
      u32(one.at, one.contentBytes, one.address, 0, one.bytes, 0, one.type, one.attributes),
    );
    const head = u32(16 + 32 * tdx.length, 1, tdx.length);
    pointers.push([FIRMWARE_GUID.tdxMetadata, concatBytes(utf8('TDVF'), head, ...sections)]);
  }
  const values = [
    ...(hashTableAddress === undefined
      ? []
      : [entry(FIRMWARE_GUID.sevHashTable, u32(hashTableAddress, 0x400))]),
    ...(resetAddress === undefined ? [] : [entry(FIRMWARE_GUID.sevResetBlock, u32(resetAddress))]),
  ];
  const tableBytes = 18 + 22 * pointers.length + values.reduce((sum, one) => sum + one.length, 0);
  // Descriptors end where the table begins; each entry says how far from the end its own begins.
  let fromEnd = 32 + tableBytes;
  const entries = pointers.map(([guid, descriptor]) => {
    fromEnd += descriptor.length;
    return entry(guid, u32(fromEnd));
  });
  const descriptors = pointers.map(([, descriptor]) => descriptor).reverse();
  const footer = concatBytes(
    Uint8Array.of(tableBytes & 0xff, tableBytes >> 8),
    guidBytes(FIRMWARE_GUID.footer),
  );
  const tail = concatBytes(...descriptors, ...values, ...entries, footer, new Uint8Array(32));
  const all = Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
  all.set(tail, bytes - tail.length);
  return all;
}
