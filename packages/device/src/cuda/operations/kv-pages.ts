import { DeviceError } from '../../errors.ts';
import { type KvGeometry, LINE_KV_PARTS, type OpArgs, qkvWidth, storedBytes } from '../../ops.ts';
import type { KernelDefines } from '../kernels/kernel-source.ts';
import type { Launcher } from '../launch/launcher.ts';
import type { ParameterBlock } from '../launch/parameters.ts';

const E = 2;
const WORD = 4;

/** KV_FORMAT of the .cu files. */
const KV_FORMAT = { element: 0, 'fp8-e4m3': 1 } as const;

/** Rows of the page table. Throws DeviceError unless the kernels can work with the geometry. */
export function checkPages(geometry: KvGeometry): number {
  const { kvHeads, headDim, pageTokens, pagesPerRow, pageTable } = geometry;
  if (headDim % 8 !== 0 || headDim < 8 || headDim > 512) {
    const message = `heads of ${headDim}: the cuda device takes multiples of 8 up to 512`;
    throw new DeviceError('unsupported', message);
  }
  const { pageElements, layerElement: from } = geometry;
  const to = from + 2 * kvHeads * pageTokens * headDim;
  if (kvHeads < 1 || from < 0 || from % 8 !== 0 || pageElements % 8 !== 0 || to > pageElements) {
    const message = `a layer in elements ${from} to ${to} of pages of ${pageElements}`;
    throw new DeviceError('bad-argument', message);
  }
  if (pageElements > 0x7fffffff) {
    throw new DeviceError('unsupported', `pages of ${pageElements} elements: take smaller pages`);
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

/** What all attention kernels are compiled for. */
export function headDefines({ headDim, kvFormat, lineKv }: OpArgs['attention']): KernelDefines {
  const ofLine = lineKv === 'keys and values' ? {} : { LINE_KV: LINE_KV_PARTS[lineKv] };
  return { HEAD_DIM: headDim, KV_FORMAT: KV_FORMAT[kvFormat], ...ofLine };
}

/** What kernels that write values are compiled for, too. */
export function valueDefine({ lineKv, valueNorm }: OpArgs['attention']): KernelDefines {
  return valueNorm && lineKv !== 'none' ? { VALUE_NORM: 1 } : {};
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
  return launcher.address('qkv of attention', args.qkv, args.count * qkvWidth(args) * E);
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
  const { layerElement, pageElements, kvHeads, pageTokens, pagesPerRow, kv } = geometry;
  const pageBytes = pageElements * storedBytes(geometry.kvFormat, 'bf16');
  const pageTable = launcher.address('pageTable of attention', geometry.pageTable, 0);
  const pages = Math.floor(kv.bytes / pageBytes);
  // A struct that holds a pointer is padded to a multiple of 8 bytes: six ints are.
  const places = [layerElement, pageElements, kvHeads, pageTokens, pagesPerRow, pages] as const;
  return block.pointers(pageTable).ints(...places);
}
