import type { Direction } from '@bridgekeeper/bridge';
import type { Slice } from '@bridgekeeper/device';
import type { KvPart, StoredPart } from '../kv/tiers/movement.ts';
import type { LanePrice } from './lane-budget.ts';

/** How large a part is, wherever it is. */
export interface PartSize {
  readonly part: KvPart;
  readonly bytes: number;
  /** It crosses, and is kept on disk, in pieces of so much; the last may be smaller. */
  readonly pieceBytes: number;
}

/** Where a part is on the device: places of its size, one behind the other. */
export interface PartPool extends PartSize {
  /** All places; a device that slept has others. */
  readonly pool: () => Slice;
}

/** Slots of a store, by part. */
export type SlotCounts = Readonly<Partial<Record<KvPart, number>>>;

/** What of a part crosses as one. */
export interface Piece {
  readonly index: number;
  /** From the beginning of the part. */
  readonly fromBytes: number;
  readonly bytes: number;
}

/** A piece of what a slot holds. */
export interface SlotPiece extends StoredPart {
  readonly piece: Piece;
}

/** The device copies vectors of so many bytes. */
const VECTOR_BYTES = 16;

/** Bytes of the fewest and most equal pieces that are no larger than so much. */
export function pieceBytesOf(bytes: number, mostBytes: number): number {
  const pieces = Math.ceil(bytes / Math.max(VECTOR_BYTES, mostBytes));
  return Math.ceil(bytes / pieces / VECTOR_BYTES) * VECTOR_BYTES;
}

export function pieceCount({ bytes, pieceBytes }: PartSize): number {
  return Math.ceil(bytes / pieceBytes);
}

export function piecesOf(size: PartSize): readonly Piece[] {
  return Array.from({ length: pieceCount(size) }, (_, index) => {
    const fromBytes = index * size.pieceBytes;
    return { index, fromBytes, bytes: Math.min(size.pieceBytes, size.bytes - fromBytes) };
  });
}

/** For how long a part keeps the lane: pieces cross alone, and what is whole shares a toll. */
export function partLaneNs(
  price: LanePrice,
  direction: Direction,
  size: PartSize,
  crossingBytes: number,
): number {
  const { bytes, pieceBytes } = size;
  const together = pieceCount(size) > 1 ? pieceBytes : Math.max(bytes, crossingBytes);
  return (price(direction, together) * bytes) / together;
}
