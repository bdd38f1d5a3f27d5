import { DeviceError } from '../../errors.ts';
import { type KvGeometry, type OpArgs, storedBytes } from '../../ops.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';
import type { Launcher } from '../launch/launcher.ts';
import type { ParameterBlock } from '../launch/parameters.ts';

const E = 2;
const WORD = 4;

/** What the kernels are compiled for: KV_FORMAT of the .cu files. */
export const KV_FORMAT = { element: 0, 'fp8-e4m3': 1 } as const;

/** Rows of the page table. Throws DeviceError unless the kernels can work with the geometry. */
export function checkPages(geometry: KvGeometry): number {
  const { layers, kvHeads, headDim, pagesPerRow, layer, pageTable } = geometry;
  if (headDim % 8 !== 0 || headDim < 8 || headDim > 256) {
    const message = `heads of ${headDim}: the cuda device takes multiples of 8 up to 256`;
    throw new DeviceError('unsupported', message);
  }
  if (layer < 0 || layer >= layers || kvHeads < 1) {
    throw new DeviceError('bad-argument', `layer ${layer} of ${layers} with ${kvHeads} KV heads`);
  }
  return Math.floor(pageTable.bytes / (pagesPerRow * WORD));
}

/** Where not all of a head rotates, what kernels that rotate are compiled for, too. */
export function rotaryDefine({ headDim, rotaryDim }: OpArgs['attention']): KernelDefines {
  if (rotaryDim === headDim) return {};
  if (rotaryDim % 16 !== 0 || rotaryDim < 0 || rotaryDim > headDim) {
    const message = `${rotaryDim} rotating dims of ${headDim}: this device takes multiples of 16`;
    throw new DeviceError('unsupported', message);
  }
  return { ROTARY_DIM: rotaryDim };
}

/** What kernels that rotate take first: qkv, norms, angles, pages, and where each token is. */
export function rotationParameters(launcher: Launcher, args: OpArgs['attention']): ParameterBlock {
  const { count, headDim } = args;
  const norm = (what: string, slice: typeof args.queryNorm) =>
    slice === null ? 0n : launcher.address(what, slice, headDim * E);
  return launcher.parameters.pointers(
    queryAddress(launcher, args),
    norm('queryNorm of attention', args.queryNorm),
    norm('keyNorm of attention', args.keyNorm),
    launcher.address('rope of attention', args.rope, 0),
    launcher.address('kv of attention', args.kv, 0),
    launcher.address('tokenRows of attention', args.tokenRows, count * WORD),
    launcher.address('positions of attention', args.positions, count * WORD),
  );
}

/** The heads' sinks, or 0 where there are none. */
export function sinksAddress(launcher: Launcher, { sinks, heads }: OpArgs['attention']): bigint {
  return sinks === null ? 0n : launcher.address('sinks of attention', sinks, heads * E);
}

export function queryAddress(launcher: Launcher, args: OpArgs['attention']): bigint {
  const width = (args.heads + 2 * args.kvHeads) * args.headDim;
  return launcher.address('qkv of attention', args.qkv, args.count * width * E);
}

/** Positions that the table of angles is for. */
export function ropePositions({ rope, headDim }: OpArgs['attention']): number {
  return Math.floor(rope.bytes / (headDim * WORD));
}

/** Appends struct KvPages of common.cuh. */
export function pagesParameters(
  launcher: Launcher,
  block: ParameterBlock,
  geometry: KvGeometry,
): ParameterBlock {
  const { layer, layers, kvHeads, headDim, pageTokens, pagesPerRow, kv, kvFormat } = geometry;
  const pageBytes = layers * 2 * kvHeads * pageTokens * headDim * storedBytes(kvFormat, 'bf16');
  const pageTable = launcher.address('pageTable of attention', geometry.pageTable, 0);
  const pages = Math.floor(kv.bytes / pageBytes);
  // A struct that holds a pointer is padded to a multiple of 8 bytes: six ints are.
  return block.pointers(pageTable).ints(layer, layers, kvHeads, pageTokens, pagesPerRow, pages);
}
