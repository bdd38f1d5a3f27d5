import { ModelError } from '../models/errors.ts';
import { scanStrict } from '../models/strict-json.ts';
import type { RangeSource } from './shard-file.ts';

/** Bits of one element of every type the format names. */
const DTYPE_BITS = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
} as const;
export type SafetensorsDtype = keyof typeof DTYPE_BITS;

/** A tensor as a header describes it. */
export interface TensorHeader {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly offsetBytes: number;
  readonly bytes: number;
}

/** A file's header, checked: its tensors cover the data section exactly, each byte once. */
export interface SafetensorsHeader {
  /** In the order of their data. */
  readonly tensors: readonly TensorHeader[];
  readonly metadata: Readonly<Record<string, string>>;
}

const LENGTH_BYTES = 8;
/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function show(value: string): string {
  return JSON.stringify(value.length > 120 ? `${value.slice(0, 120)}...` : value);
}

/**
 * The bytes that follow, at most. Throws when the header is longer than the format or the file
 * allows.
 */
function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    const limit = `the format allows ${MAX_HEADER_BYTES}`;
    throw new ModelError('malformed', `${file}: header of ${length} bytes; ${limit}`);
  }
  if (LENGTH_BYTES + Number(length) > fileBytes) {
    const says = `its header should have ${length} bytes, the file has ${fileBytes}`;
    throw new ModelError('wrong-size', `${file} is truncated: ${says}`);
  }
  return Number(length);
}

function headerText(bytes: Uint8Array, file: string): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ModelError('malformed', `${file}: the header is not UTF-8`);
  }
  if (!text.startsWith('{')) {
    throw new ModelError('malformed', `${file}: the header does not begin with "{"`);
  }
  return text;
}

/** JSON without duplicate keys and without numbers other than plain integers. */
function headerObject(text: string, file: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new ModelError('malformed', `${file}: the header is not valid JSON`);
  }
  const finding = scanStrict(text);
  if (finding?.kind === 'duplicate-key') {
    const message = `${file}: the header has the key ${show(finding.key)} twice`;
    throw new ModelError('malformed', message);
  }
  if (finding?.kind === 'bad-number') {
    const rule = 'sizes and offsets are whole numbers from 0 below 2^53';
    throw new ModelError('malformed', `${file}: the header has ${show(finding.text)}; ${rule}`);
  }
  if (!isRecord(parsed)) throw new ModelError('malformed', `${file}: the header is no object`);
  return parsed;
}

function metadataOf(value: unknown, file: string): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value) || Object.values(value).some((entry) => typeof entry !== 'string')) {
    throw new ModelError('malformed', `${file}: "__metadata__" must map strings to strings`);
  }
  return value as Record<string, string>;
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'number');
}

/** Bytes of a tensor, from its shape and type. */
function sizeOf(
  shape: readonly number[],
  dtype: SafetensorsDtype,
  fail: (text: string) => ModelError,
) {
  // A zero anywhere empties the tensor, however large the other sizes are.
  const elements = shape.includes(0) ? 0 : shape.reduce((total, size) => total * size, 1);
  const bits = elements * DTYPE_BITS[dtype];
  if (!Number.isSafeInteger(bits)) throw fail('has a shape too large to count');
  if (bits % 8 !== 0) throw fail(`does not fill whole bytes with ${elements} of ${dtype}`);
  return bits / 8;
}

function tensorOf(name: string, value: unknown, dataStart: number, file: string): TensorHeader {
  const fail = (text: string) =>
    new ModelError('malformed', `${file}: tensor ${show(name)} ${text}`);
  if (!isRecord(value)) throw fail('is not described by an object');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BITS, dtype)) {
    throw fail(`has an unknown dtype; known: ${Object.keys(DTYPE_BITS).join(', ')}`);
  }
  if (!isNumbers(shape)) throw fail('has no "shape" of whole numbers');
  if (!isNumbers(offsets) || offsets.length !== 2) throw fail('has no "data_offsets" [begin, end]');
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw fail(`ends at ${end} before it begins at ${begin}`);
  const bytes = sizeOf(shape, dtype as SafetensorsDtype, fail);
  if (end - begin !== bytes) {
    const needs = `[${shape.join(', ')}] of ${dtype} needs ${bytes} bytes`;
    throw fail(`has ${end - begin} bytes of data; ${needs}`);
  }
  const offsetBytes = dataStart + begin;
  return { name, dtype: dtype as SafetensorsDtype, shape, offsetBytes, bytes };
}

/**
 * Data must start at the data section's start, leave no hole, share no byte, and end with the file.
 */
function checkCoverage(
  tensors: readonly TensorHeader[],
  dataStart: number,
  fileBytes: number,
  file: string,
): void {
  let expected = dataStart;
  for (const tensor of tensors) {
    if (tensor.offsetBytes !== expected) {
      const what = tensor.offsetBytes < expected ? 'overlaps the one before it' : 'follows a hole';
      throw new ModelError('malformed', `${file}: tensor ${show(tensor.name)} ${what}`);
    }
    expected += tensor.bytes;
  }
  if (expected > fileBytes) {
    const needs = `its header describes ${expected} bytes, the file has ${fileBytes}`;
    throw new ModelError('wrong-size', `${file} is truncated: ${needs}`);
  }
  if (expected < fileBytes) {
    const extra = `${fileBytes - expected} bytes after the last tensor`;
    throw new ModelError('wrong-size', `${file} has ${extra}`);
  }
}

/**
 * Checks a header's JSON text against the file it heads. `dataStart` is where tensor data begins.
 */
function parseHeader(
  text: string,
  dataStart: number,
  fileBytes: number,
  file: string,
): SafetensorsHeader {
  const { __metadata__: metadata, ...described } = headerObject(text, file);
  const tensors = Object.entries(described)
    .map(([name, value]) => tensorOf(name, value, dataStart, file))
    .sort((a, b) => a.offsetBytes - b.offsetBytes || a.bytes - b.bytes);
  checkCoverage(tensors, dataStart, fileBytes, file);
  return { tensors, metadata: metadataOf(metadata, file) };
}

/**
 * Reads and checks the header of an open safetensors file of `fileBytes` bytes; `file` names it in
 * messages. The rules are those of the reference implementation and of the format's README, plus:
 * no key twice, no number that a double cannot hold. Throws ModelError.
 */
export async function readSafetensorsHeader(
  source: RangeSource,
  fileBytes: number,
  file: string,
): Promise<SafetensorsHeader> {
  if (fileBytes < LENGTH_BYTES) {
    throw new ModelError('wrong-size', `${file} has ${fileBytes} bytes: no safetensors file`);
  }
  const prefix = await readExactly(source, 0, LENGTH_BYTES);
  const length = headerLength(prefix, fileBytes, file);
  const text = headerText(await readExactly(source, LENGTH_BYTES, length), file);
  return parseHeader(text, LENGTH_BYTES + length, fileBytes, file);
}

async function readExactly(source: RangeSource, position: number, length: number) {
  const bytes = new Uint8Array(length);
  await source.read(position, bytes);
  return bytes;
}
