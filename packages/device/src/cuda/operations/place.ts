import type { OpArgs } from '../../ops.ts';
import { checkPlace, type Lines, linesOf, storedElementBytes } from '../../placement.ts';
import type { Launcher } from '../launch/launcher.ts';

/** PLACE_THREADS and VECTOR_BYTES of place.cu. */
const THREADS = 256;
const VECTOR_BYTES = 16;
/** So many blocks for each multiprocessor keep memory busy. */
const BLOCKS = 16;

type Place = OpArgs['place'];

/** enum CastKind of place.cu, by what elements are and become. */
const CASTS: Readonly<Record<string, number>> = {
  'bytes to bytes': 0,
  'bf16 to bf16': 1,
  'f32 to f32': 2,
  'f16 to bf16': 3,
  'f32 to bf16': 4,
  'bf16 to f32': 5,
  'f16 to f32': 6,
};

export function launchPlace(launcher: Launcher, args: Place): void {
  checkPlace(args);
  if (args.isTransposed) launchTransposed(launcher, args);
  else launchLines(launcher, args.from === args.to ? asBytes(args) : args);
}

/** The same for elements that are only moved, counted in bytes. */
function asBytes(args: Place): Place {
  const size = storedElementBytes(args.from);
  return {
    ...args,
    from: 'bytes',
    to: 'bytes',
    first: args.first * size,
    count: args.count * size,
    columns: args.columns * size,
    columnsFrom: args.columnsFrom * size,
    columnsTo: args.columnsTo * size,
  };
}

function launchLines(launcher: Launcher, args: Place): void {
  const lines = linesOf(args);
  const elements = Math.min(lines.columnsTo - lines.columnsFrom, args.count);
  // A line that starts inside a vector touches one more.
  const vectors = Math.ceil((elements * storedElementBytes(args.to)) / VECTOR_BYTES) + 1;
  const lanes = Math.min(2 ** Math.ceil(Math.log2(vectors)), THREADS);
  const grid = gridOf(launcher, Math.ceil((lines.lines * lanes) / THREADS), vectors / lanes);
  const block = blockOf(launcher, args, lines).ints(lanes, CASTS[`${args.from} to ${args.to}`]!);
  launcher.launch('place_lines', { grid, threads: THREADS }, block);
}

function launchTransposed(launcher: Launcher, args: Place): void {
  const lines = linesOf(args);
  const elements = Math.min(lines.columnsTo - lines.columnsFrom, args.count);
  const grid = gridOf(launcher, lines.lines, elements / THREADS);
  const block = blockOf(launcher, args, lines).ints(CASTS[`${args.from} to ${args.to}`]!);
  launcher.launch('place_transposed', { grid, threads: THREADS }, block);
}

/** Blocks over lines, and beside them along lines, that keep the GPU busy and find work. */
function gridOf({ core }: Launcher, lines: number, along: number): [number, number] {
  const most = core.gpu.multiprocessors * BLOCKS;
  const x = Math.min(lines, most);
  return [x, Math.min(Math.ceil(along), Math.max(Math.floor(most / Math.max(x, 1)), 1))];
}

function blockOf(launcher: Launcher, args: Place, lines: Lines) {
  const { input, inputOffsetBytes, out, count } = args;
  const { rows, columns, columnsFrom, columnsTo } = lines;
  return launcher.parameters
    .pointers(
      launcher.address('input of place', input, 0) + BigInt(inputOffsetBytes),
      launcher.address('out of place', out, 0),
    )
    .longs(count, lines.lines, lines.firstRow, lines.firstColumn)
    .longs(rows, columns, columnsFrom, columnsTo, args.rowGroups);
}
