/** UTF-8 that arrives in pieces. */

export const REPLACEMENT = '\uFFFD';

/** How long the sequence that starts with byte `lead` is; 0 when no sequence starts with it. */
function sequenceLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/**
 * Whether `byte` may be second after `lead`: overlong forms, surrogates and what lies past U+10FFFF
 * may not.
 */
function mayFollow(lead: number, byte: number): boolean {
  if (lead === 0xe0) return byte >= 0xa0 && byte <= 0xbf;
  if (lead === 0xed) return byte >= 0x80 && byte <= 0x9f;
  if (lead === 0xf0) return byte >= 0x90 && byte <= 0xbf;
  if (lead === 0xf4) return byte >= 0x80 && byte <= 0x8f;
  return byte >= 0x80 && byte <= 0xbf;
}

/**
 * How many bytes at the end of `bytes` are the start of a sequence that more bytes could complete:
 * 0 to 3. Decoding what comes before them and, later, them with what follows gives what decoding
 * the whole would.
 */
export function incompleteTail(bytes: Uint8Array): number {
  const { length } = bytes;
  for (let tail = 1; tail <= 3 && tail <= length; tail++) {
    const lead = bytes[length - tail]!;
    if (lead >= 0x80 && lead < 0xc0) continue;
    if (sequenceLength(lead) <= tail) return 0;
    return tail === 1 || mayFollow(lead, bytes[length - tail + 1]!) ? tail : 0;
  }
  return 0;
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const strictDecoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });
const encoder = new TextEncoder();

/**
 * Decodes with U+FFFD for each maximal ill-formed part, as the WHATWG and Unicode say; a byte order
 * mark stays.
 */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** The text of well-formed UTF-8, or undefined. */
export function decodeExactly(bytes: Uint8Array): string | undefined {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    return undefined;
  }
}

export function encodeUtf8(text: string): Uint8Array {
  return encoder.encode(text);
}
