import { ByteReader, type Bytes, toHex } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';

/** Types of opaque fields; 22 to 26 mean one thing on GPUs, another on switches. */
export const OPAQUE = {
  driverVersion: 3,
  vbiosVersion: 6,
  nvdec0: 11,
  chipSku: 15,
  project: 17,
  projectSku: 18,
  fwid: 20,
  protectedPcie: 21,
  gpuSwitchPdis: 22,
  switchPdi: 22,
  switchDisabledPorts: 23,
  switchPosition: 24,
  switchLock: 25,
  switchGpuPorts: 26,
  legacyVersion: 34,
  chipInfo: 35,
  featureFlag: 36,
  fspUcodeSvn: 37,
  nvlinkEncryption: 38,
} as const;

const VERSIONED_MAGIC = 'NVDAOD';
const VERSIONED_MAJOR_MAX = 2;
const LEGACY_VERSION_MAX = 1;

/** A report's vendor fields. Types that are not known are kept: they are signed all the same. */
export class OpaqueData {
  readonly #fields: ReadonlyMap<number, Bytes>;

  constructor(fields: ReadonlyMap<number, Bytes>) {
    this.#fields = fields;
  }

  /** A field of exactly that many bytes, or null. */
  bytes(type: number, count: number): Bytes | null {
    const field = this.#fields.get(type);
    if (field === undefined) return null;
    demand(
      field.length === count,
      'malformed',
      `opaque field ${type} has ${field.length} bytes, not ${count}`,
    );
    return field;
  }

  u16(type: number): number | null {
    const field = this.bytes(type, 2);
    return field === null ? null : field[0]! + 256 * field[1]!;
  }

  /** A switch that is 0xaa for on and 0x55 for off; anything else is an error. */
  onOff(type: number): boolean | null {
    const field = this.bytes(type, 1);
    if (field === null) return null;
    const isKnown = field[0] === 0xaa || field[0] === 0x55;
    demand(isKnown, 'malformed', `opaque field ${type} is 0x${toHex(field)}, neither on nor off`);
    return field[0] === 0xaa;
  }

  /** Letters, digits, dots and dashes; zeros may fill the field's end. */
  text(type: number): string | null {
    const field = this.#fields.get(type);
    if (field === undefined) return null;
    const text = String.fromCharCode(...field.subarray(0, 256)).replace(/\0+$/, '');
    const isPlain = field.length <= 256 && /^[\w.-]+$/.test(text);
    demand(isPlain, 'malformed', `opaque field ${type} is no plain text`);
    return text;
  }
}

/**
 * Reads both formats: the older `{type, size, data}` and the newer with a header "NVDAOD". Throws
 * AttestError 'malformed' (a type that is there twice, too) or 'unsupported-version'.
 */
export function readOpaqueData(bytes: Bytes): OpaqueData {
  const magic = String.fromCharCode(...bytes.subarray(0, VERSIONED_MAGIC.length));
  const reader = new ByteReader(bytes, 'the opaque data');
  const isVersioned = magic === VERSIONED_MAGIC;
  if (isVersioned) readHeader(reader);
  const fields = new Map<number, Bytes>();
  while (reader.left > 0) {
    const type = reader.u16le();
    if (isVersioned) reader.u16le();
    const data = reader.bytes(reader.u16le());
    if (fields.has(type)) throw new AttestError('malformed', `opaque field ${type} is there twice`);
    fields.set(type, data);
  }
  const opaque = new OpaqueData(fields);
  const version = isVersioned ? 0 : (opaque.u16(OPAQUE.legacyVersion) ?? 0);
  if (version <= LEGACY_VERSION_MAX) return opaque;
  throw new AttestError('unsupported-version', `opaque data of version ${version}`);
}

function readHeader(reader: ByteReader): void {
  reader.bytes(VERSIONED_MAGIC.length);
  const profile = reader.u16le();
  const major = reader.u8();
  reader.bytes(2);
  const padding = reader.u8();
  const isKnown = profile === 0 && major <= VERSIONED_MAJOR_MAX;
  demand(isKnown, 'unsupported-version', `opaque data of profile ${profile}, version ${major}`);
  demand(padding === 0, 'malformed', 'the header of the opaque data has a padding that is not 0');
}
