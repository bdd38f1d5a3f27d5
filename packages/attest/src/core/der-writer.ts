import { type Bytes, concatBytes } from './bytes.ts';
import { TAG } from './der.ts';
import { invariant } from './invariant.ts';

/** One DER element of that tag around the bytes of its content. */
export function der(tag: number, ...content: readonly Uint8Array[]): Bytes {
  const body = concatBytes(...content);
  const { length } = body;
  invariant(length <= 0xff_ff_ff, 'DER elements are written up to 16 MiB');
  const lengths: number[] = [];
  for (let left = length; left > 0; left = Math.floor(left / 256)) lengths.unshift(left % 256);
  const header = length < 0x80 ? [tag, length] : [tag, 0x80 + lengths.length, ...lengths];
  return concatBytes(Uint8Array.from(header), body);
}

/** An object identifier's element, from dotted decimals. */
export function derOid(oid: string): Bytes {
  const [first, second, ...rest] = oid.split('.').map(Number);
  const content = [first! * 40 + second!, ...rest].flatMap((arc) => {
    const bytes = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      bytes.unshift((left % 128) + 0x80);
    }
    return bytes;
  });
  return der(TAG.oid, Uint8Array.from(content));
}

export function derSequence(...elements: readonly Uint8Array[]): Bytes {
  return der(TAG.sequence, ...elements);
}

export function derOctets(bytes: Uint8Array): Bytes {
  return der(TAG.octetString, bytes);
}
