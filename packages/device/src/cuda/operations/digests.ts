import { DIGEST_BYTES, pieceCount, treeLevels } from '../../hash-tree.ts';
import type { OpArgs } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';

/** SUM_THREADS and HASH_THREADS of digest.cu. */
const SUM_THREADS = 256;
const HASH_THREADS = 32;
const SUMS_BYTES = 8;
const VECTOR_BYTES = 16;
/** So many blocks for each multiprocessor keep memory busy. */
const BLOCKS = 8;

export function launchChecksum(launcher: Launcher, { bytes, ...args }: OpArgs['checksum']): void {
  const input = launcher.address('input of checksum', args.input, bytes);
  const out = launcher.address('out of checksum', args.out, SUMS_BYTES);
  const most = launcher.core.gpu.multiprocessors * BLOCKS;
  const blocks = Math.min(Math.floor(bytes / VECTOR_BYTES / SUM_THREADS) + 1, most);
  const parts = launcher.scratch('checksum', most * SUMS_BYTES);
  const ofParts = launcher.parameters.pointers(input).longs(bytes).pointers(parts);
  launcher.launch('checksum_parts', { grid: [blocks], threads: SUM_THREADS }, ofParts);
  const ofTotal = launcher.parameters.pointers(parts).ints(blocks).pointers(out);
  launcher.launch('checksum_total', { grid: [1], threads: SUM_THREADS }, ofTotal);
}

/** A launch for each level: the digests of one are the bytes of the next. */
export function launchHashTree(launcher: Launcher, args: OpArgs['hash-tree']): void {
  for (const { input, bytes, pieceBytes, out } of treeLevels(args)) {
    const pieces = pieceCount(bytes, pieceBytes);
    const block = launcher.parameters
      .pointers(launcher.address('input of hash-tree', input, bytes))
      .longs(bytes, pieceBytes, pieces)
      .pointers(launcher.address('digests of hash-tree', out, pieces * DIGEST_BYTES));
    const grid = [Math.ceil(pieces / HASH_THREADS)] as const;
    launcher.launch('hash_pieces', { grid, threads: HASH_THREADS }, block);
  }
}
