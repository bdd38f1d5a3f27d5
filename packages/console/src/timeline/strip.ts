import { type Band, bandOf, fillColumns, type Grid, type Look } from './columns.ts';
import type { Slice, Slices } from './slices.ts';

/** What a row of the timeline shows, and how. */
export interface StripRow {
  readonly slices: Slices;
  readonly bands: number;
  readonly band: (index: number) => number;
  readonly account: (index: number) => number;
  /** Slices of so many columns have words in them. */
  readonly wide: number;
}

interface Kept {
  readonly slices: Slices;
  readonly bands: readonly Band[];
  /** Slices that have room for words, in their order. */
  wides: Slice[];
  /** How many slices had come when it was filled. */
  seen: number;
}

/**
 * Rows of slices as columns of pixels. Of a view that follows what comes, only the columns that
 * came are made; the others are moved. What that makes is what making all of it would.
 */
export class Strip {
  #grid: Grid | null = null;
  #rows: Kept[] = [];

  /** Columns of each row's bands, and the slices in it that are wide. */
  get rows(): readonly Pick<Kept, 'bands' | 'wides'>[] {
    return this.#rows;
  }

  update(rows: readonly StripRow[], grid: Grid): void {
    const before = this.#grid;
    const shift = before === null ? 0 : grid.fromColumn - before.fromColumn;
    const isNear =
      before !== null &&
      before.usAColumn === grid.usAColumn &&
      before.count === grid.count &&
      shift >= 0 &&
      shift < grid.count;
    this.#grid = grid;
    this.#rows = rows.map((row, index) => {
      const kept = isNear ? this.#rows[index] : undefined;
      if (kept?.slices === row.slices && kept.bands.length === row.bands) {
        return moved(row, kept, grid, shift);
      }
      const bands = Array.from({ length: row.bands }, () => bandOf(grid.count));
      return filled(row, { slices: row.slices, bands, wides: [], seen: 0 }, grid, 0);
    });
  }
}

function moved(row: StripRow, kept: Kept, grid: Grid, shift: number): Kept {
  const { fromColumn, count, usAColumn } = grid;
  if (shift > 0) {
    for (const { accounts, strengths } of kept.bands) {
      accounts.copyWithin(0, shift);
      strengths.copyWithin(0, shift);
    }
  }
  // What came may have begun before what came earlier had ended.
  let first = count - shift;
  const { slices } = row;
  const news = Math.min(slices.length, slices.pushed - kept.seen);
  for (let index = slices.length - news; index < slices.length; index++) {
    first = Math.min(first, Math.floor(slices.startUs(index) / usAColumn) - fromColumn);
  }
  return filled(row, kept, grid, Math.max(0, first));
}

function filled(row: StripRow, kept: Kept, grid: Grid, first: number): Kept {
  const { fromColumn, count, usAColumn } = grid;
  const { slices } = row;
  kept.seen = slices.pushed;
  const fromUs = fromColumn * usAColumn;
  const firstUs = fromUs + first * usAColumn;
  kept.wides = kept.wides.filter(({ endUs }) => endUs > fromUs);
  if (first >= count) return kept;
  kept.wides = kept.wides.filter(({ endUs }) => endUs <= firstUs);
  const most = count / row.wide;
  const look: Look = {
    ...row,
    onWide: (index) => {
      if (kept.wides.length <= most) kept.wides.push(slices.at(index));
    },
  };
  fillColumns(kept.bands, slices, grid, first, look);
  return kept;
}
