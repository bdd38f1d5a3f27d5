import { createHash } from 'node:crypto';
import type { ElementType } from '../device.ts';
import type { StoredElement } from '../ops.ts';
import type { PlaceShape } from '../placement.ts';
import type { Numbers } from './reference.ts';

/** What the operations of loading mean, as plainly as can be. Elements are their bits. */

/** The bits of an element after a cast. */
function referenceCast(bits: number, from: StoredElement, to: 'bytes' | ElementType): number {
  if (from === to) return bits;
  if (from === 'bf16') return (bits << 16) >>> 0;
  const value = from === 'f16' ? valueOfHalf(bits) : wordAsFloat(bits);
  if (to === 'f32') return floatAsWord(value);
  if (!Number.isNaN(value)) return floatAsWord(roundToBf16(value)) >>> 16;
  // What is left of a NaN's payload stays, and it is quiet.
  return ((from === 'f16' ? 0x7fc00000 : bits) >>> 16) | 0x40;
}

const scratch = new DataView(new ArrayBuffer(4));

function wordAsFloat(word: number): number {
  scratch.setUint32(0, word);
  return scratch.getFloat32(0);
}

function floatAsWord(value: number): number {
  scratch.setFloat32(0, value);
  return Number.isNaN(value) ? 0x7fc00000 : scratch.getUint32(0);
}

function valueOfHalf(bits: number): number {
  const sign = bits >> 15 === 0 ? 1 : -1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign / 0 : Number.NaN;
  return (
    sign * (exponent === 0 ? fraction / 2 ** 24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
  );
}

/** The nearest value with 8 significant bits, ties to even; no exponent is below float32's. */
function roundToBf16(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  let exponent = Math.max(Math.floor(Math.log2(Math.abs(value))) - 1, -126);
  while (2 ** (exponent + 1) <= Math.abs(value)) exponent += 1;
  const unit = 2 ** (exponent - 7);
  const size = Math.abs(value) / unit;
  const below = Math.floor(size);
  const isUp = size - below > 0.5 || (size - below === 0.5 && below % 2 === 1);
  return Math.sign(value) * (isUp ? below + 1 : below) * unit;
}

/** Places a piece, one element after the other. */
export function referencePlace(piece: Numbers, shape: PlaceShape, out: { [i: number]: number }) {
  const { rows, columns, columnsFrom, columnsTo, rowGroups } = shape;
  const width = columnsTo - columnsFrom;
  for (let i = 0; i < shape.count; i++) {
    const stored = Math.floor((shape.first + i) / columns);
    const column = (shape.first + i) % columns;
    if (column < columnsFrom || column >= columnsTo) continue;
    const row = (stored % rowGroups) * (rows / rowGroups) + Math.floor(stored / rowGroups);
    const kept = column - columnsFrom;
    const at = shape.isTransposed ? kept * rows + row : row * width + kept;
    out[at] = referenceCast(piece[i]!, shape.from, shape.to);
  }
}

const MODULUS = 2n ** 32n;

/** Both sums of `checksum` in whole numbers. */
export function referenceChecksum(bytes: Uint8Array): number[] {
  const padded = Buffer.alloc(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  let low = 0n;
  let high = 0n;
  for (let i = 0n; i < padded.length / 4; i++) {
    const word = BigInt(padded.readUInt32LE(4 * Number(i)));
    low += word * (2n * i + 1n);
    let x = word ^ ((i * 0x9e3779b9n) % MODULUS);
    x = ((x ^ (x >> 16n)) * 0x7feb352dn) % MODULUS;
    x = ((x ^ (x >> 15n)) * 0x846ca68bn) % MODULUS;
    high += x ^ (x >> 16n);
  }
  return [Number(low % MODULUS), Number(high % MODULUS)];
}

/** The root over leaves of `leafBytes`, by recursion over ever fewer digests. */
export function referenceHashTree(bytes: Uint8Array, leafBytes: number): Uint8Array {
  const digests: Buffer[] = [];
  for (let from = 0; from === 0 || from < bytes.length; from += leafBytes) {
    const leaf = bytes.subarray(from, from + leafBytes);
    digests.push(createHash('sha256').update(leaf).digest());
  }
  return digests.length === 1 ? digests[0]! : referenceHashTree(Buffer.concat(digests), 64 * 32);
}
