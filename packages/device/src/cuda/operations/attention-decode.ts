import type { OpArgs } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import { launchRope } from './attention-prefill.ts';
import {
  checkPages,
  headDefines,
  pagesParameters,
  ropePositions,
  rotaryDefine,
  rotationParameters,
  sinksAddress,
  valueDefine,
} from './kv-pages.ts';

const E = 2;
const WORD = 4;
const WARP = 32;
/** The softmax of the kernel works in powers of two. */
const LOG2_E = Math.LOG2E;
/** Query heads that one block serves: more would not fit its registers. */
const MAX_GROUP = 8;
/** Positions of a tile: what the kernel's warps take at a time. */
const TILE = 16;

/** Blocks that fit on a multiprocessor. */
const BLOCKS_PER_MULTIPROCESSOR = 2;

/** Warps of a block: as many as its declared shared memory, which grows with heads, allows. */
const warpsOf = (headDim: number) => (headDim <= 128 ? 8 : headDim <= 256 ? 4 : 2);

/**
 * Short runs of tokens behind long contexts, and tokens whose keys and values an earlier layer has
 * written: rotation and the KV of all of them first, then each as
 * if it were alone, in a grid that fills the GPU whatever the runs. What they share of a context
 * comes from the cache.
 */
export function launchVerifyAttention(launcher: Launcher, args: OpArgs['attention']): void {
  const defines = headDefines(args);
  launchRope(launcher, { args, defines, tableRows: checkPages(args), counter: 0n });
  launchDecodeAttention(launcher, args, true);
}

/**
 * One kernel for all of it: rotation, this token's KV, attention over the context, split over as
 * many blocks as the GPU holds at once, and the combination of the splits. The grid does not depend
 * on the contexts, whose lengths only the device knows.
 */
export function launchDecodeAttention(
  launcher: Launcher,
  args: OpArgs['attention'],
  isStored = false,
): void {
  const { count, heads, kvHeads, headDim, window, scale, epsilon } = args;
  const perKvHead = heads / kvHeads;
  const chunks = Math.ceil(perKvHead / MAX_GROUP);
  const group = Math.ceil(perKvHead / chunks);
  const warps = warpsOf(headDim);
  const { multiprocessors } = launcher.core.gpu;
  const mostBlocks = BLOCKS_PER_MULTIPROCESSOR * multiprocessors;
  // Few contexts are read sooner by few blocks; many of unequal lengths hide each other's ends.
  const blocks = count * kvHeads * chunks <= multiprocessors ? multiprocessors : mostBlocks;
  const tableRows = checkPages(args);
  const block = rotationParameters(launcher, args).pointers(
    sinksAddress(launcher, args),
    launcher.address('out of attention', args.out, count * heads * headDim * E),
    launcher.scratch('attention', mostBlocks * 2 * (group * headDim + 16) * WORD),
    launcher.zeroedScratch('arrivals of attention', mostBlocks * WORD),
  );
  pagesParameters(launcher, block, args)
    .ints(tableRows, count, heads, chunks, window, ropePositions(args))
    .floats(epsilon, scale * LOG2_E, args.normOffset);
  launcher.launch(
    'attention_decode',
    {
      grid: [blocks],
      threads: warps * WARP,
      sharedBytes: warps * 2 * TILE * strideBytes(args),
    },
    block,
    {
      ...headDefines(args),
      GROUP: group,
      PAGE_TOKENS: args.pageTokens,
      DECODE_WARPS: warps,
      ...rotaryDefine(args),
      ...(isStored ? { IS_STORED: 1 } : valueDefine(args)),
    },
  );
}

/** A position's key in shared memory: whole tensor-core tiles, and an odd number of 16 bytes. */
function strideBytes({ headDim, kvFormat }: OpArgs['attention']): number {
  const [elementBytes, tile] = kvFormat === 'element' ? [E, 16] : [1, 32];
  const bytes = Math.ceil(headDim / tile) * tile * elementBytes;
  return ((bytes / 16) | 1) * 16;
}
