import type { Slice } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import { pushedBytesMax } from '../../law/links.ts';
import type { CollectiveName, OpArgs } from '../../ops.ts';
import type { LaunchShape } from '../launch/launch-configuration.ts';
import type { Launcher } from '../launch/launcher.ts';

const E = 2;
const WORD = 4;
/** Constants of collective.cu, as `pushedBytesMax` is. */
const MAX_RANKS = 8;
const MEETING_BLOCKS = 64;
const ENTRY_BYTES = 16;
/** sizeof(Mailbox) where there are so many ranks. */
export const mailboxBytes = (ranks: number): number =>
  MEETING_BLOCKS * MAX_RANKS * WORD +
  2 * MEETING_BLOCKS * WORD +
  2 * ranks * (pushedBytesMax(ranks) / 8) * ENTRY_BYTES;

const THREADS = 512;
/** Always the same: blocks count the pushes. */
const PUSH_SHAPE = { grid: [MEETING_BLOCKS], threads: 512 } as const;
/** Elements of a vector and of an entry, words of a vector. */
const VECTOR = 8;
const ENTRY = 4;
const VECTOR_BYTES = VECTOR * E;
const WORDS = 4;
/** From so many on everything from everyone takes longer than a part from everyone, twice. */
const SCATTER_RANKS = 4;
const LOCAL = { RANKS: MAX_RANKS } as const;

/** Where a collective's ranks are, as one of them sees it. */
export interface RankPlace {
  readonly rank: number;
  /** Of each rank. */
  readonly mailboxes: readonly bigint[];
  /** Where a slice of a rank's memory is. Throws DeviceError `bad-argument`. */
  readonly address: (rank: number, what: string, slice: Slice, bytes: number) => bigint;
}

/** All inputs are in this device's memory. */
export function launchLocalReduce(launcher: Launcher, args: OpArgs['all-reduce']): void {
  const { inputs, count, width, lawNs = 0 } = args;
  checkCount('all-reduce', inputs);
  const elements = count * width;
  if (elements === 0) return;
  const parts = localParts(launcher, 'all-reduce', inputs, elements * E);
  const out = launcher.address('out of all-reduce', args.out, elements * E);
  const block = launcher.parameters
    .pointers(...parts, out)
    .longs(elements, lawNs)
    .ints(inputs.length, adds(args));
  launcher.launch('all_reduce_local', shapeFor(elements / VECTOR), block, LOCAL);
}

export function launchLocalGather(launcher: Launcher, args: OpArgs['all-gather']): void {
  const { inputs, count, width, lawNs = 0 } = args;
  checkCount('all-gather', inputs);
  const bytes = count * width * WORD;
  if (bytes === 0) return;
  const parts = localParts(launcher, 'all-gather', inputs, bytes);
  const out = launcher.address('out of all-gather', args.out, bytes * inputs.length);
  const block = launcher.parameters
    .pointers(...parts, out)
    .longs(lawNs)
    .ints(count, width, inputs.length);
  launcher.launch('all_gather_local', shapeFor(width / WORDS), block, LOCAL);
}

/** What a rank does of a collective of several GPUs; `all` are the arguments of each. */
export function launchCollective<Name extends CollectiveName>(
  launcher: Launcher,
  name: Name,
  all: readonly OpArgs[Name][],
  place: RankPlace,
): void {
  const { inputs } = all[place.rank]!;
  if (inputs.length !== all.length) {
    const message = `${name} of ${inputs.length} inputs on ${all.length} ranks: one of each`;
    throw new DeviceError('bad-argument', message);
  }
  if (name === 'all-reduce') launchReduce(launcher, all as readonly OpArgs['all-reduce'][], place);
  else launchGather(launcher, all as readonly OpArgs['all-gather'][], place);
}

