import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bytes, fromHex } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { readSnpKey } from '../cpu/snp-key.ts';
import { readSnpReport } from '../cpu/snp-report.ts';
import { readTdxCollateral } from '../cpu/tdx-collateral.ts';
import { readTdxQuote, type TdxQuote } from '../cpu/tdx-quote.ts';
import { toPem } from '../testing/certificates.ts';
import { makeIntelAuthority, makeTdxCollateral } from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import {
  type AmdAuthority,
  makeAmdAuthority,
  makeAmdRevocationList,
  makeSnpReport,
} from '../testing/snp-authority.ts';
import { collateralService } from './collateral.ts';
import type { Http } from './http.ts';

const http: Http = { fetch: globalThis.fetch, deadline: () => new AbortController().signal };

let base: string;
let amd: AmdAuthority;
let quote: TdxQuote;
let collateral: string;
let amdList: Bytes;
let asked: string[] = [];
/** What the service answers otherwise than it should, by the beginning of a path. */
let odd: [path: string, answer: (response: ServerResponse) => void] | null = null;

const server = createServer((request: IncomingMessage, response) => {
  const path = request.url!;
  asked.push(path);
  if (odd !== null && path.startsWith(odd[0])) return odd[1](response);
  const fields = JSON.parse(collateral) as Record<string, string>;
  const chain = (name: string, field: string) =>
    response.setHeader(name, encodeURIComponent(fields[field]!));
  const signed = (key: string, field: string) =>
    response.end(`{"${key}":${fields[field]},"signature":"${fields[`${field}_signature`]}"}`);
  if (path.includes('/pckcrl')) {
    chain('SGX-PCK-CRL-Issuer-Chain', 'pck_crl_issuer_chain');
    return response.end(fromHex(fields.pck_crl!, 'the list'));
  }
  if (path.includes('/tcb?')) {
    chain('TCB-Info-Issuer-Chain', 'tcb_info_issuer_chain');
    return signed('tcbInfo', 'tcb_info');
  }
  if (path.includes('/qe/identity')) {
    chain('SGX-Enclave-Identity-Issuer-Chain', 'qe_identity_issuer_chain');
    return signed('enclaveIdentity', 'qe_identity');
  }
  if (path.endsWith('/crl')) return response.end(amdList);
  if (path.endsWith('/cert_chain')) return response.end(toPem([amd.ask, amd.ark]));
  if (path.includes('SPL=')) return response.end(amd.key.der);
  return response.end(fromHex(fields.root_ca_crl!, 'the list'));
});

