import { hash } from 'node:crypto';
import type { Slice } from './device.ts';
import { DeviceError } from './errors.ts';
import type { OpArgs } from './ops.ts';

/** Bytes of a SHA-256 digest. */
export const DIGEST_BYTES = 32;
/** Digests that a node is the hash of, one after the other. */
const CHILDREN = 64;
const NODE_BYTES = CHILDREN * DIGEST_BYTES;
const BLOCK_BYTES = 64;

/** Hashes of pieces of `pieceBytes` each, the last perhaps shorter, one after the other. */
export interface TreeLevel {
  readonly input: Slice;
  readonly bytes: number;
  readonly pieceBytes: number;
  readonly out: Slice;
}

/** Pieces of a level. What is empty is one empty piece. */
export function pieceCount(bytes: number, pieceBytes: number): number {
  return Math.max(Math.ceil(bytes / pieceBytes), 1);
}

/** Pieces of each level, leaves first; the last has one. Throws DeviceError `bad-argument`. */
function levelSizes(bytes: number, leafBytes: number): number[] {
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    throw new DeviceError('bad-argument', `a hash tree over ${bytes} bytes`);
  }
  if (!Number.isSafeInteger(leafBytes) || leafBytes <= 0 || leafBytes % BLOCK_BYTES !== 0) {
    throw new DeviceError(
      'bad-argument',
      `a hash tree with leaves of ${leafBytes} bytes: they must be multiples of ${BLOCK_BYTES}`,
    );
  }
  const sizes = [pieceCount(bytes, leafBytes)];
  while (sizes.at(-1)! > 1) sizes.push(Math.ceil(sizes.at(-1)! / CHILDREN));
  return sizes;
}

/** What the scratch of a `hash-tree` must hold: the digests of all levels but the root. */
export function hashTreeScratchBytes(bytes: number, leafBytes: number): number {
  const below = levelSizes(bytes, leafBytes).slice(0, -1);
  return below.reduce((sum, pieces) => sum + pieces * DIGEST_BYTES, 0);
}

/**
 * A `hash-tree` as hashes of pieces, level by level: the pieces of a level are bytes of the one
 * before. Throws DeviceError `bad-argument`.
 */
export function treeLevels(args: OpArgs['hash-tree']): TreeLevel[] {
  const { scratch, out, leafBytes } = args;
  const scratchBytes = hashTreeScratchBytes(args.bytes, leafBytes);
  if (args.bytes > args.input.bytes || out.bytes < DIGEST_BYTES || scratch.bytes < scratchBytes) {
    throw new DeviceError(
      'bad-argument',
      `hash-tree over ${args.bytes} bytes needs ${scratchBytes} bytes of scratch and ` +
        `${DIGEST_BYTES} of out, and got ${args.input.bytes}, ${scratch.bytes} and ${out.bytes}`,
    );
  }
  const sizes = levelSizes(args.bytes, leafBytes);
  let { input, bytes } = args;
  let offsetBytes = scratch.offsetBytes;
  return sizes.map((pieces, level) => {
    const digests = pieces * DIGEST_BYTES;
    const isRoot = level === sizes.length - 1;
    const target = isRoot ? out : { buffer: scratch.buffer, offsetBytes, bytes: digests };
    const pieceBytes = level === 0 ? leafBytes : NODE_BYTES;
    const step = { input, bytes, pieceBytes, out: target };
    [input, bytes] = [target, digests];
    offsetBytes += digests;
    return step;
  });
}

/** Hashes pieces [from, to) of `bytes` into their places in `digests`. */
export function hashPieces(
  bytes: Uint8Array,
  pieceBytes: number,
  digests: Uint8Array,
  from: number,
  to: number,
): void {
  for (let piece = from; piece < to; piece++) {
    const part = bytes.subarray(piece * pieceBytes, (piece + 1) * pieceBytes);
    digests.set(hash('sha256', part, 'buffer'), piece * DIGEST_BYTES);
  }
}

/**
 * The root of a tree of SHA-256: leaves are hashes of `leafBytes` bytes each (a multiple of 64; the
 * last may be shorter, nothing is one empty leaf), nodes hashes of up to 64 digests, and a single
 * digest is the root. The root says nothing of length and leaf size: whoever vouches for it must
 * vouch for these, too. Throws DeviceError `bad-argument`.
 */
export function hashTreeOf(bytes: Uint8Array, leafBytes: number): Uint8Array {
  let input = bytes;
  levelSizes(bytes.length, leafBytes).forEach((pieces, level) => {
    const digests = new Uint8Array(pieces * DIGEST_BYTES);
    hashPieces(input, level === 0 ? leafBytes : NODE_BYTES, digests, 0, pieces);
    input = digests;
  });
  return input;
}
