import { beforeAll, describe, expect, test } from 'vitest';
import {
  makeCertificate,
  NAME,
  type TestCertificateOptions,
  type TestIssuer,
  toPem,
} from '../testing/certificates.ts';
import { derBoolean, derUnsigned } from '../testing/der-elements.ts';
import { type Bytes, concatBytes, toHex } from './bytes.ts';
import { type Certificate, parseCertificate, parsePemChain } from './certificate.ts';
import { ChainCache, expiryOf, verifyChain } from './chain.ts';
import { derOctets, derSequence } from './der-writer.ts';

let root: TestIssuer;
let middle: TestIssuer;

beforeAll(async () => {
  root = await ca('Root', null);
  middle = await ca('Middle', root);
});

function ca(
  name: string,
  issuer: TestIssuer | null,
  changes: Partial<TestCertificateOptions> = {},
): Promise<TestIssuer> {
  return make(name, issuer, { isCa: true, ...changes });
}

function make(
  name: string,
  issuer: TestIssuer | null,
  changes: Partial<TestCertificateOptions> = {},
): Promise<TestIssuer> {
  return makeCertificate({ subject: [[NAME.common, name]], issuer, ...changes });
}

const parse = (bytes: Bytes) => parseCertificate(bytes, 'the certificate');

async function verify(chain: readonly TestIssuer[], cache = new ChainCache()): Promise<void> {
  const certificates = await parsePemChain(toPem(chain), 8, 'the chain');
  const pinned = await parse(root.der);
  return verifyChain(certificates, new Set([pinned.sha256]), cache);
}

describe('certificates', () => {
  test('say what was written into them', async () => {
    const value = derOctets(Uint8Array.of(1, 2, 3));
    const made = await makeCertificate({
      subject: [
        [NAME.serial, '41AB'],
        [NAME.common, 'A \x1b[2Jdevice'],
      ],
      issuer: middle,
      serial: Uint8Array.of(0x80, 0x01),
      notBefore: '20240229123456',
      notAfter: '99991231235959',
      extensions: [{ oid: '1.2.3.4', value }],
    });
    const certificate = await parse(made.der);
    expect(certificate).toMatchObject({
      subject: 'serialNumber=41AB, CN=A ?[2Jdevice',
      issuer: 'CN=Middle',
      subjectSerial: '41AB',
      serialHex: '8001',
      notBeforeMs: Date.UTC(2024, 1, 29, 12, 34, 56),
      notAfterMs: Date.UTC(9999, 11, 31, 23, 59, 59),
      mayIssue: false,
    });
    expect(toHex(certificate.extension('1.2.3.4')!)).toBe(toHex(value));
    expect(certificate.extension('1.2.3.5')).toBeNull();
    expect(expiryOf([certificate], Date.UTC(2024, 0, 1))).toBe(certificate);
    expect(expiryOf([certificate], Date.UTC(2025, 0, 1))).toBeNull();
  });

  test('are read to the last byte, and no extension twice', async () => {
    const trailing = parse(concatBytes(root.der, Uint8Array.of(0)));
    await expect(trailing).rejects.toMatchObject({ code: 'trailing-bytes' });
    const cut = parse(root.der.subarray(0, -1));
    await expect(cut).rejects.toMatchObject({ code: 'malformed' });
    const large = parse(new Uint8Array(20_000));
    await expect(large).rejects.toMatchObject({ code: 'too-large' });
    const extension = { oid: '1.2.3.4', value: Uint8Array.of(5, 0) };
    const twice = await make('Twice', root, { extensions: [extension, extension] });
    await expect(parse(twice.der)).rejects.toMatchObject({ code: 'malformed' });
  });

  test('may be many in a file, but nothing else may', async () => {
    const pem = toPem([middle, root]);
    expect(await parsePemChain(pem, 2, 'the chain')).toHaveLength(2);
    const reading = (text: string) => parsePemChain(text, 2, 'the chain');
    await expect(reading(`${pem}${pem}`)).rejects.toMatchObject({ code: 'too-large' });
    await expect(reading(`words\n${pem}`)).rejects.toMatchObject({ code: 'malformed' });
    await expect(reading(`${pem}words`)).rejects.toMatchObject({ code: 'malformed' });
    await expect(reading('')).rejects.toMatchObject({ code: 'malformed' });
    await expect(reading(pem.slice(0, -10))).rejects.toMatchObject({ code: 'malformed' });
  });
});

describe('chains', () => {
  test('hold from leaf to pinned root, once and from the cache', async () => {
    const leaf = await make('Leaf', middle);
    const cache = new ChainCache();
    await verify([leaf, middle, root], cache);
    await verify([leaf, middle, root], cache);
    await verify([await make('P-256', middle, { curve: 'P-256' }), middle, root], cache);
  });

  test('of a P-256 issuer hold', async () => {
    const issuer = await ca('P-256 issuer', root, { curve: 'P-256' });
    await verify([await make('Leaf', issuer), issuer, root]);
  });

  test('are refused under another root, in another order, with a link missing', async () => {
    const leaf = await make('Leaf', middle);
    const stranger = await ca('Root', null);
    const broken = { code: 'chain-broken' };
    await expect(verify([leaf, middle, stranger])).rejects.toMatchObject({
      code: 'root-not-pinned',
    });
    await expect(verify([leaf, middle])).rejects.toMatchObject({ code: 'root-not-pinned' });
    await expect(verify([leaf, root])).rejects.toMatchObject(broken);
    await expect(verify([middle, leaf, root])).rejects.toMatchObject(broken);
    const impostor = await ca('Middle', stranger);
    await expect(verify([leaf, impostor, root])).rejects.toMatchObject(broken);
  });

  test('are refused where someone issues who may not', async () => {
    const broken = { code: 'chain-broken' };
    const citizen = await make('Citizen', root);
    await expect(verify([await make('Leaf', citizen), citizen, root])).rejects.toMatchObject(
      broken,
    );
    const usage = { oid: '2.5.29.19', value: derSequence(derBoolean(true)) };
    const claimed = await make('Claimed', root, { extensions: [usage] });
    await expect(verify([await make('Leaf', claimed), claimed, root])).rejects.toMatchObject(
      broken,
    );
  });

  test('are refused when longer than an issuer allows', async () => {
    const last = await ca('Last', root, { pathLength: 0 });
    await verify([await make('Leaf', last), last, root]);
    const further = await ca('Further', last);
    const chain = [await make('Leaf', further), further, last, root];
    await expect(verify(chain)).rejects.toMatchObject({ code: 'chain-broken' });
  });

  test('are refused with a critical extension that is not understood', async () => {
    const extension = { oid: '1.2.3.4', isCritical: true, value: derUnsigned(Uint8Array.of(1)) };
    const leaf = await make('Leaf', root, { extensions: [extension] });
    await expect(verify([leaf, root])).rejects.toMatchObject({ code: 'chain-broken' });
  });

  test('do not remember a signature that does not hold', async () => {
    const cache = new ChainCache();
    const [child, issuer, other] = (await Promise.all(
      [middle, root, await ca('Root', null)].map((one) => parse(one.der)),
    )) as [Certificate, Certificate, Certificate];
    expect(await cache.isSigned(child, other)).toBe(false);
    expect(await cache.isSigned(child, other)).toBe(false);
    expect(await cache.isSigned(child, issuer)).toBe(true);
  });
});
