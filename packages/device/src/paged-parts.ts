import type { Slice } from './device.ts';
import { DeviceError } from './errors.ts';
import type { PagedParts } from './ops.ts';

const VECTOR_BYTES = 16;

/** Throws DeviceError `bad-argument` for parts that fit no page, or pages that are not there. */
export function checkPagedParts(parts: PagedParts, sideBySide: Slice): void {
  const fault = faultOf(parts, sideBySide);
  if (fault !== null) throw new DeviceError('bad-argument', `pages: ${fault}`);
}

function faultOf(parts: PagedParts, sideBySide: Slice): string | null {
  const { kv, pageBytes, fromBytes, partBytes, pages } = parts;
  for (const [name, bytes] of Object.entries({ pageBytes, fromBytes, partBytes })) {
    const fits = Number.isSafeInteger(bytes) && bytes >= 0 && bytes % VECTOR_BYTES === 0;
    if (!fits) return `${name} is ${bytes}, and must be a multiple of ${VECTOR_BYTES}`;
  }
  if (partBytes === 0 || fromBytes + partBytes > pageBytes) {
    return `[${fromBytes}, +${partBytes}) is no part of a page of ${pageBytes} bytes`;
  }
  const count = Math.floor(kv.bytes / pageBytes);
  for (const page of pages) {
    const fits = Number.isSafeInteger(page) && page >= 0 && page < count;
    if (!fits) return `page ${page} is not among ${count}`;
  }
  const bytes = pages.length * partBytes;
  if (bytes > sideBySide.bytes) {
    return `${pages.length} parts take ${bytes} bytes, and there are ${sideBySide.bytes}`;
  }
  return null;
}
