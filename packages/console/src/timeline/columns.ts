import type { Slices } from './slices.ts';

/** Which stretch of time each column of pixels is: column 0 begins at `fromColumn * usAColumn`. */
export interface Grid {
  readonly fromColumn: number;
  readonly count: number;
  readonly usAColumn: number;
}

/** One band of a row: what each column of it shows. */
export interface Band {
  /** The account that took most of the column; -1: none. */
  readonly accounts: Int16Array;
  /** How much of the colour is seen, from 0 to 1. */
  readonly strengths: Float32Array;
}

export function bandOf(count: number): Band {
  return { accounts: new Int16Array(count).fill(-1), strengths: new Float32Array(count) };
}

/** Of a slice's colour, what its toll shows: the bytes have all of it. */
const TOLL_STRENGTH = 0.45;
/** Accounts that a band tells apart; there are two for each purpose at most. */
export const ACCOUNTS_MAX = 64;

/** What is narrower is none: it comes from rounding. */
const WIDTH_MIN = 1e-9;

/** What the column that is being filled comes to so far. Columns are counted from time 0 on. */
class Column {
  readonly #band: Band;
  readonly #from: number;
  readonly #first: number;
  readonly #end: number;
  readonly #busy = new Float64Array(ACCOUNTS_MAX);
  #at = -1;
  #ink = 0;
  #tolls = 0;

  constructor(band: Band, { fromColumn, count }: Grid, first: number) {
    this.#band = band;
    this.#from = fromColumn;
    this.#first = fromColumn + first;
    this.#end = fromColumn + count;
  }

  /** `width` of a column is an account’s, `toll` of it the toll’s; `ink` is what is seen. */
  add(column: number, account: number, width: number, toll: number, ink: number): void {
    if (column < this.#first || column >= this.#end) return;
    if (column !== this.#at) this.flush();
    this.#at = column;
    this.#busy[account]! += Math.max(WIDTH_MIN, width);
    this.#ink += ink;
    this.#tolls += ink * (toll / Math.max(WIDTH_MIN, width));
  }

  /** Columns that one slice has for itself, and of which all is toll, or nothing. */
  fill(from: number, to: number, account: number, strength: number): void {
    const start = Math.max(this.#first, from) - this.#from;
    const end = Math.min(this.#end, to) - this.#from;
    if (start >= end) return;
    this.#band.accounts.fill(account, start, end);
    this.#band.strengths.fill(strength, start, end);
  }

  flush(): void {
    if (this.#at < 0) return;
    let most = 0;
    for (let account = 1; account < ACCOUNTS_MAX; account++) {
      if (this.#busy[account]! > this.#busy[most]!) most = account;
    }
    const paleness = this.#ink > 0 ? Math.min(1, this.#tolls / this.#ink) : 0;
    const at = this.#at - this.#from;
    this.#band.accounts[at] = most;
    this.#band.strengths[at] = Math.min(1, this.#ink) * (1 - (1 - TOLL_STRENGTH) * paleness);
    this.#busy.fill(0);
    this.#ink = 0;
    this.#tolls = 0;
    this.#at = -1;
  }
}

/** How slices of a row are drawn, each by its index. */
export interface Look {
  /** In which band; what has none is not drawn. */
  readonly band: (index: number) => number;
  /** By which account it is coloured; -1: it is not drawn. */
  readonly account: (index: number) => number;
  /** Is told of each slice that has as many columns, and ends in those that are filled. */
  readonly wide: number;
  readonly onWide: (index: number) => void;
}

/**
 * Fills the columns of a grid from `first` on with what a row's slices look like in them; those
 * before it stay. What is narrower than a column has all of the one that it begins in, so that
 * nothing is too short to be seen; several in one are seen as the account that took most of it, as
 * pale as their tolls are large.
 */
export function fillColumns(
  bands: readonly Band[],
  slices: Slices,
  grid: Grid,
  first: number,
  { band, account: accountOf, wide, onWide }: Look,
): void {
  for (const { accounts, strengths } of bands) {
    accounts.fill(-1, first);
    strengths.fill(0, first);
  }
  const { fromColumn, count, usAColumn } = grid;
  const columns = bands.map((each) => new Column(each, grid, first));
  const untilUs = (fromColumn + count) * usAColumn;
  const firstUs = (fromColumn + first) * usAColumn;
  // What has no length may end where the first column begins.
  let index = slices.firstEndingAfter(firstUs - usAColumn);
  for (; index < slices.length; index++) {
    const startUs = slices.startUs(index);
    if (startUs >= untilUs) break;
    const column = columns[band(index)];
    const account = accountOf(index);
    if (column === undefined || account < 0 || account >= ACCOUNTS_MAX) continue;
    const left = startUs / usAColumn;
    const endUs = slices.endUs(index);
    const right = endUs / usAColumn;
    const width = right - left;
    const toll = Math.min(width, slices.tollUs(index) / usAColumn);
    if (width < 1) {
      column.add(Math.floor(left), account, width, toll, 1);
      continue;
    }
    spread(column, account, left, right, left + toll);
    if (width >= wide && endUs > firstUs) onWide(index);
  }
  for (const column of columns) column.flush();
}

/** A slice over several columns: the first, the last, and where its toll ends, are parts. */
function spread(
  column: Column,
  account: number,
  left: number,
  right: number,
  tollEnd: number,
): void {
  const part = (at: number) => {
    const from = Math.max(left, at);
    const width = Math.min(right, at + 1) - from;
    if (width <= WIDTH_MIN) return;
    const toll = Math.min(width, Math.max(0, tollEnd - from));
    column.add(at, account, width, toll, width);
  };
  const leftAt = Math.floor(left);
  const tollAt = Math.floor(tollEnd);
  const rightAt = Math.floor(right);
  part(leftAt);
  column.flush();
  column.fill(leftAt + 1, tollAt, account, TOLL_STRENGTH);
  if (tollAt > leftAt && tollAt < rightAt) {
    part(tollAt);
    column.flush();
  }
  column.fill(Math.max(leftAt, tollAt) + 1, rightAt, account, 1);
  if (rightAt > leftAt) part(rightAt);
}
