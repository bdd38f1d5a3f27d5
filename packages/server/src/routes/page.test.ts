import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../testing/test-server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({}, { apiKey: ['k'] });
});
afterAll(() => server.stop(0));

test('the page needs no key, holds everything, and may do nothing else', async () => {
  const response = await fetch(server.url);
  expect([response.status, response.headers.get('content-type')]).toEqual([
    200,
    'text/html; charset=utf-8',
  ]);
  const page = await response.text();
  const policy = response.headers.get('content-security-policy')!;
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("connect-src 'self'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain('unsafe');
  for (const tag of ['script', 'style']) {
    const inner = [...page.matchAll(new RegExp(`<${tag}>([^]*?)</${tag}>`, 'g'))];
    expect(inner).toHaveLength(1);
    const hash = createHash('sha256').update(inner[0]![1]!).digest('base64');
    expect(policy).toContain(`${tag}-src 'sha256-${hash}'`);
  }
  // Nothing from elsewhere, and nothing that the policy would not let run.
  expect(page).not.toMatch(/\s(src|href|style|on\w+)=|https?:|innerHTML/);
  expect((await fetch(`${server.url}/v1/models`)).status).toBe(401);
});
