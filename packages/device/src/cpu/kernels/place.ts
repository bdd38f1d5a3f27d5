import { bf16FromF32, f32FromBf16 } from '../../bf16.ts';
import { f32FromF16 } from '../../f16.ts';
import type { StoredElement } from '../../ops.ts';
import { linesOf, type PlaceShape, storedElementBytes } from '../../placement.ts';
import { rangeOf, type Share } from './share.ts';

type Bits = Uint8Array | Uint16Array | Uint32Array;

/** Places a share of the piece, which is a piece itself. Its bytes start `piece`. */
export function place(piece: Uint8Array, out: Uint8Array, shape: PlaceShape, share: Share): void {
  const { from, to, first, rowGroups, isTransposed } = shape;
  const [skipped, end] = rangeOf(share, shape.count);
  const count = end - skipped;
  const lines = linesOf({ ...shape, first: first + skipped, count });
  const { rows, columns, columnsFrom, columnsTo } = lines;
  const source = bitsOf(piece, from);
  const target = bitsOf(out, to);
  for (let line = 0; line < lines.lines; line++) {
    const start = line * columns - lines.firstColumn;
    const low = Math.max(columnsFrom, -start);
    const high = Math.min(columnsTo, count - start);
    if (low >= high) continue;
    const run = source.subarray(skipped + start + low, skipped + start + high);
    const stored = lines.firstRow + line;
    const row = (stored % rowGroups) * (rows / rowGroups) + Math.floor(stored / rowGroups);
    if (isTransposed) {
      const cast = bitsOf(new Uint8Array(run.length * target.BYTES_PER_ELEMENT), to);
      castRun(run, from, cast, to);
      const at = (low - columnsFrom) * rows + row;
      for (let i = 0; i < cast.length; i++) target[at + i * rows] = cast[i]!;
    } else {
      const at = row * (columnsTo - columnsFrom) + low - columnsFrom;
      castRun(run, from, target.subarray(at, at + run.length), to);
    }
  }
}

function bitsOf(bytes: Uint8Array, type: StoredElement): Bits {
  const { buffer, byteOffset } = bytes;
  const size = storedElementBytes(type);
  const length = Math.floor(bytes.length / size);
  if (size === 1) return bytes;
  if (size === 2) return new Uint16Array(buffer, byteOffset, length);
  return new Uint32Array(buffer, byteOffset, length);
}

function castRun(source: Bits, from: StoredElement, target: Bits, to: StoredElement): void {
  if (from === to) {
    target.set(source);
    return;
  }
  const narrow = source as Uint16Array;
  if (to === 'bf16') {
    const values = from === 'f16' ? f32FromF16(narrow) : floats(source);
    bf16FromF32(values, target as Uint16Array);
  } else if (from === 'f16') {
    f32FromF16(narrow, floats(target));
  } else {
    f32FromBf16(narrow, floats(target));
  }
}

function floats(bits: Bits): Float32Array {
  return new Float32Array(bits.buffer, bits.byteOffset, bits.length);
}
