import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bytes, fromHex } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate.ts';
import { readSnpKey } from '../cpu/snp-key.ts';
import { readTdxCollateral } from '../cpu/tdx-collateral.ts';
import { readTdxQuote, type TdxQuote } from '../cpu/tdx-quote.ts';
import { makeIntelAuthority, makeTdxCollateral } from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import {
  type AmdAuthority,
  makeAmdAuthority,
  makeAmdRevocationList,
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
