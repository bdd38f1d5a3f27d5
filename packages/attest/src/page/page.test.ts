import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toHex } from '../core/bytes.ts';
import { hasBrowser, launchBrowser } from '../testing/browser.ts';
import { makeService } from '../testing/service.ts';
import { hasVectors, readVector } from '../testing/vectors.ts';

const PAGE_URL = 'http://localhost/verify.html';
const SERVER = 'https://server.example';

interface Built {
  readonly html: string;
  readonly library: string;
}

describe.runIf(hasBrowser('the page that verifies'))('the page that verifies', () => {
  let browser: Browser;
  let page: Page;
  let built: Built;
  /** What the page asked for, apart from itself, and what its policy or the browser objected to. */
  const requests: string[] = [];
  const complaints: string[] = [];
  /** Of the server; null: the browser lets the page see none, as with CORS. */
  let answer: { readonly status: number; readonly body: Buffer } | null = null;

  beforeAll(async () => {
    const script = new URL('../../../../scripts/page.mjs', import.meta.url);
    const { buildPage } = (await import(script.href)) as { buildPage: () => Promise<Built> };
    built = await buildPage();
    browser = await launchBrowser();
    page = await browser.newPage();
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.route('**/*', (route) => {
      const url = route.request().url();
      if (url === PAGE_URL) return route.fulfill({ contentType: 'text/html', body: built.html });
      requests.push(url);
      return answer === null ? route.abort('accessdenied') : route.fulfill(answer);
    });
  });

  afterAll(() => browser?.close());

  /** Loads the page anew, verifies, and returns what it shows. */
  async function verify(fill: (page: Page) => Promise<unknown>): Promise<string> {
    requests.length = 0;
    complaints.length = 0;
    await page.goto(PAGE_URL);
    await fill(page);
    await page.click('button');
    await page.waitForSelector('#output .result');
    return (await page.textContent('#output'))!;
  }

  const choose = (...files: readonly (readonly [name: string, bytes: Uint8Array])[]) =>
    page.setInputFiles(
      '#files',
      files.map(([name, bytes]) => ({
        name,
        mimeType: 'application/octet-stream',
        buffer: Buffer.from(bytes),
      })),
    );

  test('tells statuses apart by word and outline, and asks nobody', async () => {
    const { files, nonce } = await makeService();
    const text = await verify(async () => {
      await choose(...files);
      await page.fill('#nonce', toHex(nonce));
    });
    expect(text).toContain('REFUSED under “evidence”');
    expect(text).toContain('[root-not-pinned]');
    for (const word of ['refused', 'not verified']) expect(text).toContain(word);
    const outlines = (status: string) =>
      page.$$eval(`.claim .sign.${status} .outline`, (paths) => [
        ...new Set(paths.map((path) => path.getAttribute('d'))),
      ]);
    const [refused, unverified] = [await outlines('refused'), await outlines('unverified')];
    expect([refused.length, unverified.length]).toEqual([1, 1]);
    expect(refused).not.toEqual(unverified);
    expect(requests).toEqual([]);
    expect(complaints).toEqual([]);
  });

  test('asks the typed address with a nonce of its own, and refuses an old answer', async () => {
    const { files } = await makeService();
    answer = { status: 200, body: Buffer.from(files.get('report.json')!) };
    const text = await verify(() => page.fill('#address', SERVER));
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatch(
      /^https:\/\/server\.example\/v1\/attestation\/report\?nonce=[0-9a-f]{64}$/,
    );
    expect(text).toContain('REFUSED under “service”');
    expect(text).toContain('[nonce-mismatch]');
    expect(complaints).toEqual([]);
  });

  test('says what cannot be read, and never takes what it shows for markup', async () => {
    const markup = '<img src=x onerror=alert(1)>';
    const unknown = await verify(() => choose([markup, new Uint8Array([1, 2, 3])]));
    expect(unknown).toContain(markup);
    expect(await page.$$('#output img')).toEqual([]);
    expect(await verify(async () => {})).toContain('Choose a file');
    const short = await verify(async () => {
      await choose(['x', new Uint8Array(4)]);
      await page.fill('#nonce', 'ab');
    });
    expect(short).toContain('64 hexadecimal digits');
    answer = { status: 404, body: Buffer.from('') };
    expect(await verify(() => page.fill('#address', SERVER))).toContain('status 404');
    answer = null;
    expect(await verify(() => page.fill('#address', SERVER))).toContain('--allowed-origins');
  });

  test('forbids all but its own script and style', () => {
    const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(built.html)!;
    expect(policy).toMatch(/^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-/);
    expect(policy).not.toMatch(/unsafe|\*(?!;)(?!$)(?! )/);
    expect(built.html).not.toMatch(/<(script|link|img)[^>]+(src|href)="(?!data:)/);
    expect(built.library).toMatch(/export\s*\{/);
    expect(built.library).not.toMatch(/^import /m);
  });

  test.runIf(hasVectors('real evidence on the page'))('verifies a real board', async () => {
    const names = ['hgx-h100-8gpu-evidence.json', 'hgx-h100-4switch-evidence.json'];
    const text = await verify(() =>
      choose(...names.map((name) => [name, readVector(`nvidia/${name}`)] as const)),
    );
    expect(text).toContain('VERIFIED under “evidence”');
    expect(text).toMatch(/GPU-7: .*verified/);
    expect(text).toMatch(/SWITCH-3: .*verified/);
  });
});
