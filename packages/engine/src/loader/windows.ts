import { invariant } from '@bridgekeeper/bridge';
import { bytesPerElement, type ElementType } from '@bridgekeeper/device';
import type { StoredType } from '../models/spec.ts';
import type { PlannedTensor } from '../models/weights.ts';
import { type Checkpoint, storedTypeOf } from './checkpoint.ts';
import { storedBytes } from './convert.ts';
import { type Layout, valueBytes } from './layout.ts';

/** Part of a checkpoint tensor. */
export interface FilePart {
  readonly file: number;
  /** From the start of the file. */
  readonly filePosition: number;
  /** What the elements are converted from; null: they are on the device as in the file. */
  readonly convertFrom: StoredType | null;
}

/** What goes into a part of a window: from a file, or made already. */
export interface Piece {
  readonly windowOffsetBytes: number;
  readonly bytes: number;
  readonly source: FilePart | Uint8Array;
}

/** A range of an arena that one crossing fills. */
export interface Window {
  readonly arena: number;
  readonly offsetBytes: number;
  readonly bytes: number;
  /** In file order, so that reading is sequential. */
  readonly pieces: readonly Piece[];
}

/** A whole source, in the coordinates of its arena and of its file. */
interface Span {
  readonly arena: number;
  readonly startBytes: number;
  readonly endBytes: number;
  readonly source: FilePart | Uint8Array;
}

/** What windows are made of, besides the layout. */
export interface WindowSources {
  readonly checkpoint: Checkpoint;
  /** Of FP8 matrices. */
  readonly scales: ReadonlyMap<PlannedTensor, Uint8Array>;
  readonly element: ElementType;
}

function spansOf(layout: Layout, { checkpoint, scales, element }: WindowSources): Span[] {
  const elementBytes = bytesPerElement(element);
  return layout.placements.flatMap(({ tensor, part, arena, offsetBytes, bytes }): Span[] => {
    if (part === 'scales') {
      const source = scales.get(tensor);
      invariant(source?.length === bytes, 'every FP8 matrix has its scales');
      return [{ arena, startBytes: offsetBytes, endBytes: offsetBytes + bytes, source }];
    }
    const width = valueBytes(tensor, elementBytes);
    return tensor.sources.map(({ name, elementOffset, shape }) => {
      const stored = checkpoint.tensors.get(name)!;
      const type = tensor.format === 'element' ? storedTypeOf(stored) : null;
      const convertFrom = type === element ? null : type;
      const source = { file: stored.file, filePosition: stored.offsetBytes, convertFrom };
      const startBytes = offsetBytes + elementOffset * width;
      const endBytes = startBytes + shape.reduce((total, size) => total * size, width);
      return { arena, startBytes, endBytes, source };
    });
  });
}

/** The part of `span` that lies in the window from `start` to `end` of its arena. */
function pieceOf(span: Span, start: number, end: number, elementBytes: number): Piece {
  const from = Math.max(span.startBytes, start);
  const skipped = from - span.startBytes;
  const bytes = Math.min(span.endBytes, end) - from;
  return {
    windowOffsetBytes: from - start,
    bytes,
    source: sourcePart(span.source, skipped, bytes, elementBytes),
  };
}

function sourcePart(
  source: FilePart | Uint8Array,
  skippedBytes: number,
  bytes: number,
  elementBytes: number,
): FilePart | Uint8Array {
  if (source instanceof Uint8Array) return source.subarray(skippedBytes, skippedBytes + bytes);
  const { convertFrom, filePosition } = source;
  const perByte = convertFrom === null ? 1 : storedBytes(convertFrom) / elementBytes;
  return { ...source, filePosition: filePosition + skippedBytes * perByte };
}

function inFileOrder({ source: a }: Piece, { source: b }: Piece): number {
  if (a instanceof Uint8Array || b instanceof Uint8Array) {
    return Number(a instanceof Uint8Array) - Number(b instanceof Uint8Array);
  }
  return a.file - b.file || a.filePosition - b.filePosition;
}

/**
 * Cuts the arenas of `layout` into windows of at most `windowBytes` (a multiple of 256), and says
 * for each what to put into it.
 */
export function* windowsOf(
  layout: Layout,
  sources: WindowSources,
  windowBytes: number,
): Generator<Window> {
  const elementBytes = bytesPerElement(sources.element);
  const spans = spansOf(layout, sources);
  let next = 0;
  for (const [arena, arenaBytes] of layout.arenaBytes.entries()) {
    for (let start = 0; start < arenaBytes; start += windowBytes) {
      const end = Math.min(start + windowBytes, arenaBytes);
      const pieces: Piece[] = [];
      // Spans are in arena order: those that end in this window are done, the last may reach into
      // the next.
      for (let at = next; at < spans.length; at++) {
        const span = spans[at]!;
        if (span.arena !== arena || span.startBytes >= end) break;
        pieces.push(pieceOf(span, start, end, elementBytes));
        if (span.endBytes <= end) next = at + 1;
      }
      pieces.sort(inFileOrder);
      yield { arena, offsetBytes: start, bytes: end - start, pieces };
    }
  }
}
