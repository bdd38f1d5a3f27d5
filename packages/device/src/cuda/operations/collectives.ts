import type { Slice } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import type { OpArgs } from '../../ops.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';
import type { Launcher } from '../launch/launcher.ts';

const E = 2;
const WORD = 4;
/** Constants of collective.cu. */
export const MAX_RANKS = 8;
const MEETING_BLOCKS = 128;
const PUSH_BYTES = 65_536;
const ENTRY_BYTES = 16;
/** sizeof(Mailbox) */
export const MAILBOX_BYTES =
  MEETING_BLOCKS * MAX_RANKS * WORD +
  2 * MEETING_BLOCKS * WORD +
  2 * MAX_RANKS * (PUSH_BYTES / 8) * ENTRY_BYTES;

const THREADS = 512;
/** An entry of 8 bytes for each thread at the most that is pushed. */
const PUSH_GRID = 16;
const PUSH_THREADS = 512;
/** Elements of a vector. */
const VECTOR = 8;
/** More than this from everyone takes longer than a part from everyone, twice. */
const SCATTER_RANKS = 4;
const SCATTER_BYTES = 262_144;

/** Where a collective's ranks are, as one of them sees it. */
export interface RankPlace {
  readonly rank: number;
  /** Of each rank. */
  readonly mailboxes: readonly bigint[];
  /** Where a slice of a rank's memory is. Throws DeviceError `bad-argument`. */
  address(rank: number, what: string, slice: Slice, bytes: number): bigint;
}

const noDefines = (ranks: number): KernelDefines => ({ RANKS: ranks });

/** `place` null: all inputs are in this device's memory. */
export function launchAllReduce(
  launcher: Launcher,
  args: OpArgs['all-reduce'],
  place: RankPlace | null = null,
): void {
  const { inputs, epilogue, count, width } = args;
  const elements = count * width;
  checkInputs('all-reduce', inputs, place);
  if (elements === 0) return;
  const bytes = elements * E;
  const out = launcher.address('out of all-reduce', args.out, bytes);
  const adds = epilogue === 'add' ? 1 : 0;
  const vectors = Math.ceil(elements / VECTOR);
  const shape = { grid: [blocksFor(vectors)], threads: THREADS } as const;
  const parts = partsOf(launcher, 'all-reduce', inputs, bytes, place);
  if (place === null) {
    const block = launcher.parameters.pointers(...parts, out).longs(elements);
    const defines = noDefines(MAX_RANKS);
    launcher.launch('all_reduce_local', shape, block.ints(inputs.length, adds), defines);
    return;
  }
  const { rank, mailboxes } = place;
  const ranks = inputs.length;
  const defines = noDefines(ranks);
  const boxes = padded(mailboxes);
  if (bytes <= PUSH_BYTES && elements % 4 === 0) {
    const block = launcher.parameters.pointers(parts[rank]!, ...boxes, out).longs(elements);
    const fixed = { grid: [PUSH_GRID], threads: PUSH_THREADS } as const;
    launcher.launch('all_reduce_push', fixed, block.ints(rank, adds), defines);
  } else if (ranks >= SCATTER_RANKS && bytes > SCATTER_BYTES && elements % VECTOR === 0) {
    throw new DeviceError('unsupported', 'more ranks than two');
  } else {
    const block = launcher.parameters.pointers(...parts, ...boxes, out).longs(elements);
    launcher.launch('all_reduce_pull', shape, block.ints(rank, adds), defines);
  }
}

export function launchAllGather(
  launcher: Launcher,
  args: OpArgs['all-gather'],
  place: RankPlace | null = null,
): void {
  const { inputs, count, width } = args;
  checkInputs('all-gather', inputs, place);
  if (count * width === 0) return;
  const bytes = count * width * WORD;
  const out = launcher.address('out of all-gather', args.out, bytes * inputs.length);
  const parts = partsOf(launcher, 'all-gather', inputs, bytes, place);
  const shape = { grid: [blocksFor(Math.ceil(width / 4))], threads: THREADS } as const;
  if (place === null) {
    const block = launcher.parameters.pointers(...parts, out).ints(count, width, inputs.length);
    launcher.launch('all_gather_local', shape, block, noDefines(MAX_RANKS));
    return;
  }
  const { rank, mailboxes } = place;
  const block = launcher.parameters
    .pointers(...parts, ...padded(mailboxes), out)
    .ints(count, width, rank);
  launcher.launch('all_gather_pull', shape, block, noDefines(inputs.length));
}

/** Blocks of as many threads as there are vectors, but no more than meet. */
function blocksFor(vectors: number): number {
  return Math.min(Math.max(Math.ceil(vectors / THREADS), 1), MEETING_BLOCKS);
}

function checkInputs(what: string, inputs: readonly Slice[], place: RankPlace | null): void {
  const { length } = inputs;
  const isRight = place === null ? length >= 1 && length <= MAX_RANKS : isOfAll(length, place);
  if (isRight) return;
  const message = `${what} of ${length} inputs: at most ${MAX_RANKS}, and one of each rank`;
  throw new DeviceError('bad-argument', message);
}

const isOfAll = (inputs: number, { mailboxes }: RankPlace) => inputs === mailboxes.length;

/** Room for all ranks that there may be. */
function partsOf(
  launcher: Launcher,
  name: string,
  inputs: readonly Slice[],
  bytes: number,
  place: RankPlace | null,
): bigint[] {
  const what = `input of ${name}`;
  const found = inputs.map((input, rank) =>
    place === null ? launcher.address(what, input, bytes) : place.address(rank, what, input, bytes),
  );
  return padded(found);
}

function padded(addresses: readonly bigint[]): bigint[] {
  return [...addresses, ...Array<bigint>(MAX_RANKS - addresses.length).fill(0n)];
}
