import { bytesPerElement, type ElementType } from '@bridgekeeper/device';
import type { StoredType } from '../models/spec.ts';
import { type Checkpoint, storedTypeOf } from './checkpoint.ts';
import { storedBytes } from './convert.ts';
import type { Layout } from './layout.ts';

/** Part of a checkpoint tensor and where in a window it goes. */
export interface Piece {
  readonly file: number;
  /** From the start of the file. */
  readonly filePosition: number;
  readonly storedType: StoredType;
  readonly windowOffsetBytes: number;
  readonly elements: number;
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
  readonly file: number;
  readonly filePosition: number;
  readonly storedType: StoredType;
}

function spansOf(layout: Layout, checkpoint: Checkpoint, elementBytes: number): Span[] {
  return layout.placements.flatMap(({ tensor, arena, offsetBytes }) =>
    tensor.sources.map((source) => {
      const stored = checkpoint.tensors.get(source.name)!;
      const storedType = storedTypeOf(stored);
      const startBytes = offsetBytes + source.elementOffset * elementBytes;
      const elements = stored.bytes / storedBytes(storedType);
      const endBytes = startBytes + elements * elementBytes;
      const { file, offsetBytes: filePosition } = stored;
      return { arena, startBytes, endBytes, file, filePosition, storedType };
    }),
  );
}

/** The part of `span` that lies in the window from `start` to `end` of its arena. */
function pieceOf(span: Span, start: number, end: number, elementBytes: number): Piece {
  const from = Math.max(span.startBytes, start);
  const to = Math.min(span.endBytes, end);
  const skipped = (from - span.startBytes) / elementBytes;
  return {
    file: span.file,
    filePosition: span.filePosition + skipped * storedBytes(span.storedType),
    storedType: span.storedType,
    windowOffsetBytes: from - start,
    elements: (to - from) / elementBytes,
  };
}

/**
 * Cuts the arenas of `layout` into windows of at most `windowBytes` (a multiple of 256), and says
 * for each what to read into it.
 */
export function* windowsOf(
  layout: Layout,
  checkpoint: Checkpoint,
  element: ElementType,
  windowBytes: number,
): Generator<Window> {
  const elementBytes = bytesPerElement(element);
  const spans = spansOf(layout, checkpoint, elementBytes);
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
      pieces.sort((a, b) => a.file - b.file || a.filePosition - b.filePosition);
      yield { arena, offsetBytes: start, bytes: end - start, pieces };
    }
  }
}
