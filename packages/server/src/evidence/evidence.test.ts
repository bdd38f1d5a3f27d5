import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import {
  appraiseReceipt,
  appraiseServerReport,
  expectedReportData,
  readReceiptLinks,
  readServerReport,
  readSignedReceipt,
  verifyReceipt,
  verifyReceiptChain,
} from '@bridgekeeper/attest';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { makeCertificate } from '../testing/certificate.ts';
import { startTestServer, type TestServer } from '../testing/test-server.ts';
import { until } from '../testing/until.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-evidence-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const running: TestServer[] = [];
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop(0);
});

async function start(...[options, flags, machine]: Parameters<typeof startTestServer>) {
  const server = await startTestServer(options, { receipts: 'memory', ...flags }, machine);
  running.push(server);
  return server;
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

async function get({ url }: TestServer, path: string, headers: Record<string, string> = {}) {
  const reply = await fetch(`${url}${path}`, { headers });
  return { status: reply.status, text: await reply.text() };
}

async function keyOf(server: TestServer): Promise<string> {
  return JSON.parse((await get(server, '/v1/receipts/key')).text).public_key;
}

const PROMPT = { prompt: [5, 6, 7], max_tokens: 6 };

describe('receipts', () => {
  it.each([
    ['in one piece', '/v1/completions', PROMPT],
    ['as a stream', '/v1/completions', { ...PROMPT, stream: true }],
    [
      'of a conversation',
      '/v1/chat/completions',
      { messages: [{ role: 'user', content: 'hello' }], max_tokens: 6, stream: true },
    ],
  ])('of an answer %s are of the bytes that were sent', async (_, path, body) => {
    const server = await start();
    const sent = JSON.stringify(body, null, 1);
    const reply = await server.post(path, sent);
    const got = await reply.text();
    const id = reply.headers.get('x-receipt-id');
    const signed = readSignedReceipt((await get(server, `/v1/receipts/${id}`)).text);
    const key = await keyOf(server);
    await verifyReceipt(signed, key);
    expect(signed.receipt).toMatchObject({
      id,
      outcome: 'complete',
      model: 'storyteller',
      policy: 'drain-first',
      law: 'off',
      tokens: { cached: 0, generated: 6 },
    });
    const known = { requestSha256: sha256(sent), responseSha256: sha256(got) };
    const claims = await appraiseReceipt(signed, { key, keyIsProven: false, ...known });
    expect(claims.map(({ status }) => status)).toEqual(Array(3).fill('unverified'));
  });

  it('of an answer that its client left say that it was cut', async () => {
    const server = await start({ pace: 'by-hand' });
    const controller = new AbortController();
    const reply = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ ...PROMPT, stream: true }),
      signal: controller.signal,
    });
    const id = reply.headers.get('x-receipt-id');
    server.stub.step();
    controller.abort();
    await server.untilOpen(0);
    // The engine is done with the request a little before the receipt is signed.
    let receipt = { status: 0, text: '' };
    await until('there is a receipt', async () => {
      receipt = await get(server, `/v1/receipts/${id}`);
      return receipt.status === 200;
    });
    expect(readSignedReceipt(receipt.text).receipt.outcome).toBe('cut');
  });

  it('belong to the key that asked, and stand in one chain', async () => {
    const server = await start({}, { apiKey: ['one', 'two'], operatorKey: ['three'] });
    const as = (key: string) => ({ Authorization: `Bearer ${key}` });
    const ids: string[] = [];
    for (const key of ['one', 'two', 'one']) {
      const reply = await server.post('/v1/completions', PROMPT, as(key));
      await reply.text();
      ids.push(reply.headers.get('x-receipt-id')!);
    }
    expect((await get(server, `/v1/receipts/${ids[0]}`)).status).toBe(401);
    expect((await get(server, `/v1/receipts/${ids[0]}`, as('two'))).status).toBe(404);
    const own = [ids[0], ids[2]].map(async (id) =>
      readSignedReceipt((await get(server, `/v1/receipts/${id}`, as('one'))).text),
    );
    expect((await get(server, '/v1/receipts/links', as('two'))).status).toBe(403);
    const links = readReceiptLinks((await get(server, '/v1/receipts/links', as('three'))).text);
    const key = JSON.parse((await get(server, '/v1/receipts/key', as('one'))).text);
    expect(await verifyReceiptChain(links, await Promise.all(own), key.public_key)).toBe(
      key.chain.hash,
    );
    expect(key).toMatchObject({ is_durable: false, since_start: { written: 3, lost: 0 } });
  });

  it('of failures are not promised, and unknown ones are not found', async () => {
    const server = await start();
    const refused = await server.post('/v1/completions', { ...PROMPT, model: 'none' });
    expect(refused.headers.get('x-receipt-id')).toBeNull();
    const unknown = await get(server, '/v1/receipts/rcpt_none');
    expect(unknown).toMatchObject({ status: 404 });
    expect(unknown.text).toContain('receipt_not_found');
    expect((await get(server, '/v1/receipts/links?count=5000')).status).toBe(400);
    expect((await get(server, '/metrics')).text).toContain(
      'bridgekeeper:receipts_total{outcome="lost"',
    );
  });

  it('are promised while they can be kept, and the answer says where', async () => {
    const inMemory = await start();
    const reply = await inMemory.post('/v1/completions', PROMPT);
    expect(reply.headers.get('x-receipt-kept')).toBe('memory');
    const file = join(scratch, 'promised/receipts.sqlite');
    const server = await start({}, { receipts: file });
    const promisedTo = async (body: object) => {
      const { headers } = await server.post('/v1/completions', body);
      const [id, kept] = ['x-receipt-id', 'x-receipt-kept'].map((name) => headers.get(name));
      expect(kept).toBe(id === null ? null : 'disk');
      return id;
    };
    const first = await promisedTo(PROMPT);
    renameSync(file, `${file}.away`);
    for (const body of [PROMPT, { ...PROMPT, stream: true }]) {
      await until('none is promised', async () => (await promisedTo(body)) === null);
    }
    renameSync(`${file}.away`, file);
    await until('receipts are promised again', async () => (await promisedTo(PROMPT)) !== null);
    expect((await get(server, `/v1/receipts/${first}`)).status).toBe(200);
    const { is_durable, since_start: counts } = JSON.parse(
      (await get(server, '/v1/receipts/key')).text,
    );
    expect(is_durable).toBe(true);
    expect(counts.withheld).toBeGreaterThanOrEqual(2);
    expect(counts).toMatchObject({ lost: 0 });
    const metrics = (await get(server, '/metrics')).text;
    expect(metrics).toMatch(/bridgekeeper:receipts_total\{outcome="withheld".*\} [1-9]/);
  });

  it('can be left out', async () => {
    const server = await start({}, { receipts: 'off' });
    const reply = await server.post('/v1/completions', PROMPT);
    expect(reply.headers.get('x-receipt-id')).toBeNull();
    for (const path of ['key', 'links', 'x']) {
      expect((await get(server, `/v1/receipts/${path}`)).status).toBe(404);
    }
  });

  it('are refused a file that cannot be had, at the start', async () => {
    await expect(start({}, { receipts: join(scratch, 'x/\0') })).rejects.toThrow('--receipts');
  });
});

