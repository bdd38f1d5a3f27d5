import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificate } from '@bridgekeeper/server/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { fetchReport } from './fetch-report.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-verify-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A server for one test: its address, what it was asked, and its end. */
async function serving(answer: RequestListener, tls?: { key: string; cert: string }) {
  const asked: { url: string; authorization: string | undefined }[] = [];
  const listener: RequestListener = (request, reply) => {
    asked.push({ url: request.url!, authorization: request.headers.authorization });
    answer(request, reply);
  };
  const files = tls && { key: readFileSync(tls.key), cert: readFileSync(tls.cert) };
  const server = files ? createTlsServer(files, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `${files ? 'https' : 'http'}://localhost:${port}`, asked, close };
}

describe('a server', () => {
  const nonceHex = 'ab'.repeat(32);
  const quick = new AbortController().signal;
  const ask = (url: string, apiKey?: string, signal = quick) =>
    fetchReport({ url, nonceHex, apiKey, signal });
  const good: RequestListener = (_, reply) => reply.end('{"a":1}');

  test('is asked at the path of the report, with nonce and key', async () => {
    const { url, asked, close } = await serving(good);
    const { bytes, tlsSpkiSha256 } = await ask(url, 'secret');
    expect(new TextDecoder().decode(bytes)).toBe('{"a":1}');
    expect(tlsSpkiSha256).toBeNull();
    await ask(`${url}/v1/`);
    await ask(`${url}/v1/attestation/report?signing_algo=ed25519`);
    const path = '/v1/attestation/report';
    expect(asked).toEqual([
      { url: `${path}?nonce=${nonceHex}`, authorization: 'Bearer secret' },
      { url: `${path}?nonce=${nonceHex}`, authorization: undefined },
      { url: `${path}?signing_algo=ed25519&nonce=${nonceHex}`, authorization: undefined },
    ]);
    close();
  });

  test('elsewhere is told no key over plain HTTP', async () => {
    for (const host of ['192.0.2.1', 'localhost.example', '127.0.0.1.example']) {
      await expect(ask(`http://${host}`, 'secret')).rejects.toThrow('no key is sent there');
    }
  });

  test('that refuses, moves, floods or falls silent is unreachable', async () => {
    const status = (code: number): RequestListener => {
      return (_, reply) => reply.writeHead(code, { location: '/' }).end();
    };
    for (const code of [302, 401, 404, 500]) {
      const { url, asked, close } = await serving(status(code));
      await expect(ask(url)).rejects.toThrow(`status ${code}`);
      expect(asked).toHaveLength(1);
      close();
    }
    const flood = await serving((_, reply) => {
      reply.on('error', () => {});
      reply.end(Buffer.alloc(8 * 1024 * 1024 + 1));
    });
    await expect(ask(flood.url)).rejects.toMatchObject({ code: 'too-large' });
    flood.close();
    const stop = new AbortController();
    const silent = await serving(() => stop.abort());
    await expect(ask(silent.url, undefined, stop.signal)).rejects.toThrow('no answer in time');
    silent.close();
    await expect(ask(silent.url)).rejects.toMatchObject({ code: 'unreachable' });
    await expect(ask('http://user:pass@localhost/')).rejects.toThrow(/not into the address/);
  });

  const certificate = makeCertificate(scratch);
  // A certificate needs the openssl command to make it.
  test.runIf(certificate.exists)(
    'shows its TLS key; a secret needs a vouched-for one',
    async () => {
      const { url, asked, close } = await serving(good, certificate);
      const command = 'openssl x509 -pubkey -noout -in cert.pem | openssl pkey -pubin -outform der';
      const pipe = `${command} | openssl dgst -sha256 -r`;
      const { stdout } = spawnSync('sh', ['-c', pipe], { cwd: scratch, encoding: 'utf8' });
      expect((await ask(url)).tlsSpkiSha256).toBe(stdout.slice(0, 64));
      await expect(ask(url, 'secret')).rejects.toThrow('NODE_EXTRA_CA_CERTS');
      expect(asked).toHaveLength(1);
      close();
    },
  );
});
