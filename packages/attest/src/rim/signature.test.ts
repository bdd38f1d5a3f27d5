import { beforeAll, describe, expect, it } from 'vitest';
import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate.ts';
import { AttestError } from '../core/errors.ts';
import { editXml, makeRim, makeRimAuthority, type RimAuthority } from '../testing/rim-authority.ts';
import { verifyEnvelopedSignature } from './signature.ts';
import { readRim } from './swid.ts';

const MEASUREMENT = { index: 0, alternatives: [new Uint8Array(48).fill(1)] };

let authority: RimAuthority;
let good: Bytes;
beforeAll(async () => {
  authority = await makeRimAuthority();
  good = await makeRim(authority, { version: '1', measurements: [MEASUREMENT] });
});

async function verify(document: Bytes): Promise<string> {
  const signer = await parseCertificate(authority.chain[0]!.der, 'the signer');
  try {
    await verifyEnvelopedSignature(readRim(document, 'the RIM').signature, signer);
    return 'verified';
  } catch (error) {
    if (error instanceof AttestError) return error.code;
    throw error;
  }
}

const signatureOf = (document: Bytes) =>
  /<ds:Signature .*<\/ds:Signature>/s.exec(fromUtf8(document, 'the RIM'))![0];

describe('an enveloped signature', () => {
  it('holds for what was signed', async () => {
    expect(await verify(good)).toBe('verified');
  });

  it('holds for the same document written otherwise', async () => {
    const spaced = editXml(good, '<ns0:Meta ', '<ns0:Meta\n   ');
    expect(await verify(spaced)).toBe('verified');
    const reordered = editXml(good, 'product="GH100"/>', "   product = 'GH100' ></ns0:Meta>");
    expect(await verify(reordered)).toBe('verified');
  });

  it.each([
    ['a digest that differs', 'edition="GPU"', 'edition="CPU"'],
    ['text that was added', '<ns0:Payload>', '<ns0:Payload> '],
    ['a namespace that was added', '<ns0:Meta ', '<ns0:Meta xmlns:z="u:z" '],
    ['a namespace that was changed', 'xmlns:ns3="https:', 'xmlns:ns3="http:'],
    ['signed information that was changed', /<ds:DigestValue>..../, '<ds:DigestValue>AAAA'],
    ['a signature that was changed', /<ds:SignatureValue>..../, '<ds:SignatureValue>AAAA'],
  ])('does not hold with %s', async (_, from, to) => {
    expect(await verify(editXml(good, from, to))).toBe('signature-invalid');
  });

  it.each([
    ['to an Id, as in wrapping', 'URI=""', 'URI="#a"', 'malformed'],
    ['to nothing', ' URI=""', '', 'malformed'],
  ])('does not refer %s', async (_, from, to, code) => {
    expect(await verify(editXml(good, from, to))).toBe(code);
  });

  it.each([
    ['a digest', /more#sha384/, 'more#sha224'],
    ['a signature', /ecdsa-sha384/, 'hmac-sha384'],
    ['a canonical form', /2006\/12\/xml-c14n11"\/><ds:S/, '2001/10/xml-exc-c14n#"/><ds:S'],
    ['a transform', /xmldsig#enveloped-signature/, 'xmldsig#base64'],
  ])('is not read with %s of another algorithm', async (_, from, to) => {
    expect(await verify(editXml(good, from, to))).toBe('unsupported-algorithm');
  });

  it('is not read with parameters for an algorithm', async () => {
    const edited = editXml(good, '11"/></ds:Transforms>', '11">1</ds:Transform></ds:Transforms>');
    expect(await verify(edited)).toBe('unsupported-algorithm');
  });

  it('is not read with a further transform', async () => {
    const more = '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#base64"/>';
    expect(await verify(editXml(good, '</ds:Transforms>', `${more}</ds:Transforms>`))).toBe(
      'malformed',
    );
  });

  it('stands once in the document, and in its outermost element', async () => {
    const signature = signatureOf(good);
    const twice = editXml(good, signature, signature + signature);
    expect(await verify(twice)).toBe('malformed');
    const moved = editXml(
      editXml(good, signature, ''),
      '<ns0:Payload>',
      `<ns0:Wrapper>${signature}</ns0:Wrapper><ns0:Payload>`,
    );
    expect(await verify(moved)).toBe('malformed');
    expect(await verify(editXml(good, signature, ''))).toBe('malformed');
  });

  it('does not cover a document that was wrapped around the one that was signed', async () => {
    const inner = fromUtf8(good, 'the RIM');
    const wrapped = editXml(
      good,
      '<ns0:Payload>',
      `<ns0:Object>${inner}</ns0:Object><ns0:Payload>`,
    );
    expect(await verify(wrapped)).toBe('malformed');
  });
});

describe('a RIM', () => {
  it.each([
    ['an index twice', '</ns0:Payload>', resourceXml(0)],
    ['an index that there is not', '</ns0:Payload>', resourceXml(64)],
    ['a payload that is not known', '</ns0:Payload>', '<ns0:File name="a"/></ns0:Payload>'],
    ['two payloads', '</ns0:Payload>', '</ns0:Payload><ns0:Payload/>'],
    ['no version', /colloquialVersion="1"/, ''],
    ['alternatives that are not there', 'alternatives="1"', 'alternatives="2"'],
    ['no alternative', 'alternatives="1"', 'alternatives="0"'],
    ['a digest of another size', 'size="48"', 'size="32"'],
    ['a digest that is cut short', 'ns2:Hash0="01', 'ns2:Hash0="'],
    ['an activity of neither kind', 'active="True"', 'active="true"'],
    ['an index that is no number', 'index="0"', 'index="0x0"'],
    ['another outermost element', /SoftwareIdentity/g, 'SoftwareIdentities'],
  ])('is not read with %s', async (_, from, to) => {
    expect(await verify(editXml(good, from, to))).toBe('malformed');
  });
});

function resourceXml(index: number): string {
  const hash = `alternatives="1" ns2:Hash0="${'00'.repeat(48)}"`;
  const head = `<ns0:Resource type="Measurement" index="${index}" active="True"`;
  return `${head} ${hash} name="m" size="48"/></ns0:Payload>`;
}