const NONCE = 'a5'.repeat(32);
const nonce = Uint8Array.from(Buffer.from(NONCE, 'hex'));

describe('the report', () => {
  it('says plainly that there is no TEE, and binds what it can by its signature', async () => {
    const server = await start();
    const { text } = await get(server, `/v1/attestation/report?nonce=${NONCE}`);
    const report = readServerReport(text);
    expect(report.statement).toMatchObject({
      nonce: NONCE,
      tee: 'none',
      tlsSpkiSha256: null,
      receiptKey: await keyOf(server),
      receiptChain: { sequence: 0, hash: null },
      gpuEvidenceSha256: null,
      model: { name: 'storyteller', covers: 'headers' },
    });
    expect(report.notes.join('\n')).toContain('no TEE');
    expect(report.configuration).toMatchObject({ 'max-num-seqs': 64, tls: false, receipts: true });
    const nowMs = report.statement!.issuedAt * 1000;
    const context = { nowMs, nonce, quote: null, connectionSpkiSha256: null };
    const claims = await appraiseServerReport(report, context);
    expect(claims.filter(({ status }) => status !== 'unverified')).toEqual([]);
    expect(claims.map(({ kind }) => kind)).toContain('server.signature');
  });

  it("has the shape that other services' clients read, where they ask for it", async () => {
    const server = await start();
    const query = `nonce=${NONCE}&signing_algo=ed25519`;
    const { text } = await get(server, `/v1/attestation/report?${query}`);
    const document = JSON.parse(text);
    const key = await keyOf(server);
    expect(document).toMatchObject({
      signing_address: key,
      signing_algo: 'ed25519',
      request_nonce: NONCE,
      intel_quote: null,
      nvidia_payload: null,
      bridgekeeper: { binding: 'signing-address', report_data: key + NONCE },
    });
    expect(document.all_attestations).toHaveLength(1);
  });

  it('draws a nonce where none was given, and refuses what it cannot give', async () => {
    const server = await start({}, { receipts: 'off' });
    const first = JSON.parse((await get(server, '/v1/attestation/report')).text);
    const second = JSON.parse((await get(server, '/v1/attestation/report')).text);
    expect(first.request_nonce).not.toBe(second.request_nonce);
    const refused = ['nonce=xyz', 'signing_algo=ecdsa', 'signing_algo=ed25519'];
    for (const query of refused) {
      expect((await get(server, `/v1/attestation/report?${query}`)).status).toBe(400);
    }
    const short = await get(server, '/v1/attestation/report?nonce=xyz');
    expect(JSON.parse(short.text).error.message).toBe('nonce must be 64 hex digits.');
    const other = await get(server, `/v1/attestation/report?signing_address=${'0'.repeat(64)}`);
    expect(other.status).toBe(404);
  });

  it('is quoted by the CPU where there is one that quotes', async () => {
    const socket = join(scratch, 'dstack.sock');
    const quoted: string[] = [];
    const agent = createServer(async (incoming, outgoing) => {
      const { report_data } = JSON.parse(await textOf(incoming));
      if (incoming.url === '/Info') return outgoing.end('{"app_id":"a"}');
      quoted.push(report_data);
      const quote = { quote: `04${report_data}`, event_log: '[]', report_data, vm_config: '{}' };
      return outgoing.end(JSON.stringify(quote));
    });
    agent.listen(socket);
    await once(agent, 'listening');
    const server = await start({}, {}, { dstackSockets: [socket], nvmlLibrary: '/nonexistent' });
    for (const binding of ['', '&signing_algo=ed25519']) {
      const { text } = await get(server, `/v1/attestation/report?nonce=${NONCE}${binding}`);
      const report = readServerReport(text);
      const expected = await expectedReportData(report);
      expect(quoted.at(-1)).toBe(Buffer.from(expected).toString('hex'));
      expect(report).toMatchObject({
        tdxQuote: Uint8Array.of(4, ...expected),
        statement: { tee: 'tdx' },
        eventLog: '[]',
        vmConfig: '{}',
        info: { app_id: 'a' },
      });
    }
    // An agent that is gone is said to be, rather than what it said before.
    agent.close();
    agent.closeAllConnections();
    const { text } = await get(server, `/v1/attestation/report?nonce=${NONCE}`);
    const report = readServerReport(text);
    expect(report).toMatchObject({ tdxQuote: null, statement: { tee: 'none' } });
    expect(report.notes.join()).toContain('no TEE');
  });

  it('needs the key of the API, like everything else', async () => {
    const server = await start({}, { apiKey: ['one'] });
    expect((await get(server, '/v1/attestation/report')).status).toBe(401);
  });
});

