import { invariant } from '@bridgekeeper/bridge';
import { elementBytesOf, type StoredPart } from './parts.ts';

/** What of a part lies in a chunk. */
export interface Piece {
  readonly part: StoredPart;
  readonly chunkOffsetBytes: number;
  /** In stored elements of the part. */
  readonly first: number;
  readonly count: number;
}

/** A range of a file that is read and crosses as one. */
export interface Chunk {
  readonly file: number;
  readonly filePosition: number;
  readonly bytes: number;
  readonly pieces: readonly Piece[];
}

/** Consecutive chunks of a file, without a break worth skipping. */
interface Run {
  readonly file: number;
  readonly from: number;
  readonly to: number;
  readonly parts: readonly StoredPart[];
}

export interface ChunkRules {
  readonly fileBytes: readonly number[];
  /** Chunks begin at multiples of this: what direct reading or a seal asks for. */
  readonly gridBytes: number;
}

/** Reading over a gap of this size costs less than another read. */
const GAP_BYTES = 1024 * 1024;

/** Deals out the ranges of files that hold `parts`, in file order, in chunks of any size. */
export class ChunkCursor {
  readonly #runs: readonly Run[];
  readonly #gridBytes: number;
  #run = 0;
  #position: number;
  /** The first part of the run that may reach into the next chunk, or begin in it. */
  #part = 0;

  constructor(parts: readonly StoredPart[], rules: ChunkRules) {
    this.#runs = runsOf(parts, rules);
    this.#gridBytes = rules.gridBytes;
    this.#position = this.#runs[0]?.from ?? 0;
  }

  /** What will be read in all, gaps included. */
  get totalBytes(): number {
    return this.#runs.reduce((total, { from, to }) => total + to - from, 0);
  }

  /** Nothing more is dealt out. */
  end(): void {
    this.#run = this.#runs.length;
  }

  /** The next chunk, of at most `chunkBytes` (a multiple of the grid); null at the end. */
  next(chunkBytes: number): Chunk | null {
    invariant(chunkBytes >= this.#gridBytes, 'a chunk is no smaller than the grid');
    invariant(chunkBytes % this.#gridBytes === 0, 'chunks are multiples of the grid');
    const run = this.#runs[this.#run];
    if (run === undefined) return null;
    const start = this.#position;
    const end = Math.min(start + chunkBytes, run.to);
    const pieces: Piece[] = [];
    for (let at = this.#part; at < run.parts.length; at++) {
      const part = run.parts[at]!;
      if (part.filePosition >= end) break;
      // What several ranks hold is a part of each, and they need not end alike.
      if (endOf(part) > start) pieces.push(pieceOf(part, start, end));
    }
    const { parts } = run;
    while (this.#part < parts.length && endOf(parts[this.#part]!) <= end) this.#part += 1;
    this.#position = end;
    if (end === run.to) {
      this.#run += 1;
      this.#part = 0;
      this.#position = this.#runs[this.#run]?.from ?? 0;
    }
    return { file: run.file, filePosition: start, bytes: end - start, pieces };
  }
}

const endOf = ({ filePosition, bytes }: StoredPart) => filePosition + bytes;

function runsOf(parts: readonly StoredPart[], { fileBytes, gridBytes }: ChunkRules): Run[] {
  const sorted = parts
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => a.file - b.file || a.filePosition - b.filePosition);
  const runs: { file: number; from: number; to: number; parts: StoredPart[] }[] = [];
  for (const part of sorted) {
    const from = Math.floor(part.filePosition / gridBytes) * gridBytes;
    const end = Math.ceil((part.filePosition + part.bytes) / gridBytes) * gridBytes;
    const to = Math.min(end, fileBytes[part.file]!);
    const last = runs.at(-1);
    if (last?.file === part.file && from - last.to <= GAP_BYTES) {
      last.to = Math.max(last.to, to);
      last.parts.push(part);
    } else {
      runs.push({ file: part.file, from, to, parts: [part] });
    }
  }
  return runs;
}

function pieceOf(part: StoredPart, start: number, end: number): Piece {
  const width = elementBytesOf(part.shape);
  const from = Math.max(part.filePosition, start);
  const to = Math.min(part.filePosition + part.bytes, end);
  const skipped = from - part.filePosition;
  invariant(
    skipped % width === 0 && (to - from) % width === 0,
    `${part.name} is cut in an element`,
  );
  return {
    part,
    chunkOffsetBytes: from - start,
    first: skipped / width,
    count: (to - from) / width,
  };
}

/** Where a chunk comes from, for messages. */
export function originOf({ pieces }: Chunk): string {
  const first = pieces[0];
  return first === undefined ? '' : ` (tensor ${first.part.name})`;
}
