import type { webcrypto } from 'node:crypto';
import { type Bytes, concatBytes, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';

/** Signs notes, as a log (1) or as a witness (4). */
export interface TestSigner {
  readonly name: string;
  /** What verifiers are configured with. */
  readonly vkey: string;
  /** A line for a note; for a witness with the time at which it saw it. */
  sign(text: string, atSeconds?: number): Promise<string>;
}

export async function makeNoteSigner(name: string, type: 1 | 4): Promise<TestSigner> {
  const pair = (await crypto.subtle.generateKey('Ed25519', true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const key = concatBytes(Uint8Array.of(type), raw);
  const id = (await digest('SHA-256', concatBytes(utf8(`${name}\n`), key))).slice(0, 4);
  const signed = async (message: string) =>
    new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, utf8(message)));
  return {
    name,
    vkey: `${name}+${toHex(id)}+${toBase64(key)}`,
    async sign(text, atSeconds = 0) {
      const time = new Uint8Array(8);
      new DataView(time.buffer).setBigUint64(0, BigInt(atSeconds));
      const signature =
        type === 1
          ? await signed(text)
          : concatBytes(time, await signed(`cosignature/v1\ntime ${atSeconds}\n${text}`));
      return `\u2014 ${name} ${toBase64(concatBytes(id, signature))}\n`;
    },
  };
}

const hashed = (...parts: readonly Uint8Array[]) => digest('SHA-256', concatBytes(...parts));

/** MTH of RFC 6962, by its definition. */
async function treeHash(leaves: readonly Bytes[]): Promise<Bytes> {
  if (leaves.length === 0) return hashed();
  if (leaves.length === 1) return hashed(Uint8Array.of(0), leaves[0]!);
  const half = largestPowerBelow(leaves.length);
  const left = await treeHash(leaves.slice(0, half));
  return hashed(Uint8Array.of(1), left, await treeHash(leaves.slice(half)));
}

/** PATH of RFC 6962, by its definition. */
async function treePath(index: number, leaves: readonly Bytes[]): Promise<Bytes[]> {
  if (leaves.length === 1) return [];
  const half = largestPowerBelow(leaves.length);
  const [left, right] = [leaves.slice(0, half), leaves.slice(half)];
  return index < half
    ? [...(await treePath(index, left)), await treeHash(right)]
    : [...(await treePath(index - half, right)), await treeHash(left)];
}

function largestPowerBelow(count: number): number {
  let power = 1;
  while (2 * power < count) power *= 2;
  return power;
}

/** A proof that `entries[index]` is in a log of ours, signed by it and seen by witnesses. */
export async function makeLogProof(
  entries: readonly Bytes[],
  index: number,
  log: TestSigner,
  witnesses: readonly TestSigner[],
  atSeconds: number,
): Promise<string> {
  const text = `${log.name}\n${entries.length}\n${toBase64(await treeHash(entries))}\n`;
  const cosigned = await Promise.all(witnesses.map((one) => one.sign(text, atSeconds)));
  const path = (await treePath(index, entries)).map((hash) => `${toBase64(hash)}\n`);
  const head = `c2sp.org/tlog-proof@v1\nindex ${index}\n${path.join('')}`;
  return `${head}\n${text}\n${await log.sign(text)}${cosigned.join('')}`;
}
