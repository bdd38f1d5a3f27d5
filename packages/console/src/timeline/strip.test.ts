import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bandOf, fillColumns } from './columns.ts';
import { type Slice, Slices } from './slices.ts';
import { Strip, type StripRow } from './strip.ts';

const TOLL_STRENGTH = 0.45;

const sliceOf = (startUs: number, us: number, account = 0, tollUs = 0): Slice => {
  const rest = { blockedUs: 0, bytes: 1, count: 1, rows: 0, promptTokens: 0 };
  return { startUs, endUs: startUs + us, account, tollUs, ...rest };
};

/** Slices of a lane: one after the other, some of them shorter than a column. */
const LANE = fc
  .array(
    fc.record({
      gap: fc.oneof(fc.constant(0), fc.nat(60)),
      us: fc.oneof(fc.nat(3), fc.nat(200)),
      account: fc.nat(3),
      tollPart: fc.constantFrom(0, 0.3, 1),
    }),
    { maxLength: 80 },
  )
  .map((parts) => {
    let atUs = 0;
    return parts.map(({ gap, us, account, tollPart }) => {
      const startUs = atUs + gap;
      atUs = startUs + us;
      return sliceOf(startUs, us, account, Math.round(us * tollPart));
    });
  });

function addTo(slices: Slices, slice: Slice): void {
  const { startUs, endUs, account, tollUs, blockedUs, bytes, count, rows, promptTokens } = slice;
  slices.add(startUs, endUs, account, tollUs, blockedUs, bytes, count, rows, promptTokens);
}

function laneOf(slices: readonly Slice[]): Slices {
  const all = new Slices();
  for (const slice of slices) addTo(all, slice);
  return all;
}

function rowOf(slices: Slices): StripRow {
  const account = (index: number) => slices.account(index);
  return { slices, bands: 2, band: (index) => account(index) % 2, account, wide: 5 };
}

const bandsOf = (strip: Strip) =>
  strip.rows[0]!.bands.map(({ accounts, strengths }) => `${accounts} ${strengths}`).join(' ');

/** The same columns by another way: each of them looks at each slice. */
function straight(slices: readonly Slice[], band: number, count: number, usAColumn: number) {
  return Array.from({ length: count }, (_, column) => {
    const busy = new Map<number, number>();
    let ink = 0;
    let tolls = 0;
    for (const { startUs, endUs, account, tollUs } of slices) {
      if (account % 2 !== band) continue;
      const width = (endUs - startUs) / usAColumn;
      const left = startUs / usAColumn - column;
      const overlap = (from: number, to: number) => Math.min(1, to) - Math.max(0, from);
      if (width < 1) {
        if (Math.floor(left) !== 0) continue;
        busy.set(account, (busy.get(account) ?? 0) + Math.max(1e-9, width));
        ink += 1;
        if (width > 0) tolls += tollUs / usAColumn / width;
        continue;
      }
      const part = overlap(left, left + width);
      if (part <= 1e-9) continue;
      busy.set(account, (busy.get(account) ?? 0) + part);
      ink += part;
      tolls += Math.max(0, overlap(left, left + tollUs / usAColumn));
    }
    if (ink === 0) return [-1, 0];
    const [account] = [...busy].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0]!;
    return [account, Math.min(1, ink) * (1 - (1 - TOLL_STRENGTH) * Math.min(1, tolls / ink))];
  });
}

describe('a row as columns', () => {
  it('shows in each column who took most of it, and how much of that was toll', () => {
    fc.assert(
      fc.property(LANE, fc.constantFrom(1, 4, 16, 64), (slices, usAColumn) => {
        const count = 64;
        const grid = { fromColumn: 0, count, usAColumn };
        const bands = [bandOf(count), bandOf(count)];
        const look = { ...rowOf(laneOf(slices)), onWide: () => undefined };
        fillColumns(bands, look.slices, grid, 0, look);
        for (const [index, band] of bands.entries()) {
          for (const [column, [account, strength]] of straight(
            slices,
            index,
            count,
            usAColumn,
          ).entries()) {
            expect(band.strengths[column]).toBeCloseTo(strength!, 5);
            if (strength! > 1e-6) expect(band.accounts[column]).toBe(account);
          }
        }
      }),
    );
  });

  it('is never too short to be seen', () => {
    const bands = [bandOf(10)];
    const slices = laneOf([sliceOf(350, 1), sliceOf(700, 0)]);
    const look = { band: () => 0, account: () => 0, wide: 9, onWide: () => undefined };
    fillColumns(bands, slices, { fromColumn: 0, count: 10, usAColumn: 100 }, 0, look);
    expect([...bands[0]!.strengths].map((value, at) => (value > 0 ? at : -1))).toEqual([
      -1, -1, -1, 3, -1, -1, -1, 7, -1, -1,
    ]);
  });
});

describe('a strip of rows', () => {
  it('is the same made bit by bit as made at once, also where a slice ends late', () => {
    const moves = fc.array(fc.record({ slices: fc.nat(9), columns: fc.nat(40) }), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(LANE, moves, fc.constantFrom(1, 4, 32), (all, steps, usAColumn) => {
        const slices = new Slices();
        const strip = new Strip();
        let came = 0;
        let fromColumn = 0;
        for (const step of steps) {
          for (const slice of all.slice(came, came + step.slices)) addTo(slices, slice);
          came += step.slices;
          fromColumn += step.columns;
          const grid = { fromColumn, count: 48, usAColumn };
          strip.update([rowOf(slices)], grid);
          const whole = new Strip();
          whole.update([rowOf(slices)], grid);
          expect(bandsOf(strip)).toBe(bandsOf(whole));
          expect(strip.rows[0]!.wides).toEqual(whole.rows[0]!.wides);
        }
      }),
    );
  });

  it('is made anew when it is zoomed, goes back, or shows something else', () => {
    const strip = new Strip();
    const first = laneOf([sliceOf(0, 40), sliceOf(60, 40, 1)]);
    const other = laneOf([sliceOf(10, 5, 2)]);
    const shown = [
      [first, 0, 4],
      [first, 0, 8],
      [first, 10, 8],
      [first, 5, 8],
      [other, 5, 8],
      [other, 0, 8],
    ] as const;
    for (const [slices, fromColumn, usAColumn] of shown) {
      const grid = { fromColumn, count: 20, usAColumn };
      strip.update([rowOf(slices)], grid);
      const whole = new Strip();
      whole.update([rowOf(slices)], grid);
      expect(bandsOf(strip)).toBe(bandsOf(whole));
    }
  });
});

describe('slices side by side', () => {
  it('are what was put in, less what was dropped, however many there are', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ more: fc.nat(90), drop: fc.nat(90) })), (steps) => {
        const slices = new Slices();
        let plainly: Slice[] = [];
        let pushed = 0;
        for (const { more, drop } of steps) {
          for (let count = 0; count < more; count++) {
            const slice = sliceOf(pushed * 10, 5, pushed % 3);
            addTo(slices, slice);
            plainly.push(slice);
            pushed += 1;
          }
          slices.drop(drop);
          plainly = plainly.slice(drop);
          expect(slices.length).toBe(plainly.length);
          expect(slices.pushed).toBe(pushed);
        }
        expect([...slices]).toEqual(plainly);
      }),
    );
  });
});