beforeAll(async () => {
  amd = await makeAmdAuthority('Milan');
  const authority = await makeIntelAuthority();
  collateral = await makeTdxCollateral(authority);
  amdList = await makeAmdRevocationList(amd, true);
  quote = await readTdxQuote(await makeTdxQuote(authority));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const service = () =>
  collateralService(http, { intel: base, intelRootList: `${base}/root.der`, amd: base });
const fetchIt = () => service().collateral(quote);

test('collateral of the platform that the quote names, to the byte', async () => {
  asked = [];
  const [fetched, given] = [await fetchIt(), await readTdxCollateral(collateral)];
  for (const part of ['tcbInfo', 'qeIdentity'] as const) {
    const { text, signature, signers } = given[part];
    expect(fetched[part]).toMatchObject({ text, signature });
    expect(fetched[part].signers.map(({ der }) => der)).toEqual(signers.map(({ der }) => der));
  }
  expect([fetched.pckCrl.signedBytes, fetched.rootCrl.signedBytes]).toEqual([
    given.pckCrl.signedBytes,
    given.rootCrl.signedBytes,
  ]);
  expect(asked.sort()).toEqual([
    '/root.der',
    '/sgx/certification/v4/pckcrl?ca=platform&encoding=der',
    '/tdx/certification/v4/qe/identity',
    '/tdx/certification/v4/tcb?fmspc=00a06f000000',
  ]);
});

test.each<[string, string, (response: ServerResponse) => void, string]>([
  [
    'an unknown platform',
    '/tdx/certification/v4/tcb',
    (r) => r.writeHead(404).end(),
    'not-available',
  ],
  ['a service out of order', '/root.der', (r) => r.writeHead(500).end(), 'not-available'],
  ['an answer without its chain', '/tdx/certification/v4/qe', (r) => r.end('{}'), 'malformed'],
  [
    'an answer that is no statement',
    '/tdx/certification/v4/tcb',
    (r) => r.setHeader('TCB-Info-Issuer-Chain', 'x').end('{"tcbInfo":1}'),
    'malformed',
  ],
  [
    'a header that is not encoded',
    '/sgx/',
    (r) => r.setHeader('SGX-PCK-CRL-Issuer-Chain', '%').end('x'),
    'malformed',
  ],
  ['too long an answer', '/root.der', (r) => r.end(Buffer.alloc(600_000)), 'too-large'],
])('%s is an error', async (_, path, answer, code) => {
  odd = [path, answer];
  await expect(fetchIt()).rejects.toMatchObject({ code });
  odd = null;
});

test('what AMD revoked, by the product and the kind of key', async () => {
  asked = [];
  const key = readSnpKey(await parseCertificate(amd.key.der, 'the VCEK'));
  expect((await service().snpRevocationList(key)).revokedSerials.size).toBe(1);
  await service().snpRevocationList({ ...key, providerId: 'cloud.example' });
  expect(asked).toEqual(['/vcek/v1/Milan/crl', '/vlek/v1/Milan/crl']);
});

test("AMD's certificates above a key, and that of the key by chip and firmware", async () => {
  asked = [];
  const namesOf = (certificates: readonly Certificate[]) =>
    certificates.map(({ commonName }) => commonName);
  const report = readSnpReport(await makeSnpReport(amd));
  const key = readSnpKey(await parseCertificate(amd.key.der, 'the VCEK'));
  const above = ['SEV-Milan', 'ARK-Milan'];
  expect(namesOf(await service().snpCertificates(report, key))).toEqual(above);
  const provider = { ...key, providerId: 'cloud.example' };
  expect(namesOf(await service().snpCertificates(report, provider))).toEqual(above);
  expect(namesOf(await service().snpCertificates(report, null))).toEqual(['SEV-VCEK', ...above]);
  expect(asked.slice(0, 2)).toEqual(['/vcek/v1/Milan/cert_chain', '/vlek/v1/Milan/cert_chain']);
  // These two are asked for at the same time.
  expect(asked.slice(2).sort()).toEqual([
    `/vcek/v1/Milan/${'c1'.repeat(64)}?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115`,
    '/vcek/v1/Milan/cert_chain',
  ]);
});

test('a key of Turin is named by eight bytes of its chip, and by its FMC', async () => {
  asked = [];
  const turin = await makeAmdAuthority('Turin');
  await service().snpCertificates(readSnpReport(await makeSnpReport(turin)), null);
  const path = `/vcek/v1/Turin/${'c1'.repeat(8)}`;
  expect(asked).toContain(`${path}?fmcSPL=1&blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115`);
});

test.each([
  ['hides its chip', { chipId: new Uint8Array(64) }],
  ['does not name its CPU', { version: 2 }],
  ["is signed with a provider's key", { keyFlags: 4 }],
])('the key of a report that %s cannot be asked for', async (_, changes) => {
  asked = [];
  const report = readSnpReport(await makeSnpReport(amd, changes));
  const code = 'not-available';
  await expect(service().snpCertificates(report, null)).rejects.toMatchObject({ code });
  expect(asked).toEqual([]);
});

test("AMD's certificates are kept, and asked for again where they are damaged", async () => {
  const kept = new Map<string, Bytes>();
  const store = {
    get: async (name: string) => kept.get(name) ?? null,
    put: async (name: string, bytes: Bytes) => void kept.set(name, bytes),
  };
  const addresses = { intel: base, intelRootList: base, amd: base };
  const keeping = collateralService(http, addresses, store);
  const report = readSnpReport(await makeSnpReport(amd));
  await keeping.snpCertificates(report, null);
  asked = [];
  expect(await keeping.snpCertificates(report, null)).toHaveLength(3);
  expect(asked).toEqual([]);
  for (const name of kept.keys()) kept.set(name, new Uint8Array(4));
  expect(await keeping.snpCertificates(report, null)).toHaveLength(3);
  expect(asked).toHaveLength(2);
});
