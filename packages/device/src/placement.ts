import { DeviceError } from './errors.ts';
import type { OpArgs, StoredElement } from './ops.ts';

const STORED_BYTES: Readonly<Record<StoredElement, number>> = { bytes: 1, bf16: 2, f16: 2, f32: 4 };

/** Bytes of one element as a checkpoint stores it. */
export function storedElementBytes(type: StoredElement): number {
  return STORED_BYTES[type];
}

/** Which elements go where: a `place` without its memory. */
export type PlaceShape = Omit<OpArgs['place'], 'input' | 'out'>;

/**
 * The rows that a piece touches, as lines. In elements of the piece, column 0 of line n is at
 * n * columns - firstColumn. A shape that keeps all elements in their order is one line, however
 * many rows it has.
 */
export interface Lines {
  readonly lines: number;
  /** The stored row of line 0, and where in it the piece starts. */
  readonly firstRow: number;
  readonly firstColumn: number;
  readonly rows: number;
  readonly columns: number;
  readonly columnsFrom: number;
  readonly columnsTo: number;
}

export function linesOf(shape: PlaceShape): Lines {
  const { first, count, columnsFrom, columnsTo, rowGroups } = shape;
  const isWhole = columnsFrom === 0 && columnsTo === shape.columns;
  const isOrdered = isWhole && rowGroups === 1 && !shape.isTransposed;
  const rows = isOrdered ? 1 : shape.rows;
  const columns = isOrdered ? shape.rows * shape.columns : shape.columns;
  const part = { rows, columns, columnsFrom, columnsTo: isOrdered ? columns : columnsTo };
  if (count === 0) return { lines: 0, firstRow: 0, firstColumn: 0, ...part };
  const firstRow = Math.floor(first / columns);
  const lines = Math.floor((first + count - 1) / columns) + 1 - firstRow;
  return { lines, firstRow, firstColumn: first % columns, ...part };
}

/** Throws DeviceError `bad-argument` for a `place` that does not fit its memory or itself. */
export function checkPlace(args: OpArgs['place']): void {
  const fault = countFault(args) ?? fitFault(args);
  if (fault !== null) throw new DeviceError('bad-argument', `place: ${fault}`);
}

function countFault(args: OpArgs['place']): string | null {
  const { inputOffsetBytes, first, count, rows, columns, columnsFrom, columnsTo, rowGroups } = args;
  const counts = { inputOffsetBytes, first, count, rows, columns, columnsFrom, columnsTo };
  for (const [name, value] of Object.entries({ ...counts, rowGroups })) {
    if (!Number.isSafeInteger(value) || value < 0) return `${name} is ${value}`;
  }
  if (first + count > rows * columns) {
    return `elements [${first}, +${count}) lie outside a tensor of [${rows}, ${columns}]`;
  }
  if (columnsFrom > columnsTo || columnsTo > columns) {
    return `columns [${columnsFrom}, ${columnsTo}) lie outside a tensor of [${rows}, ${columns}]`;
  }
  if (rowGroups === 0 || rows % rowGroups !== 0) {
    return `${rows} rows do not come apart in ${rowGroups} groups`;
  }
  return null;
}

function fitFault({ input, inputOffsetBytes, from, to, out, ...shape }: OpArgs['place']) {
  if ((from === 'bytes') !== (to === 'bytes')) return `${from} cannot become ${to}`;
  const fromBytes = STORED_BYTES[from];
  const inputEnd = inputOffsetBytes + shape.count * fromBytes;
  const outBytes = shape.rows * (shape.columnsTo - shape.columnsFrom) * STORED_BYTES[to];
  if (inputOffsetBytes % fromBytes !== 0) {
    return `the piece starts at byte ${inputOffsetBytes}, inside an element of ${from}`;
  }
  if (inputEnd > input.bytes) return `the piece ends at byte ${inputEnd} of ${input.bytes}`;
  if (outBytes > out.bytes) return `the tensor takes ${outBytes} bytes of ${out.bytes}`;
  return null;
}
