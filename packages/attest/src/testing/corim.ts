import type { Bytes } from '../core/bytes.ts';
import { type Cbor, CborTag } from '../core/cbor.ts';
import { writeCbor } from './cbor.ts';

/** A manifest with two CoMIDs, of two and of one reference value; its signature is none. */
export function makeCorim(isSigned: boolean): Bytes {
  const comid = (count: number) => {
    const environment = new Map([[0, new Map([[1, 'Bridgekeeper Test']])]]);
    const measurement = new Map<number, Cbor>([
      [0, 4],
      [1, new Map([[2, [[7, new Uint8Array(48)]]]])],
    ]);
    const triples = Array.from({ length: count }, () => [environment, [measurement]]);
    return new CborTag(506, writeCbor(new Map([[4, new Map([[0, triples]])]])));
  };
  const map = new Map<number, Cbor>([
    [0, 'test-corim'],
    [1, [comid(2), comid(1)]],
    [3, new CborTag(32, 'tag:bridgekeeper.test,2026:profile')],
  ]);
  const unsigned = new CborTag(501, map);
  if (!isSigned) return writeCbor(unsigned);
  const header = writeCbor(new Map([[1, -35]]));
  return writeCbor(new CborTag(18, [header, new Map(), writeCbor(unsigned), new Uint8Array(96)]));
}
