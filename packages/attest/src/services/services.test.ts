import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Bytes, toBase64, utf8 } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { AttestError } from '../core/errors.ts';
import { diskStore, referenceFolder } from '../node/disk-store.ts';
import { makeCertificate, NAME, type TestIssuer } from '../testing/certificates.ts';
import { answerOcsp } from '../testing/ocsp-responder.ts';
import { makeTokenService } from '../testing/token-service.ts';
import type { Http } from './http.ts';
import { ocspService } from './ocsp.ts';
import { firstReference, isReferenceFile, keptReferences, referenceService } from './references.ts';
import { fetchTokenKeys } from './token-keys.ts';

const RIM = utf8('<a/>');
const NOW_MS = Date.UTC(2026, 5, 1);
const http: Http = { fetch: globalThis.fetch, deadline: () => new AbortController().signal };

let server: Server;
let base: string;
let folder: string;
let ca: TestIssuer;
let issuer: Certificate;
let certificate: Certificate;
let keys: Bytes;
/** The paths that were asked for. */
let asked: string[] = [];

async function answer(path: string, body: Bytes): Promise<{ status: number; body: Bytes }> {
  if (path === '/v1/rim/GOOD') {
    return { status: 200, body: utf8(JSON.stringify({ id: 'GOOD', rim: toBase64(RIM) })) };
  }
  if (path === '/v1/rim/OTHER') {
    return { status: 200, body: utf8(JSON.stringify({ id: 'GOOD', rim: toBase64(RIM) })) };
  }
  if (path === '/v1/rim/HUGE') return { status: 200, body: new Uint8Array(3 * 1024 * 1024) };
  if (path === '/v1/rim/BUSY') return { status: 503, body: new Uint8Array() };
  if (path === '/keys') return { status: 200, body: keys };
  if (path === '/ocsp') return { status: 200, body: await answerOcsp(ca, body) };
  return { status: 404, body: utf8('{}') };
}

