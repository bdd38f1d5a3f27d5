import { type Bytes, equalBytes, fromBase64 } from '../core/bytes.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { curveOf, importSpki, verifyEcdsa } from '../core/signature.ts';
import { canonicalXml } from './canonical.ts';
import { attributeOf, elementsOf, textOf, type XmlElement } from './xml.ts';

const XMLDSIG = 'http://www.w3.org/2000/09/xmldsig#';
const C14N_11 = 'http://www.w3.org/2006/12/xml-c14n11';
const ENVELOPED = 'http://www.w3.org/2000/09/xmldsig#enveloped-signature';
const ECDSA_SHA384 = 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384';
const SHA384 = 'http://www.w3.org/2001/04/xmldsig-more#sha384';
const CERTIFICATE_COUNT_MAX = 8;
const SIGNATURE_BYTES = 96;
const DIGEST_BYTES = 48;

/** The signature over a whole document that stands within it. Nothing of it is trusted yet. */
export interface EnvelopedSignature {
  readonly document: XmlElement;
  readonly element: XmlElement;
  readonly signedInfo: XmlElement;
  /** SHA-384 of the document without the signature. */
  readonly digest: Bytes;
  /** ECDSA on P-384: r and s. */
  readonly value: Bytes;
  /** The chain as the document carries it, DER, the signer's first. */
  readonly certificates: readonly Bytes[];
}

/**
 * Reads the one signature of a document: a child of the outermost element that covers all of it
 * (no reference to a part), in the one set of algorithms that RIMs use. Throws AttestError
 * 'malformed', 'too-large' or 'unsupported-algorithm'; `what` names the document in messages.
 */
export function readEnvelopedSignature(document: XmlElement, what: string): EnvelopedSignature {
  const element = onlySignature(document, what);
  const [signedInfo, valueElement, keyInfo] = partsOf(
    element,
    ['SignedInfo', 'SignatureValue', 'KeyInfo'],
    what,
  );
  const [method, signatureMethod, reference] = partsOf(
    signedInfo!,
    ['CanonicalizationMethod', 'SignatureMethod', 'Reference'],
    what,
  );
  demandAlgorithm(method!, C14N_11, what);
  demandAlgorithm(signatureMethod!, ECDSA_SHA384, what);
  return {
    document,
    element,
    signedInfo: signedInfo!,
    digest: readReference(reference!, what),
    value: base64Of(valueElement!, SIGNATURE_BYTES, what),
    certificates: readCertificates(keyInfo!, what),
  };
}

/**
 * Verifies the signature with the key of `signer`, which must come from a chain to a pinned root:
 * the document's own word for its key is worth nothing. Throws AttestError 'signature-invalid' or
 * 'unsupported-algorithm'.
 */
export async function verifyEnvelopedSignature(
  signature: EnvelopedSignature,
  signer: Certificate,
): Promise<void> {
  const content = canonicalXml(signature.document, signature.element);
  demand(
    equalBytes(await digest('SHA-384', content), signature.digest),
    'signature-invalid',
    'the document is not what was signed: its digest differs',
  );
  demand(
    curveOf(signer.spki, nameOf(signer)) === 'P-384',
    'unsupported-algorithm',
    `the key of ${nameOf(signer)} does not lie on P-384`,
  );
  const key = await importSpki(signer.spki, { kind: 'ecdsa', hash: 'SHA-384' });
  const signed = canonicalXml(signature.signedInfo, null);
  demand(
    await verifyEcdsa(key, 'P-384', 'SHA-384', signature.value, signed),
    'signature-invalid',
    `the signature is not by ${nameOf(signer)}`,
  );
}

function onlySignature(document: XmlElement, what: string): XmlElement {
  const found: XmlElement[] = [];
  const visit = (element: XmlElement) => {
    if (element.namespace === XMLDSIG && element.local === 'Signature') found.push(element);
    for (const child of element.children) if (typeof child !== 'string') visit(child);
  };
  visit(document);
  demand(found.length === 1, 'malformed', `${what} holds ${found.length} signatures, not one`);
  const signature = found[0]!;
  const isChild = document.children.includes(signature);
  demand(isChild, 'malformed', `the signature of ${what} does not stand in its outermost element`);
  return signature;
}

function readReference(reference: XmlElement, what: string): Bytes {
  const isWhole = attributeOf(reference, '', 'URI') === '';
  demand(isWhole, 'malformed', `the signature of ${what} refers to a part of it`);
  const [transforms, method, value] = partsOf(
    reference,
    ['Transforms', 'DigestMethod', 'DigestValue'],
    what,
  );
  const [enveloped, canonical] = partsOf(transforms!, ['Transform', 'Transform'], what);
  demandAlgorithm(enveloped!, ENVELOPED, what);
  demandAlgorithm(canonical!, C14N_11, what);
  demandAlgorithm(method!, SHA384, what);
  return base64Of(value!, DIGEST_BYTES, what);
}

function readCertificates(keyInfo: XmlElement, what: string): Bytes[] {
  const [data] = partsOf(keyInfo, ['X509Data'], what);
  const elements = elementsOf(data!, what);
  const count = elements.length;
  demand(count > 0, 'malformed', `the signature of ${what} carries no certificates`);
  demand(count <= CERTIFICATE_COUNT_MAX, 'too-large', `${what} carries ${count} certificates`);
  partsOf(data!, Array<string>(count).fill('X509Certificate'), what);
  return elements.map((element) => base64Of(element, null, what));
}

/** The children of an element of the signature, which must be exactly these. */
function partsOf(element: XmlElement, locals: readonly string[], what: string): XmlElement[] {
  const children = elementsOf(element, what);
  const isAsNamed =
    children.length === locals.length &&
    children.every((child, i) => child.namespace === XMLDSIG && child.local === locals[i]);
  demand(isAsNamed, 'malformed', `${what}: ${element.name} is not ${locals.join(', ')}`);
  return children;
}

function demandAlgorithm(element: XmlElement, algorithm: string, what: string): void {
  const found = attributeOf(element, '', 'Algorithm');
  demand(
    found === algorithm,
    'unsupported-algorithm',
    `the signature of ${what} names ${found} in ${element.local}, where ${algorithm} is due`,
  );
  // Parameters would change what the algorithm does.
  const isBare = element.children.length === 0;
  demand(isBare, 'unsupported-algorithm', `${what} gives parameters to ${element.local}`);
}

function base64Of(element: XmlElement, byteCount: number | null, what: string): Bytes {
  const bytes = fromBase64(textOf(element, what).replace(/[ \t\n]/g, ''), element.name);
  const isWhole = byteCount === null || bytes.length === byteCount;
  demand(isWhole, 'malformed', `${element.local} of ${what} has ${bytes.length} bytes`);
  return bytes;
}
