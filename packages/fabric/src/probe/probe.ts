import { FabricError } from '../errors.ts';
import type { LinkLaw } from './law.ts';
import { COPY_BYTES_MAX, type Move, nameOf, type PeerGpu, type PeerGpus } from './peers.ts';

const PROBE_SCHEMA = 'bridgekeeper.fabric-probe/1';

const SMALL_BYTES = 8;
/** From here on a copy is nearly all rate. */
const SIZES_BYTES = [4096, 65_536, 2 ** 20, 16 * 2 ** 20, COPY_BYTES_MAX];
const REPEATS = 5;
/** As much work as makes the host's clock and the end of waiting small beside it. */
const ENOUGH_NS = 3e6;
const ROUNDS_MAX = 512;
const LOADS = 20_000;
/** A pair at less than this part of the fastest one's rate has lost links. */
const EVEN_PART = 0.7;

/** One direction of a pair. Rates in bytes a second. */
export interface LinkFigures extends Move {
  readonly reaches: boolean;
  readonly arrives: boolean;
  /** The law's terms for this direction. */
  readonly awaitedTollNs: number;
  readonly queuedTollNs: number;
  readonly bytesPerSecond: number;
  /** Null: no kernel of one can reach the other. */
  readonly loadNs: number | null;
  readonly readBytesPerSecond: number | null;
  readonly writeBytesPerSecond: number | null;
  /** Times of one copy of each size, in a row of copies. */
  readonly copies: readonly { readonly bytes: number; readonly ns: number }[];
}

/** Both directions of a pair at once, together: by copies, and by kernels where they reach. */
export interface PairFigures {
  readonly gpus: readonly [number, number];
  readonly bothWaysBytesPerSecond: number;
  readonly bothWaysReadBytesPerSecond: number | null;
  readonly bothWaysWriteBytesPerSecond: number | null;
}

/** What `fabric probe` found. */
export interface FabricProbe {
  readonly schema: typeof PROBE_SCHEMA;
  readonly device: PeerGpus['kind'];
  readonly gpus: readonly PeerGpu[];
  readonly links: readonly LinkFigures[];
  readonly pairs: readonly PairFigures[];
  /** Each GPU to the next one, all at once: bytes a second of one of them. */
  readonly ringBytesPerSecond: number;
  /** Of the slowest link: what one may plan with. */
  readonly law: LinkLaw;
  /** What is wrong, in words; empty: the GPUs reach each other as they should. */
  readonly findings: readonly string[];
}

export interface FabricProbeOptions {
  /** Each link must reach this rate, by copies. Null: only be even among themselves. */
  readonly floorBytesPerSecond: number | null;
  /** What copies move at most, in bytes. */
  readonly copyBytesMax?: number;
  readonly onLink?: (name: string, index: number, total: number) => void;
}

/** Measures what moves between GPUs. Throws FabricError 'probe-failed'. */
export function probeFabric(
  peers: PeerGpus,
  { floorBytesPerSecond, copyBytesMax = COPY_BYTES_MAX, onLink }: FabricProbeOptions,
): FabricProbe {
  const count = peers.gpus.length;
  if (count < 2) {
    const message = `${count} GPU is visible here: a fabric is probed between two or more`;
    throw new FabricError('probe-failed', message);
  }
  const indices = Array.from({ length: count }, (_, i) => i);
  const sizes = SIZES_BYTES.filter((bytes) => bytes <= copyBytesMax);
  const moves = indices.flatMap((from) =>
    indices.filter((to) => to !== from).map((to) => ({ from, to })),
  );
  const largest = sizes.at(-1)!;
  const links = moves.map((move, i) => {
    onLink?.(nameOf(move), i, moves.length);
    return measureLink(peers, move, sizes);
  });
  const pairs = moves
    .filter(({ from, to }) => from < to)
    .map(({ from, to }): PairFigures => {
      const both = [
        { from, to },
        { from: to, to: from },
      ];
      const rate = (time: (rounds: number) => number) => rateOf(2 * largest, oneNs(time));
      const kernels = (by: 'reader' | 'writer') =>
        peers.reaches({ from, to })
          ? rate((rounds) => peers.move(both, by, largest, rounds))
          : null;
      return {
        gpus: [from, to],
        bothWaysBytesPerSecond: rate((rounds) => peers.copy(both, largest, rounds)),
        bothWaysReadBytesPerSecond: kernels('reader'),
        bothWaysWriteBytesPerSecond: kernels('writer'),
      };
    });
  const ring = indices.map((from) => ({ from, to: (from + 1) % count }));
  const ringNs = oneNs((rounds) => peers.copy(ring, largest, rounds));
  return {
    schema: PROBE_SCHEMA,
    device: peers.kind,
    gpus: peers.gpus,
    links,
    pairs,
    ringBytesPerSecond: rateOf(largest, ringNs),
    law: lawOf(peers, links, pairs),
    findings: findingsOf(links, floorBytesPerSecond),
  };
}