const { key, cert, exists } = makeCertificate(scratch);

// A certificate needs the openssl command to make it.
it.runIf(exists)('the report names the TLS key that the connection shows', async () => {
  const server = await start({}, { sslKeyfile: key, sslCertfile: cert });
  const path = `${server.url}/v1/attestation/report?nonce=${NONCE}&include_tls_fingerprint=true`;
  const { text, shown } = await new Promise<{ text: string; shown: string }>((resolve, reject) => {
    request(path, { rejectUnauthorized: false }, async (reply) => {
      const { publicKey } = (reply.socket as TLSSocket).getPeerX509Certificate()!;
      const spki = publicKey.export({ type: 'spki', format: 'der' });
      const shown = createHash('sha256').update(spki).digest('hex');
      resolve({ text: await textOf(reply), shown });
    })
      .on('error', reject)
      .end();
  });
  const report = readServerReport(text);
  expect(report).toMatchObject({ binding: 'signing-address-tls' });
  expect(report.statement?.tlsSpkiSha256).toBe(shown);
  expect(JSON.parse(text).tls_cert_fingerprint).toBe(shown);
  const tls = 'ff'.repeat(32);
  const context = { nowMs: 0, nonce, quote: null, connectionSpkiSha256: tls };
  const elsewhere = await appraiseServerReport(report, context);
  expect(elsewhere.find(({ kind }) => kind === 'server.tls')).toMatchObject({
    code: 'binding-mismatch',
  });
});
