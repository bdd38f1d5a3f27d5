import type { webcrypto } from 'node:crypto';
import { type Bytes, concatBytes, toHex, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';

const ALGORITHM = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } as const;

/** A vTPM of our own: its attestation key, and the paravisor's data that name it. */
export interface TestVtpm {
  readonly keys: webcrypto.CryptoKeyPair;
  readonly data: Bytes;
  /** 64 bytes: what the CPU's evidence is to carry. */
  readonly reportData: Bytes;
}

export async function makeVtpm(modulusLength = 2048): Promise<TestVtpm> {
  const publicExponent = Uint8Array.of(1, 0, 1);
  const parameters = { ...ALGORITHM, modulusLength, publicExponent };
  const keys = await crypto.subtle.generateKey(parameters, true, ['sign', 'verify']);
  const { n, e } = await crypto.subtle.exportKey('jwk', keys.publicKey);
  const key = { kid: 'HCLAkPub', key_ops: ['sign'], kty: 'RSA', e, n };
  const data = utf8(JSON.stringify({ keys: [key], 'vm-configuration': { 'secure-boot': true } }));
  const reportData = new Uint8Array(64);
  reportData.set(await digest('SHA-256', data));
  return { keys, data, reportData };
}

/** What the paravisor keeps; `kind` 2 is SEV-SNP, 4 is TDX. */
export function makeHclReport(data: Bytes, hardwareReport: Bytes, kind = 2): Bytes {
  const header = new Uint8Array(32);
  header.set(utf8('HCLA'));
  new DataView(header.buffer).setUint32(4, 2, true);
  const filled = new Uint8Array(1184);
  filled.set(hardwareReport);
  const words = [data.length + 20, 1, kind, 1, data.length];
  const sizes = new Uint8Array(20);
  for (const [i, word] of words.entries()) new DataView(sizes.buffer).setUint32(4 * i, word, true);
  return concatBytes(header, filled, sizes, data, new Uint8Array(100));
}

export interface TestTpmQuote {
  readonly message: Bytes;
  readonly signature: Bytes;
  readonly values: readonly Bytes[];
}

/** A quote over the first 24 registers of SHA-256. */
export async function makeTpmQuote({ keys }: TestVtpm, nonce: Bytes): Promise<TestTpmQuote> {
  const values = Array.from({ length: 24 }, (_, i) => new Uint8Array(32).fill(i + 1));
  const message = concatBytes(
    Uint8Array.of(0xff, 0x54, 0x43, 0x47, 0x80, 0x18),
    sized(new Uint8Array(34).fill(0x0b)),
    sized(nonce),
    new Uint8Array(25),
    Uint8Array.of(0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff),
    sized(await digest('SHA-256', concatBytes(...values))),
  );
  const signature = await crypto.subtle.sign(ALGORITHM, keys.privateKey, message);
  return { message, signature: new Uint8Array(signature), values };
}

const sized = (bytes: Bytes) => concatBytes(Uint8Array.of(0, bytes.length), bytes);

/** The document that Confidential Containers make of it. */
export function azureDocument(
  { message, signature, values }: TestTpmQuote,
  hclReport: Bytes,
  more: { readonly vcek?: Bytes; readonly td_quote?: Bytes },
): string {
  const url = (bytes: Bytes) => Buffer.from(bytes).toString('base64url');
  const rest = Object.entries(more).map(([name, bytes]) => [name, url(bytes)]);
  return JSON.stringify({
    version: '1',
    tpm_quote: { message: toHex(message), signature: toHex(signature), pcrs: values.map(toHex) },
    hcl_report: url(hclReport),
    ...Object.fromEntries(rest),
  });
}
