import { ByteReader, type Bytes } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';

/** NVML's and NSCQ's buffers hold no more than 8 KiB. */
const REPORT_BYTES_MAX = 8 * 1024;
const NONCE_BYTES = 32;
/** ECDSA P-384: r and s of 48 bytes each. */
const SIGNATURE_BYTES = 96;
const SPDM_1_1 = 0x11;
const GET_MEASUREMENTS = 0xe0;
const MEASUREMENTS = 0x60;
/** Param 1: a signature is wanted; param 2: all measurements. */
const SIGNED = 0x01;
const ALL = 0xff;
/** DMTF's measurement specification, the only one. */
const DMTF = 1;
/** A value's type and size. */
const VALUE_HEADER_BYTES = 3;

/** One measurement block, by its SPDM index (from 1). */
export interface MeasurementBlock {
  readonly index: number;
  /** DMTF's value type: 1 is a digest of mutable firmware; bit 7 says raw instead of digest. */
  readonly type: number;
  readonly value: Bytes;
}

/** An SPDM 1.1 GET_MEASUREMENTS request and its MEASUREMENTS response, as devices give them. */
export interface SpdmReport {
  /** The requester's, 32 bytes. */
  readonly nonce: Bytes;
  readonly blocks: readonly MeasurementBlock[];
  readonly opaque: Bytes;
  /** Everything before the signature. */
  readonly signedBytes: Bytes;
  /** r and s, 48 bytes each. */
  readonly signature: Bytes;
}

/**
 * Reads a report of 37 bytes of request and the response, to its last byte. Throws AttestError
 * 'malformed', 'trailing-bytes', 'too-large' or 'unsupported-version'.
 */
export function readSpdmReport(bytes: Bytes): SpdmReport {
  demand(bytes.length <= REPORT_BYTES_MAX, 'too-large', `the report has ${bytes.length} bytes`);
  const reader = new ByteReader(bytes, 'the report');
  demandHeader(reader, GET_MEASUREMENTS, 'request');
  const [signed, which] = [reader.u8(), reader.u8()];
  demand(signed === SIGNED && which === ALL, 'malformed', 'the request is not for all, signed');
  const nonce = reader.bytes(NONCE_BYTES);
  const slot = reader.u8();
  demand(slot === 0, 'malformed', `the request names certificate slot ${slot}`);

  demandHeader(reader, MEASUREMENTS, 'response');
  const parameters = [reader.u8(), reader.u8()];
  demand(
    parameters.every((one) => one === 0),
    'malformed',
    `the response has parameters ${parameters}`,
  );
  const blockCount = reader.u8();
  const blocks = readBlocks(reader.bytes(reader.u24le()), blockCount);
  reader.bytes(NONCE_BYTES);
  const opaque = reader.bytes(reader.u16le());
  const signedBytes = bytes.subarray(0, reader.offset);
  const signature = reader.bytes(SIGNATURE_BYTES);
  reader.end();
  return { nonce, blocks, opaque, signedBytes, signature };
}

function demandHeader(reader: ByteReader, code: number, what: string): void {
  const version = reader.u8();
  demand(version === SPDM_1_1, 'unsupported-version', `the ${what} has SPDM version ${version}`);
  const seen = reader.u8();
  demand(seen === code, 'malformed', `the ${what} has code ${seen}`);
}

function readBlocks(record: Bytes, count: number): MeasurementBlock[] {
  const reader = new ByteReader(record, 'the measurement record');
  const blocks: MeasurementBlock[] = [];
  const seen = new Set<number>();
  for (let i = 0; i < count; i++) {
    const index = reader.u8();
    const specification = reader.u8();
    const size = reader.u16le();
    const type = reader.u8();
    const value = reader.bytes(reader.u16le());
    const isSized = size === VALUE_HEADER_BYTES + value.length;
    if (index === 0 || seen.has(index) || specification !== DMTF || !isSized) {
      throw new AttestError('malformed', `measurement ${index} is broken, or there twice`);
    }
    seen.add(index);
    blocks.push({ index, type, value });
  }
  reader.end();
  return blocks;
}
