import { invariant } from '@bridgekeeper/bridge';
import { bytesPerElement, type ElementType, type OpArgs } from '@bridgekeeper/device';
import {
  type Checkpoint,
  type CheckpointTensor,
  storedTypeOf,
} from '../../checkpoint/checkpoint.ts';
import type { WeightSource } from '../../models/weights.ts';
import { storedBytes } from './convert.ts';
import { int4Regions } from './int4.ts';
import { type Layout, type Placement, valueBytes } from './layout.ts';

/** What of a stored tensor is placed, and how: all of `place` but where and which piece. */
export type PlaceShape = Omit<
  OpArgs['place'],
  'input' | 'inputOffsetBytes' | 'out' | 'first' | 'count'
>;

/** A range of a file that holds whole rows of a stored tensor, and where they go on the device. */
export interface StoredPart {
  /** The tensor, for messages. */
  readonly name: string;
  readonly file: number;
  /** From the start of the file. */
  readonly filePosition: number;
  readonly bytes: number;
  readonly arena: number;
  readonly offsetBytes: number;
  readonly outBytes: number;
  /** Its rows and columns are those of the range, not of the whole tensor. */
  readonly shape: PlaceShape;
}

const WHOLE = { rowGroups: 1, isTransposed: false } as const;

/** Of one element as the file has it. */
export function elementBytesOf({ from }: PlaceShape): number {
  return from === 'bytes' ? 1 : storedBytes(from);
}

/** Every range of the checkpoint's files that `layout` wants, scales aside. */
export function partsOf(
  layout: Layout,
  checkpoint: Checkpoint,
  element: ElementType,
): StoredPart[] {
  return layout.placements.flatMap((placement) => {
    if (placement.tensor.int4 !== undefined) return int4Parts(placement, checkpoint);
    if (placement.part === 'scales') return [];
    return placement.tensor.sources.map((source) => {
      const stored = checkpoint.tensors.get(source.name)!;
      return partOf(placement, source, stored, element);
    });
  });
}

/** The words of an int4 matrix as they are stored: they are ordered where they end up. */
function int4Parts(placement: Placement, checkpoint: Checkpoint): StoredPart[] {
  return int4Regions(placement).flatMap(({ stored }) =>
    stored.map(({ name, offsetBytes }) => {
      const { file, offsetBytes: filePosition, bytes } = checkpoint.tensors.get(name)!;
      invariant(offsetBytes % 16 === 0, `${name} would lie between the device's boundaries`);
      return { name, file, filePosition, bytes, ...asBytes(placement.arena, offsetBytes, bytes) };
    }),
  );
}

/** Bytes that are moved as they are. */
function asBytes(arena: number, offsetBytes: number, bytes: number) {
  const sizes = { rows: 1, columns: bytes, columnsFrom: 0, columnsTo: bytes };
  const shape: PlaceShape = { ...WHOLE, ...sizes, from: 'bytes', to: 'bytes' };
  return { arena, offsetBytes, outBytes: bytes, shape };
}

function partOf(
  { tensor, arena, offsetBytes }: Placement,
  source: WeightSource,
  stored: CheckpointTensor,
  element: ElementType,
): StoredPart {
  const width = valueBytes(tensor, bytesPerElement(element));
  const wanted = tensor.format === 'f32' ? 'f32' : element;
  const hasNumbers = tensor.format === 'element' || tensor.format === 'f32';
  const storedType = hasNumbers ? storedTypeOf(stored) : wanted;
  const isSame = !hasNumbers || storedType === wanted;
  const fileWidth = hasNumbers ? storedBytes(storedType) : 1;
  const selection = source.selection ?? wholeOf(source.shape);
  const columns = source.shape.length === 1 ? 1 : source.shape.slice(1).reduce((a, b) => a * b, 1);
  const [rowFrom, rowTo] = selection.rows;
  const [columnFrom, columnTo] = selection.columns;
  const rows = rowTo - rowFrom;
  // Bytes are moved as bytes: no element of theirs can be cut in two.
  const unit = isSame ? fileWidth : 1;
  const sizes = { columns: columns * unit, columnsFrom: columnFrom * unit };
  const out = offsetBytes + source.elementOffset * width;
  invariant(out % 16 === 0, `${source.name} would lie at ${out}, between the device's boundaries`);
  return {
    name: source.name,
    file: stored.file,
    filePosition: stored.offsetBytes + rowFrom * columns * fileWidth,
    bytes: rows * columns * fileWidth,
    arena,
    offsetBytes: out,
    outBytes: rows * (columnTo - columnFrom) * width,
    shape: {
      ...WHOLE,
      ...sizes,
      columnsTo: columnTo * unit,
      rows,
      from: isSame ? 'bytes' : storedType,
      to: isSame ? 'bytes' : wanted,
    },
  };
}

function wholeOf(shape: readonly number[]) {
  const columns = shape.slice(1).reduce((total, size) => total * size, 1);
  return { rows: [0, shape[0]!], columns: [0, columns] } as const;
}

const ALIGNMENT_BYTES = 256;

/** Every tensor of a checkpoint as its files have it: what no architecture is known for. */
export function verbatim(
  checkpoint: Checkpoint,
  limitBytes: number,
): { readonly arenaBytes: readonly number[]; readonly parts: readonly StoredPart[] } {
  const arenaBytes: number[] = [];
  const tensors = [...checkpoint.tensors.values()].filter(({ bytes }) => bytes > 0);
  tensors.sort((a, b) => a.file - b.file || a.offsetBytes - b.offsetBytes);
  const parts = tensors.map(({ name, file, offsetBytes: filePosition, bytes }) => {
    const padded = Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    if (arenaBytes.length === 0 || arenaBytes.at(-1)! + padded > limitBytes) arenaBytes.push(0);
    const arena = arenaBytes.length - 1;
    const offsetBytes = arenaBytes[arena]!;
    arenaBytes[arena] = offsetBytes + padded;
    return { name, file, filePosition, bytes, ...asBytes(arena, offsetBytes, bytes) };
  });
  return { arenaBytes, parts };
}
