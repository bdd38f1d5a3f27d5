import { type Bytes, concatBytes, utf8 } from '../core/bytes.ts';
import { type Cbor, CborTag } from '../core/cbor.ts';

/** CBOR in its shortest form, maps in the order of their entries. */
export function writeCbor(value: Cbor): Bytes {
  if (value === null) return Uint8Array.of(0xf6);
  if (typeof value === 'boolean') return Uint8Array.of(value ? 0xf5 : 0xf4);
  if (typeof value === 'number') return value >= 0 ? head(0, value) : head(1, -1 - value);
  if (typeof value === 'string') return concatBytes(head(3, utf8(value).length), utf8(value));
  if (value instanceof Uint8Array) return concatBytes(head(2, value.length), value);
  if (value instanceof CborTag) return concatBytes(head(6, value.tag), writeCbor(value.value));
  if (value instanceof Map) {
    const entries = [...(value as ReadonlyMap<number | string, Cbor>)];
    const pairs = entries.flatMap(([key, item]) => [writeCbor(key), writeCbor(item)]);
    return concatBytes(head(5, entries.length), ...pairs);
  }
  const list = value as readonly Cbor[];
  return concatBytes(head(4, list.length), ...list.map(writeCbor));
}

function head(major: number, argument: number): Bytes {
  const first = major << 5;
  if (argument < 24) return Uint8Array.of(first + argument);
  const byteCount = argument < 256 ? 1 : argument < 65_536 ? 2 : 4;
  const bytes = new Uint8Array(1 + byteCount);
  bytes[0] = first + 24 + Math.log2(byteCount);
  for (let i = 0, rest = argument; i < byteCount; i++, rest = Math.floor(rest / 256)) {
    bytes[byteCount - i] = rest % 256;
  }
  return bytes;
}