/** Copies `bytes` to this GPU from another of so many, whose memory `from` is an address of. */
export function launchPeerCopy(
  launcher: Launcher,
  from: bigint,
  out: bigint,
  bytes: number,
  ranks: number,
): void {
  if (bytes === 0) return;
  const block = launcher.parameters.pointers(from, out).longs(bytes);
  launcher.launch('copy_from_peer', shapeFor(bytes / VECTOR_BYTES), block, { RANKS: ranks });
}

function launchReduce(
  launcher: Launcher,
  all: readonly OpArgs['all-reduce'][],
  { rank, mailboxes, address }: RankPlace,
): void {
  const own = all[rank]!;
  const { inputs, count, width, lawNs = 0 } = own;
  const elements = count * width;
  if (elements === 0) return;
  const bytes = elements * E;
  const ranks = all.length;
  const inputAt = (from: number) => address(from, 'input of all-reduce', inputs[from]!, bytes);
  const outAt = (of: number) => address(of, 'out of all-reduce', all[of]!.out, bytes);
  const boxes = padded(mailboxes);
  const defines = { RANKS: ranks };
  if (bytes <= pushedBytesMax(ranks) && elements % ENTRY === 0) {
    const block = launcher.parameters
      .pointers(inputAt(rank), ...boxes, outAt(rank))
      .longs(elements, lawNs)
      .ints(rank, adds(own));
    launcher.launch('all_reduce_push', PUSH_SHAPE, block, defines);
    return;
  }
  const everyone = [...all.keys()];
  const parts = padded(everyone.map(inputAt));
  if (ranks < SCATTER_RANKS || elements % VECTOR !== 0) {
    const block = launcher.parameters
      .pointers(...parts, ...boxes, outAt(rank))
      .longs(elements, lawNs)
      .ints(rank, adds(own));
    launcher.launch('all_reduce_pull', shapeFor(elements / VECTOR), block, defines);
    return;
  }
  const block = launcher.parameters
    .pointers(...parts, ...padded(everyone.map(outAt)), ...boxes)
    .longs(elements, lawNs)
    .ints(rank, adds(own));
  const shape = shapeFor(elements / VECTOR / ranks);
  launcher.launch('all_reduce_scatter', shape, block, defines);
}

function launchGather(
  launcher: Launcher,
  all: readonly OpArgs['all-gather'][],
  { rank, mailboxes, address }: RankPlace,
): void {
  const { inputs, out, count, width, lawNs = 0 } = all[rank]!;
  const bytes = count * width * WORD;
  if (bytes === 0) return;
  const parts = inputs.map((input, from) => address(from, 'input of all-gather', input, bytes));
  const target = launcher.address('out of all-gather', out, bytes * inputs.length);
  const block = launcher.parameters
    .pointers(...padded(parts), ...padded(mailboxes), target)
    .longs(lawNs)
    .ints(count, width, rank);
  launcher.launch('all_gather_pull', shapeFor(width / WORDS), block, { RANKS: all.length });
}

const adds = ({ epilogue }: OpArgs['all-reduce']) => (epilogue === 'add' ? 1 : 0);

/** A thread for each vector, in as many blocks as may meet. */
function shapeFor(vectors: number): LaunchShape {
  const blocks = Math.max(Math.ceil(vectors / THREADS), 1);
  return { grid: [Math.min(blocks, MEETING_BLOCKS)], threads: THREADS };
}

function checkCount(what: string, { length }: readonly Slice[]): void {
  if (length >= 1 && length <= MAX_RANKS) return;
  const message = `${what} of ${length} inputs: there may be 1 to ${MAX_RANKS}`;
  throw new DeviceError('bad-argument', message);
}

function localParts(launcher: Launcher, name: string, inputs: readonly Slice[], bytes: number) {
  return padded(inputs.map((input) => launcher.address(`input of ${name}`, input, bytes)));
}

function padded(addresses: readonly bigint[]): bigint[] {
  return [...addresses, ...Array<bigint>(MAX_RANKS - addresses.length).fill(0n)];
}
