import { ByteReader, type Bytes, toHex } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';

/** Larger than any OVMF that is built today, by far. */
const FIRMWARE_BYTES_MAX = 64 * 1024 * 1024;
/** The reset vector, behind which nothing is. */
const TAIL_BYTES = 32;
const ENTRY_HEAD_BYTES = 18;

/** What the parts of the table are known by, as they are written for people. */
export const FIRMWARE_GUID = {
  footer: '96b582de-1fb2-45f7-baea-a366c55a082d',
  sevMetadata: 'dc886566-984a-4798-a75e-5585a7bf67cc',
  sevHashTable: '7255371f-3a3b-4b04-927b-1da6efa8d454',
  sevResetBlock: '00f771de-1a7e-4fcb-890e-68c77e2fb44e',
  tdxMetadata: 'e47a6535-984a-4798-865e-4685a7bf8ec2',
} as const;

/**
 * The table of GUIDed structures at the end of OVMF, read backwards from its footer: the contents
 * by GUID (EDK II, OvmfPkg/ResetVector). Throws AttestError 'malformed' or 'too-large'.
 */
export function readFirmwareTable(firmware: Bytes): ReadonlyMap<string, Bytes> {
  const size = firmware.length;
  demand(size <= FIRMWARE_BYTES_MAX, 'too-large', `the firmware has ${size} bytes`);
  let end = size - TAIL_BYTES;
  const footer = entryBefore(firmware, end);
  const isTable = footer?.guid === FIRMWARE_GUID.footer;
  demand(isTable, 'malformed', 'the firmware does not end in the table of OVMF: is it OVMF.fd?');
  const start = end - footer!.bytes;
  demand(start >= 0, 'malformed', "the firmware's table is longer than the firmware");
  const table = new Map<string, Bytes>();
  end -= ENTRY_HEAD_BYTES;
  while (end > start) {
    const entry = entryBefore(firmware, end);
    const begin = end - (entry?.bytes ?? 0);
    const fits = entry !== null && entry.bytes >= ENTRY_HEAD_BYTES && begin >= start;
    demand(fits, 'malformed', "an entry of the firmware's table does not fit into it");
    const { guid } = entry!;
    demand(!table.has(guid), 'malformed', `the firmware's table has ${guid} twice`);
    table.set(guid, firmware.subarray(begin, end - ENTRY_HEAD_BYTES));
    end = begin;
  }
  return table;
}

/** The structure of that GUID that a table entry points to: it counts from the firmware's end. */
export function readPointed(firmware: Bytes, entry: Bytes, what: string): ByteReader {
  const fromEnd = new ByteReader(entry, what).u32le();
  demand(fromEnd <= firmware.length, 'malformed', `${what} begins before the firmware does`);
  return new ByteReader(firmware.subarray(firmware.length - fromEnd), what);
}

/** A GUID as it is in memory: its first three fields are little-endian. */
export function guidBytes(guid: string): Bytes {
  const digits = guid.replaceAll('-', '');
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  if (digits.length !== 32) throw new AttestError('malformed', `${guid} is no GUID`);
  return Uint8Array.from(order, (i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** The entry that ends there: its length with its head, and its GUID. */
function entryBefore(firmware: Bytes, end: number): { bytes: number; guid: string } | null {
  if (end < ENTRY_HEAD_BYTES) return null;
  const reader = new ByteReader(firmware.subarray(end - ENTRY_HEAD_BYTES, end), 'the table');
  return { bytes: reader.u16le(), guid: guidText(reader.bytes(16)) };
}

function guidText(bytes: Bytes): string {
  const hex = toHex(guidBytes(toHex(bytes)));
  const cuts = [0, 8, 12, 16, 20, 32];
  return cuts
    .slice(1)
    .map((cut, i) => hex.slice(cuts[i], cut))
    .join('-');
}
