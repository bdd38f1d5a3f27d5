import { type Bytes, concatBytes, fromHex, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { signEcdsa, toPem } from './certificates.ts';
import { type IntelAuthority, QE_SIGNER } from './quote-authority.ts';

const INTEL_QE_VENDOR = '939a7233f79c4ca9940a0db3957f0607';
const SEPT_VE_DISABLE = '0000001000000000';

/** What a made-up quote says; whatever is left out is as in a good one. Bytes are in hex. */
export interface QuoteChanges {
  /** 5.2 and 5.3: version 5 with a body of TDX 1.0 and of TDX 1.5. */
  readonly form?: '4' | '5.2' | '5.3';
  readonly teeTcbSvn?: string;
  readonly mrSignerSeam?: string;
  readonly attributes?: string;
  readonly xfam?: string;
  readonly mrTd?: string;
  readonly rtmrs?: readonly Bytes[];
  readonly reportData?: Bytes;
  readonly mrServiceTd?: string;
  readonly qeVendor?: string;
  readonly qeSigner?: string;
  readonly qeProduct?: number;
  readonly qeSvn?: number;
  readonly qeAttributes?: string;
  /** Zeros at the end, as quoting services leave them. */
  readonly paddingBytes?: number;
}

/** A quote of the authority's platform, signed all through. */
export async function makeTdxQuote(
  authority: IntelAuthority,
  changes: QuoteChanges = {},
): Promise<Bytes> {
  const signed = concatBytes(makeHeader(changes), makeBody(changes));
  const key = await rawKey(authority);
  const signature = await signEcdsa(authority.attestation.privateKey, 'P-256', signed);
  const authData = Uint8Array.from({ length: 32 }, (_, i) => i);
  const qeReport = await makeQeReport(concatBytes(key, authData), changes);
  const qeSignature = await signEcdsa(authority.pck.keys.privateKey, 'P-256', qeReport);
  const pem = utf8(toPem([authority.pck, authority.platformCa, authority.root]));
  const certification = concatBytes(
    ...[qeReport, qeSignature, u16(authData.length), authData],
    ...[u16(5), u32(pem.length), pem],
  );
  const auth = concatBytes(...[signature, key, u16(6), u32(certification.length), certification]);
  const padding = new Uint8Array(changes.paddingBytes ?? 0);
  return concatBytes(signed, u32(auth.length), auth, padding);
}

function makeHeader({ form, qeVendor }: QuoteChanges): Bytes {
  const version = form === undefined ? 4 : Number.parseInt(form, 10);
  return concatBytes(
    ...[u16(version), u16(2), u32(0x81), u32(0)],
    ...[hex(qeVendor ?? INTEL_QE_VENDOR), new Uint8Array(20)],
  );
}

function makeBody(changes: QuoteChanges): Bytes {
  const rtmrs = changes.rtmrs ?? [0, 1, 2, 3].map((i) => new Uint8Array(48).fill(0x40 + i));
  const body = concatBytes(
    hex(changes.teeTcbSvn ?? `050102${'00'.repeat(13)}`),
    new Uint8Array(48).fill(0x5e),
    hex(changes.mrSignerSeam ?? '00'.repeat(48)),
    new Uint8Array(8),
    hex(changes.attributes ?? SEPT_VE_DISABLE),
    hex(changes.xfam ?? 'e702060000000000'),
    hex(changes.mrTd ?? '3d'.repeat(48)),
    new Uint8Array(3 * 48),
    ...rtmrs,
    changes.reportData ?? new Uint8Array(64).fill(0x64),
  );
  if (changes.form === undefined || changes.form === '4') return body;
  if (changes.form === '5.2') return concatBytes(u16(2), u32(body.length), body);
  const more = concatBytes(new Uint8Array(16), hex(changes.mrServiceTd ?? '00'.repeat(48)));
  return concatBytes(u16(3), u32(body.length + more.length), body, more);
}

async function makeQeReport(bound: Bytes, changes: QuoteChanges): Promise<Bytes> {
  const boundDigest = await digest('SHA-256', bound);
  return concatBytes(
    ...[new Uint8Array(16), u32(0), new Uint8Array(28)],
    hex(changes.qeAttributes ?? `11${'00'.repeat(15)}`),
    ...[new Uint8Array(64), hex(changes.qeSigner ?? QE_SIGNER), new Uint8Array(96)],
    ...[u16(changes.qeProduct ?? 2), u16(changes.qeSvn ?? 4), new Uint8Array(60)],
    ...[boundDigest, new Uint8Array(32)],
  );
}

async function rawKey({ attestation }: IntelAuthority): Promise<Bytes> {
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', attestation.publicKey));
  return raw.slice(1);
}

function hex(text: string): Bytes {
  return fromHex(text, 'a field');
}

function u16(value: number): Bytes {
  return Uint8Array.of(value & 0xff, value >> 8);
}

function u32(value: number): Bytes {
  return concatBytes(u16(value & 0xffff), u16(value >>> 16));
}
