import { DeviceError } from '../errors.ts';
import type { KvGeometry } from '../ops.ts';
import { storedBytes } from '../ops.ts';
import type { Launcher } from './launcher.ts';
import type { ParameterBlock } from './parameters.ts';

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
