import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makeCertificate } from '../testing/certificate.ts';
import { startTestServer } from '../testing/test-server.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-tls-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const { key, cert, exists } = makeCertificate(scratch);

// A certificate needs the openssl command to make it.
test.runIf(exists)('serves over TLS', async () => {
  const server = await startTestServer({}, { sslKeyfile: key, sslCertfile: cert });
  expect(server.url).toMatch(/^https:/);
  const status = await new Promise((resolve, reject) => {
    request(`${server.url}/health`, { rejectUnauthorized: false }, (reply) => {
      reply.resume();
      resolve(reply.statusCode);
    })
      .on('error', reject)
      .end();
  });
  expect(status).toBe(200);
  await server.stop(0);
});

test('says which file it cannot read', async () => {
  const start = startTestServer({}, { sslKeyfile: join(scratch, 'none'), sslCertfile: cert });
  await expect(start).rejects.toThrow(/--ssl-keyfile: cannot read .*ENOENT/);
});
