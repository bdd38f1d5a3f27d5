import { type Bytes, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { FIRMWARE_GUID, readFirmwareTable, readPointed } from './firmware-table.ts';

/** A part of TDVF and where it is put (Intel's TDVF design guide, section 11). */
export interface TdvfSection {
  /** What the firmware file holds of it; the rest is zero. */
  readonly content: Bytes;
  readonly address: number;
  readonly bytes: number;
  readonly type: number;
  /** Its content is measured into MRTD; else only where it is. */
  readonly isExtended: boolean;
  /** Its memory is added while the guest runs, so that MRTD does not cover it. */
  readonly isAddedLater: boolean;
}

export const TDVF_SECTION = { volume: 0, variables: 1, hob: 2, temporary: 3 } as const;

/**
 * Whether all pages of a section are added before the first is measured (QEMU 8), or each page is
 * measured as it is added (QEMU 9).
 */
export const PAGE_ORDERS = ['two-pass', 'single-pass'] as const;
export type PageOrder = (typeof PAGE_ORDERS)[number];

const VERSION = 1;
const SECTIONS_MAX = 64;
const SECTION_BYTES_MAX = 256 * 1024 * 1024;
const PAGE_BYTES = 4096;
const CHUNK_BYTES = 256;
const RECORD_BYTES = 128;
const MR_EXTEND = 1;
const PAGE_AUG = 2;

/** Reads TDVF's metadata from OVMF.fd. Throws AttestError with a reading code. */
export function readTdvf(firmware: Bytes): TdvfSection[] {
  const what = "the firmware's TDX metadata";
  const entry = readFirmwareTable(firmware).get(FIRMWARE_GUID.tdxMetadata);
  demand(entry !== undefined, 'malformed', `${what} is missing: it cannot be started with TDX`);
  const reader = readPointed(firmware, entry, what);
  const signature = String.fromCharCode(...reader.bytes(4));
  demand(signature === 'TDVF', 'malformed', `${what} does not begin with TDVF`);
  const length = reader.u32le();
  const version = reader.u32le();
  demand(version === VERSION, 'unsupported-version', `${what} is of version ${version}`);
  const count = reader.u32le();
  demand(count <= SECTIONS_MAX, 'too-large', `${what} has ${count} sections`);
  demand(length === 16 + 32 * count, 'malformed', `${what} says it has ${length} bytes`);
  return Array.from({ length: count }, (_, i) => {
    const at = reader.u32le();
    const contentBytes = reader.u32le();
    const address = Number(reader.u64le());
    const bytes = Number(reader.u64le());
    const type = reader.u32le();
    const attributes = reader.u32le();
    const name = `${what}: section ${i}`;
    const isAligned = address % PAGE_BYTES === 0 && bytes % PAGE_BYTES === 0;
    demand(isAligned, 'malformed', `${name} is not of whole pages`);
    demand(bytes <= SECTION_BYTES_MAX, 'too-large', `${name} has ${bytes} bytes`);
    const fits = contentBytes <= bytes && at + contentBytes <= firmware.length;
    demand(fits, 'malformed', `${name} is longer than its place or its file`);
    demand(attributes <= 3, 'unsupported-version', `${name} has attributes ${attributes}`);
    return {
      content: firmware.subarray(at, at + contentBytes),
      address,
      bytes,
      type,
      isExtended: (attributes & MR_EXTEND) !== 0,
      isAddedLater: (attributes & PAGE_AUG) !== 0,
    };
  });
}

/**
 * MRTD (48 bytes): SHA-384 over a record for each page that is added (TDH.MEM.PAGE.ADD) and one
 * with the content for each 256 bytes that are measured (TDH.MR.EXTEND), in the order of the VMM.
 */
export function tdxMrtd(sections: readonly TdvfSection[], order: PageOrder): Promise<Bytes> {
  const records = new Records(sections);
  for (const section of sections) {
    const pages = section.bytes / PAGE_BYTES;
    if (order === 'two-pass') {
      for (let page = 0; page < pages; page++) records.add(section, page);
      for (let page = 0; page < pages; page++) records.extend(section, page);
    } else {
      for (let page = 0; page < pages; page++) {
        records.add(section, page);
        records.extend(section, page);
      }
    }
  }
  return digest('SHA-384', records.bytes());
}

/** What MRTD is the digest of, in one piece: WebCrypto hashes nothing in parts. */
class Records {
  readonly #bytes: Bytes;
  #at = 0;

  constructor(sections: readonly TdvfSection[]) {
    const perPage = RECORD_BYTES + (PAGE_BYTES / CHUNK_BYTES) * (RECORD_BYTES + CHUNK_BYTES);
    const pages = sections.reduce((sum, { bytes }) => sum + bytes / PAGE_BYTES, 0);
    this.#bytes = new Uint8Array(pages * perPage);
  }

  add({ isAddedLater, address }: TdvfSection, page: number): void {
    if (!isAddedLater) this.#record('MEM.PAGE.ADD', address + page * PAGE_BYTES);
  }

  extend({ isExtended, address, content }: TdvfSection, page: number): void {
    if (!isExtended) return;
    for (let at = page * PAGE_BYTES; at < (page + 1) * PAGE_BYTES; at += CHUNK_BYTES) {
      this.#record('MR.EXTEND', address + at);
      this.#bytes.set(content.subarray(at, at + CHUNK_BYTES), this.#at);
      this.#at += CHUNK_BYTES;
    }
  }

  bytes(): Bytes {
    return this.#bytes.subarray(0, this.#at);
  }

  #record(name: string, address: number): void {
    this.#bytes.set(utf8(name), this.#at);
    new DataView(this.#bytes.buffer).setBigUint64(this.#at + 16, BigInt(address), true);
    this.#at += RECORD_BYTES;
  }
}
