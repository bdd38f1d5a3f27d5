import type { PagedParts } from '../../ops.ts';
import { rangeOf, type Share } from './share.ts';

type Parts = Omit<PagedParts, 'kv'>;

/** Puts parts of pages side by side. */
export function gatherPages(kv: Uint8Array, out: Uint8Array, parts: Parts, share: Share): void {
  const { pages, pageBytes, fromBytes, partBytes } = parts;
  const [first, end] = rangeOf(share, pages.length);
  for (let i = first; i < end; i++) {
    const from = pages[i]! * pageBytes + fromBytes;
    out.set(kv.subarray(from, from + partBytes), i * partBytes);
  }
}

/** The reverse. */
export function scatterPages(input: Uint8Array, kv: Uint8Array, parts: Parts, share: Share): void {
  const { pages, pageBytes, fromBytes, partBytes } = parts;
  const [first, end] = rangeOf(share, pages.length);
  for (let i = first; i < end; i++) {
    const part = input.subarray(i * partBytes, (i + 1) * partBytes);
    kv.set(part, pages[i]! * pageBytes + fromBytes);
  }
}
