// tsyringe, beneath the library for certificates, needs it to be there first.
import 'reflect-metadata';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';

/*
 * Certificates: control's own authority, which signs its listener for agents and each agent. Keys
 * of agents never leave their hosts.
 */

const CURVE = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 24 * 3600 * 1000;
const AUTHORITY_DAYS = 3650;
const LEAF_DAYS = 365;
/** Clocks differ, and one that signs may be ahead by as much as time zones are apart. */
const EARLIER_MS = DAY_MS;

export interface Pem {
  readonly certificate: string;
  /** PKCS #8. */
  readonly key: string;
}

export async function makeAuthority(nowMs: number): Promise<Pem> {
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...period(nowMs, AUTHORITY_DAYS),
    serialNumber: serial(),
    name: 'CN=Bridgekeeper control',
    keys,
    signingAlgorithm: CURVE,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await pemOf(keys.privateKey) };
}

/** For a listener that is reached by these names and addresses. */
export async function makeServerCertificate(
  authority: Pem,
  names: readonly string[],
  nowMs: number,
): Promise<Pem> {
  const keys = await makeKeys();
  const alternatives = names.map((value) => {
    return { type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value };
  });
  const certificate = await issue(authority, keys.publicKey, 'CN=control', nowMs, [
    new x509.SubjectAlternativeNameExtension(alternatives),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
  ]);
  return { certificate, key: await pemOf(keys.privateKey) };
}

/** Signs an agent's key; null: the request is none, or not signed by the key that it has. */
export async function signAgent(
  authority: Pem,
  host: string,
  csr: string,
  nowMs: number,
): Promise<{ readonly certificate: string; readonly spkiSha256: string } | null> {
  try {
    const request = new x509.Pkcs10CertificateRequest(csr);
    if (!(await request.verify())) return null;
    const certificate = await issue(authority, request.publicKey, `CN=${host}`, nowMs, [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
    ]);
    return { certificate, spkiSha256: spkiSha256(new X509Certificate(certificate)) };
  } catch {
    return null;
  }
}

/**
 * Whether a certificate is to be renewed: a third of its time is left for what may go wrong, or the
 * clock that it was made by was so far ahead that others may not believe it yet.
 */
export function isDue(certificate: string, nowMs: number): boolean {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
  return nowMs >= to - (to - from) / 3 || nowMs < from + EARLIER_MS / 2;
}

/** A key of an agent's own, or the one that it has in PEM, and the request to sign it. */
export async function makeRequest(
  host: string,
  key: string | null = null,
): Promise<{ readonly csr: string; readonly key: string }> {
  const keys = key === null ? await makeKeys() : await readKeys(key);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: `CN=${host}`,
    keys,
    signingAlgorithm: CURVE,
  });
  return { csr: request.toString('pem'), key: await pemOf(keys.privateKey) };
}

/** SHA-256 of a certificate's key (SubjectPublicKeyInfo, DER). */
export function spkiSha256({ publicKey }: X509Certificate): string {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}

async function issue(
  authority: Pem,
  publicKey: webcrypto.CryptoKey | x509.PublicKey,
  subject: string,
  nowMs: number,
  extensions: x509.Extension[],
): Promise<string> {
  const der = Buffer.from(authority.key.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
  const signingKey = await webcrypto.subtle.importKey('pkcs8', der, CURVE, false, ['sign']);
  const issuer = new x509.X509Certificate(authority.certificate);
  const certificate = await x509.X509CertificateGenerator.create({
    ...period(nowMs, LEAF_DAYS),
    serialNumber: serial(),
    subject,
    issuer: issuer.subject,
    publicKey,
    signingKey,
    signingAlgorithm: CURVE,
    extensions: [new x509.BasicConstraintsExtension(false, undefined, true), ...extensions],
  });
  return `${certificate.toString('pem')}\n`;
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  return keys as webcrypto.CryptoKeyPair;
}

async function readKeys(pem: string): Promise<webcrypto.CryptoKeyPair> {
  const own = createPrivateKey(pem);
  const [pkcs8, spki] = [
    own.export({ type: 'pkcs8', format: 'der' }),
    createPublicKey(own).export({ type: 'spki', format: 'der' }),
  ];
  const { subtle } = webcrypto;
  return {
    privateKey: await subtle.importKey('pkcs8', pkcs8, CURVE, true, ['sign']),
    publicKey: await subtle.importKey('spki', spki, CURVE, true, ['verify']),
  };
}

async function pemOf(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  const lines = der.toString('base64').match(/.{1,64}/g)!;
  return `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`;
}

function period(nowMs: number, days: number) {
  return {
    notBefore: new Date(nowMs - EARLIER_MS),
    notAfter: new Date(nowMs + days * DAY_MS),
  };
}

function serial(): string {
  return `40${randomBytes(15).toString('hex')}`;
}