beforeAll(async () => {
  ca = await makeCertificate({ subject: [[NAME.common, 'CA']], issuer: null, isCa: true });
  const leaf = await makeCertificate({ subject: [[NAME.common, 'leaf']], issuer: ca });
  issuer = await parseCertificate(ca.der, 'the CA');
  certificate = await parseCertificate(leaf.der, 'the leaf');
  keys = (await makeTokenService()).keys;
  server = createServer(async (request, response) => {
    asked.push(request.url!);
    if (request.url === '/v1/rim/AWAY') {
      response.writeHead(302, { location: '/v1/rim/GOOD' }).end();
      return;
    }
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const { status, body } = await answer(request.url!, new Uint8Array(Buffer.concat(parts)));
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  asked = [];
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-services-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function codeOf(outcome: Promise<unknown>): Promise<string> {
  try {
    await outcome;
    return 'settled';
  } catch (error) {
    if (error instanceof AttestError) return error.code;
    throw error;
  }
}

describe('the service of references', () => {
  it('gives a RIM by its id, and null for one that it does not have', async () => {
    const service = referenceService(http, base);
    expect(await service.rim('GOOD')).toEqual(RIM);
    expect(await service.rim('UNKNOWN')).toBeNull();
  });

  it.each([
    ['OTHER', 'malformed'],
    ['HUGE', 'too-large'],
    ['BUSY', 'not-available'],
    ['AWAY', 'not-available'],
  ])('%s: %s', async (id, code) => {
    expect(await codeOf(referenceService(http, base).rim(id))).toBe(code);
  });

  it.each(['../keys', 'a/b', '', '.', 'a?b', 'a'.repeat(200)])(
    'is not asked for "%s"',
    async (id) => {
      expect(await referenceService(http, base).rim(id)).toBeNull();
      expect(await keptReferences(referenceService(http, base), diskStore(folder)).rim(id)).toBe(
        null,
      );
      expect(await referenceFolder(folder).rim(id)).toBeNull();
      expect(asked).toEqual([]);
    },
  );

  it('is given up when its time is over', async () => {
    const late: Http = { ...http, deadline: () => AbortSignal.abort() };
    expect(await codeOf(referenceService(late, base).rim('GOOD'))).toBe('not-available');
  });

  it('is asked once for what a store keeps', async () => {
    const store = diskStore(join(folder, 'cache'));
    const source = keptReferences(referenceService(http, base), store);
    expect(await source.rim('GOOD')).toEqual(RIM);
    expect(await source.rim('GOOD')).toEqual(RIM);
    expect(asked).toEqual(['/v1/rim/GOOD']);
    expect(await readdir(join(folder, 'cache'))).toEqual(['rim-GOOD.xml']);
  });

  it('is asked each time where nothing can be kept', async () => {
    await writeFile(join(folder, 'file'), '');
    const source = keptReferences(referenceService(http, base), diskStore(join(folder, 'file')));
    // Reading below a file fails as a fault of the system, which is not hidden.
    await expect(source.rim('GOOD')).rejects.toThrow(/ENOTDIR/);
  });
});

describe('files of references', () => {
  it('are named by their id, alone or behind other words', async () => {
    expect(isReferenceFile('NV_A_1.xml', 'NV_A_1')).toBe(true);
    expect(isReferenceFile('switchRim_NV_A_1.swidtag', 'NV_A_1')).toBe(true);
    expect(isReferenceFile('NV_A_1', 'NV_A_1')).toBe(false);
    expect(isReferenceFile('NV_A_12.xml', 'NV_A_1')).toBe(false);
    expect(isReferenceFile('XNV_A_1.xml', 'NV_A_1')).toBe(false);
  });

  it('are found in a folder or a list, first come first', async () => {
    await writeFile(join(folder, 'of_GOOD.xml'), RIM);
    const listed = { rim: async (id: string) => (id === 'ELSE' ? utf8('<b/>') : null) };
    const both = firstReference([listed, referenceFolder(folder)]);
    expect(await both.rim('GOOD')).toEqual(RIM);
    expect(await both.rim('ELSE')).toEqual(utf8('<b/>'));
    expect(await both.rim('NONE')).toBeNull();
  });
});

describe('the OCSP service', () => {
  const options = (changes: object = {}) => ({
    http,
    url: `${base}/ocsp`,
    nowMs: NOW_MS,
    nonce: () => crypto.getRandomValues(new Uint8Array(32)),
    store: null,
    ...changes,
  });

  it('is asked with a new nonce each time', async () => {
    const service = ocspService(options());
    expect(await service.status(certificate, issuer)).toBe('good');
    expect(await service.status(certificate, issuer)).toBe('good');
    expect(asked).toEqual(['/ocsp', '/ocsp']);
  });

  it('is asked once while its answer that was kept is fresh', async () => {
    const store = diskStore(folder);
    expect(await ocspService(options({ store })).status(certificate, issuer)).toBe('good');
    const offline = ocspService(options({ store, http: null }));
    expect(await offline.status(certificate, issuer)).toBe('good');
    expect(asked).toEqual(['/ocsp']);
    const later = ocspService(options({ store, http: null, nowMs: Date.UTC(2100, 1, 1) }));
    expect(await codeOf(later.status(certificate, issuer))).toBe('not-available');
  });

  it('is asked again where what was kept is damaged', async () => {
    const store = diskStore(folder);
    await store.put(`ocsp-${certificate.sha256}.der`, utf8('damaged'));
    expect(await ocspService(options({ store })).status(certificate, issuer)).toBe('good');
    expect(asked).toEqual(['/ocsp']);
  });

  it('is not there: no status', async () => {
    const service = ocspService(options({ url: `${base}/elsewhere` }));
    expect(await codeOf(service.status(certificate, issuer))).toBe('not-available');
    const offline = ocspService(options({ http: null }));
    expect(await codeOf(offline.status(certificate, issuer))).toBe('not-available');
  });
});

describe('keys of a token service', () => {
  it('are fetched', async () => {
    expect([...(await fetchTokenKeys(http, `${base}/keys`)).keys()]).toEqual(['test-key']);
    expect(await codeOf(fetchTokenKeys(http, `${base}/none`))).toBe('not-available');
  });
});
