import type { Slice } from '../../device.ts';
import type { OpArgs, PagedParts } from '../../ops.ts';
import { checkPagedParts } from '../../paged-parts.ts';
import type { Launcher } from '../launch/launcher.ts';

/** PAGES_PER_LAUNCH of pages.cu: their numbers are parameters of the launch. */
const PAGES_PER_LAUNCH = 64;
const VECTOR_BYTES = 16;
const THREADS = 256;
/** So many blocks for each multiprocessor, over all pages, keep memory busy. */
const BLOCKS = 16;

export function launchGatherPages(launcher: Launcher, args: OpArgs['gather-pages']): void {
  const { out, ...parts } = args;
  launchPages(launcher, 'gather_pages', parts, out);
}

export function launchScatterPages(launcher: Launcher, args: OpArgs['scatter-pages']): void {
  const { input, ...parts } = args;
  launchPages(launcher, 'scatter_pages', parts, input);
}

function launchPages(
  launcher: Launcher,
  name: 'gather_pages' | 'scatter_pages',
  parts: PagedParts,
  sideBySide: Slice,
): void {
  checkPagedParts(parts, sideBySide);
  const { pageBytes, fromBytes, partBytes, pages } = parts;
  const kv = launcher.address(`kv of ${name}`, parts.kv, 0);
  const start = launcher.address(`the parts of ${name}`, sideBySide, pages.length * partBytes);
  const vectors = [pageBytes, fromBytes, partBytes].map((bytes) => bytes / VECTOR_BYTES);
  const most = Math.ceil(partBytes / VECTOR_BYTES / THREADS);
  for (let first = 0; first < pages.length; first += PAGES_PER_LAUNCH) {
    const some = pages.slice(first, first + PAGES_PER_LAUNCH);
    const side = start + BigInt(first * partBytes);
    const block = launcher.parameters
      .pointers(...(name === 'gather_pages' ? [kv, side] : [side, kv]))
      .longs(...vectors)
      .ints(...some, ...new Array<number>(PAGES_PER_LAUNCH - some.length).fill(0));
    const wanted = Math.ceil((launcher.core.gpu.multiprocessors * BLOCKS) / some.length);
    const grid = [Math.min(wanted, most), some.length] as const;
    launcher.launch(name, { grid, threads: THREADS }, block);
  }
}