function measureLink(peers: PeerGpus, move: Move, sizes: readonly number[]): LinkFigures {
  const reaches = peers.reaches(move);
  const arrives = peers.arrives(move);
  const copies = sizes.map((bytes) => ({
    bytes,
    ns: oneNs((rounds) => peers.copy([move], bytes, rounds)),
  }));
  const largest = copies.at(-1)!;
  const kernels = (by: 'reader' | 'writer') =>
    reaches
      ? rateOf(
          largest.bytes,
          oneNs((rounds) => peers.move([move], by, largest.bytes, rounds)),
        )
      : null;
  return {
    ...move,
    reaches,
    arrives,
    awaitedTollNs: median(() => peers.copy([move], SMALL_BYTES, 1)),
    queuedTollNs: oneNs((rounds) => peers.copy([move], SMALL_BYTES, rounds)),
    bytesPerSecond: slopeOf(copies),
    // Twice as many loads less once: what starting and ending take is in both.
    loadNs: reaches
      ? (median(() => peers.load(move, 2 * LOADS)) - median(() => peers.load(move, LOADS))) / LOADS
      : null,
    readBytesPerSecond: kernels('reader'),
    writeBytesPerSecond: kernels('writer'),
    copies,
  };
}

/** Bytes a second beyond the toll: between the two largest sizes, where there are two. */
function slopeOf(copies: LinkFigures['copies']): number {
  const last = copies.at(-1)!;
  const before = copies.at(-2);
  return before === undefined || last.ns <= before.ns
    ? rateOf(last.bytes, last.ns)
    : rateOf(last.bytes - before.bytes, last.ns - before.ns);
}

function findingsOf(links: readonly LinkFigures[], floor: number | null): string[] {
  const fastest = Math.max(...links.map(({ bytesPerSecond }) => bytesPerSecond));
  const gigabytes = (rate: number) => `${(rate / 1e9).toFixed(1)} GB/s`;
  return links.flatMap((link) => {
    const { reaches, arrives, bytesPerSecond: rate } = link;
    const found: string[] = [];
    if (!reaches) found.push('no peer access: copies go through the host');
    if (!arrives) found.push('what was sent is not what came');
    if (floor !== null && rate < floor)
      found.push(`${gigabytes(rate)}, at least ${gigabytes(floor)}`);
    if (rate < EVEN_PART * fastest) {
      found.push(`${gigabytes(rate)} where the fastest has ${gigabytes(fastest)}`);
    }
    return found.map((text) => `GPU ${nameOf(link)}: ${text}`);
  });
}

function lawOf(
  { kind, gpus }: PeerGpus,
  links: readonly LinkFigures[],
  pairs: readonly PairFigures[],
): LinkLaw {
  const loads = links.map(({ loadNs }) => loadNs).filter((ns) => ns !== null);
  return {
    name: gpus[0]!.name,
    source: `the slowest of ${links.length} links by fabric probe, device ${kind}`,
    awaitedTollNs: Math.max(...links.map(({ awaitedTollNs }) => awaitedTollNs)),
    queuedTollNs: Math.max(...links.map(({ queuedTollNs }) => queuedTollNs)),
    bytesPerSecond: Math.min(...links.map(({ bytesPerSecond }) => bytesPerSecond)),
    bothWaysBytesPerSecond: Math.min(
      ...pairs.map(({ bothWaysBytesPerSecond }) => bothWaysBytesPerSecond),
    ),
    loadNs: Math.max(0, ...loads),
  };
}

function rateOf(bytes: number, ns: number): number {
  return (bytes / ns) * 1e9;
}

/** One round's time, in a row of as many as are worth measuring. */
function oneNs(time: (rounds: number) => number): number {
  time(1);
  const once = Math.max(1, time(1));
  const rounds = Math.min(ROUNDS_MAX, Math.max(2, Math.ceil(ENOUGH_NS / once)));
  // One round more is the only difference that counts: waiting for the end is in both.
  return median(() => time(rounds + 1) - time(1)) / rounds;
}

function median(measure: () => number): number {
  const times = Array.from({ length: REPEATS }, measure).sort((a, b) => a - b);
  return Math.max(1, times[Math.floor(REPEATS / 2)]!);
}
