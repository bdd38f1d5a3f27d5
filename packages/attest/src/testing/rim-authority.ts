import { type Bytes, fromUtf8, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { digest, sha256Hex } from '../core/digest.ts';
import { invariant } from '../core/invariant.ts';
import { canonicalXml } from '../rim/canonical.ts';
import { readEnvelopedSignature } from '../rim/signature.ts';
import { readXml } from '../rim/xml.ts';
import { makeCertificate, NAME, signEcdsa, type TestIssuer } from './certificates.ts';

/** Who signs test RIMs: as NVIDIA's, four certificates on P-384. */
export interface RimAuthority {
  /** Leaf first, root last. */
  readonly chain: readonly TestIssuer[];
  readonly rootSha256: string;
}

/** A measurement of a test RIM; active, with one alternative, unless it says otherwise. */
export interface TestMeasurement {
  readonly index: number;
  readonly isActive?: boolean;
  readonly alternatives: readonly Bytes[];
}

/** What a test RIM says. */
export interface TestRim {
  readonly product?: string;
  readonly version: string;
  readonly measurements: readonly TestMeasurement[];
  /** The least security version, or several from index 64 on. */
  readonly minSvn?: number | readonly number[];
  /** Within the outermost element, before everything else: XML. */
  readonly extra?: string;
}

/** `notAfter` (`YYYYMMDDhhmmss`) is the signer's. */
export async function makeRimAuthority(notAfter = '20990101000000'): Promise<RimAuthority> {
  const subject = (name: string) => [[NAME.common, name]] as const;
  const root = await makeCertificate({ subject: subject('RIM root'), issuer: null, isCa: true });
  const upper = { subject: subject('RIM L2'), issuer: root, isCa: true };
  const second = await makeCertificate(upper);
  const third = await makeCertificate({ ...upper, subject: subject('RIM L3'), issuer: second });
  const leaf = { subject: subject('RIM signer'), issuer: third, notAfter };
  const chain = [await makeCertificate(leaf), third, second, root];
  return { chain, rootSha256: await sha256Hex(root.der) };
}

/** A RIM as NVIDIA writes them, signed by the authority's leaf. */
export async function makeRim(authority: RimAuthority, rim: TestRim): Promise<Bytes> {
  const open = openTag(rim);
  const close = '</SoftwareIdentity>';
  const body = `${open}${rim.extra ?? ''}${content(rim)}`;
  const unsigned = readXml(utf8(body + close), 'the test RIM');
  const documentDigest = await digest('SHA-384', canonicalXml(unsigned, null));
  const signature = (value: Bytes) => signatureXml(authority, documentDigest, value);
  const draft = utf8(body + signature(new Uint8Array(96)) + close);
  const { signedInfo } = readEnvelopedSignature(readXml(draft, 'the test RIM'), 'the test RIM');
  const key = authority.chain[0]!.keys.privateKey;
  const value = await signEcdsa(key, 'P-384', canonicalXml(signedInfo, null));
  return utf8(body + signature(value) + close);
}

/** The document with one piece of its text replaced; the piece must be there. */
export function editXml(document: Bytes, from: string | RegExp, to: string): Bytes {
  const text = fromUtf8(document, 'the test document');
  const edited = text.replace(from, to);
  invariant(edited !== text, 'an edit of a test document changes it');
  return utf8(edited);
}

function openTag({ product = 'GH100' }: TestRim): string {
  return [
    '<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"',
    ' xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"',
    ' xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384"',
    ' xmlns:ns3="https://docs.nvidia.com/attestation/specs/latest/opaque-data.html"',
    ` name="${product}" tagId="test" version="1.0" tagVersion="0">\n`,
  ].join('');
}

function content({ product = 'GH100', version, measurements, minSvn }: TestRim): string {
  return [
    '    <ns0:Entity name="Test Corporation" role="softwareCreator tagCreator"/>\n',
    `    <ns0:Meta colloquialVersion="${version}" edition="GPU" product="${product}"/>\n`,
    '    <ns0:Payload>\n',
    ...measurements.map(resource),
    ...[minSvn ?? []].flat().map(floorResource),
    '    </ns0:Payload>\n',
  ].join('');
}

function resource({ index, isActive = true, alternatives }: TestMeasurement): string {
  const hashes = alternatives.map((one, i) => ` ns2:Hash${i}="${toHex(one)}"`).join('');
  const active = isActive ? 'True' : 'False';
  const head = `<ns0:Resource type="Measurement" index="${index}" active="${active}"`;
  const digests = `alternatives="${alternatives.length}"${hashes}`;
  return `        ${head} ${digests} name="Measurement_${index}" size="48"/>\n`;
}

function floorResource(minSvn: number, i: number): string {
  const place = `type="Measurement" index="${64 + i}" active="True" name="FSP_UCODE_SVN"`;
  const head = `<ns0:Resource ${place}`;
  return `        ${head} ns3:MIN_SVN="${minSvn}"/>\n`;
}

function signatureXml(authority: RimAuthority, documentDigest: Bytes, value: Bytes): string {
  const c14n = 'http://www.w3.org/2006/12/xml-c14n11';
  const dsig = 'http://www.w3.org/2000/09/xmldsig#';
  const more = 'http://www.w3.org/2001/04/xmldsig-more#';
  return [
    `<ds:Signature xmlns:ds="${dsig}"><ds:SignedInfo>`,
    `<ds:CanonicalizationMethod Algorithm="${c14n}"/>`,
    `<ds:SignatureMethod Algorithm="${more}ecdsa-sha384"/>`,
    '<ds:Reference URI=""><ds:Transforms>',
    `<ds:Transform Algorithm="${dsig}enveloped-signature"/>`,
    `<ds:Transform Algorithm="${c14n}"/></ds:Transforms>`,
    `<ds:DigestMethod Algorithm="${more}sha384"/>`,
    `<ds:DigestValue>${toBase64(documentDigest)}</ds:DigestValue></ds:Reference></ds:SignedInfo>`,
    `<ds:SignatureValue>${toBase64(value)}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>`,
    ...authority.chain.map(
      ({ der }) => `<ds:X509Certificate>${toBase64(der)}\n</ds:X509Certificate>`,
    ),
    '</ds:X509Data></ds:KeyInfo></ds:Signature>',
  ].join('');
}
