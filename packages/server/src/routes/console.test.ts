import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../start.ts';
import { startBundledModel } from '../testing/bundled-model.ts';
import { startTestServer } from '../testing/test-server.ts';

const executablePath = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';
const hasBrowser = existsSync(executablePath);
if (!hasBrowser) {
  const missing = `there is no Chromium at ${executablePath} (CHROMIUM_PATH names another)`;
  process.stderr.write(`Not tested, as ${missing}: the console.\n`);
}

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const PAGES = ['bridge', 'requests', 'kv', 'evidence', 'chat', 'rules'] as const;

test('who watches needs an operator key, who looks at requests sees his own', async () => {
  const server = await startTestServer({}, { apiKey: ['one', 'two'], operatorKey: ['op'] });
  const get = (path: string, key: string) =>
    fetch(`${server.url}${path}`, { headers: { Authorization: `Bearer ${key}` } });
  try {
    expect((await fetch(`${server.url}/console`)).status).toBe(200);
    expect((await fetch(`${server.url}/console/none.js`)).status).toBe(404);
    expect((await fetch(`${server.url}/v1/requests`)).status).toBe(401);
    expect((await get('/v1/bridge/events', 'one')).status).toBe(403);
    // A synthetic engine has no lanes to look at.
    expect((await get('/v1/bridge/timeline', 'op')).status).toBe(404);
    const body = { model: 'storyteller', prompt: 'A secret', max_tokens: 4 };
    const authorization = { Authorization: 'Bearer one', 'X-Request-Id': 'mine-1' };
    expect((await server.post('/v1/completions', body, authorization)).status).toBe(200);
    const own = await (await get('/v1/requests', 'one')).text();
    expect(JSON.parse(own)).toMatchObject({
      has_more: false,
      data: [{ id: 'mine-1', state: 'done', generated_tokens: 4, finish_reasons: ['length'] }],
    });
    expect(own).not.toContain('secret');
    expect(await (await get('/v1/requests', 'two')).json()).toMatchObject({ data: [] });
    expect((await get('/v1/requests/mine-1', 'two')).status).toBe(404);
    expect((await get('/v1/requests/mine-1', 'op')).status).toBe(200);
    for (const limit of ['0', '201', 'x', '-1', '']) {
      expect((await get(`/v1/requests?limit=${limit}`, 'op')).status).toBe(400);
    }
  } finally {
    await server.stop(0);
  }
});

test('lists of requests are paged, newest first, and bounded', async () => {
  const server = await startTestServer();
  const ids = Array.from({ length: 5 }, (_, at) => `request-${at}`);
  try {
    for (const id of ids) {
      const body = { model: 'storyteller', prompt: 'x', max_tokens: 1 };
      await server.post('/v1/completions', body, { 'X-Request-Id': id });
    }
    const page = async (query: string) => {
      const list = await (await fetch(`${server.url}/v1/requests?${query}`)).json();
      const { data, has_more } = list as { data: { id: string }[]; has_more: boolean };
      return [data.map(({ id }) => id), has_more];
    };
    expect(await page('limit=2')).toEqual([['request-4', 'request-3'], true]);
    expect(await page('limit=2&before=request-3')).toEqual([['request-2', 'request-1'], true]);
    expect(await page('limit=2&before=request-1')).toEqual([['request-0'], false]);
  } finally {
    await server.stop(0);
  }
});

describe.runIf(hasBrowser)('the console in a browser', () => {
  let server: RunningServer;
  let browser: Browser;
  let page: Page;
  /** What the browser objected to, and what was asked of anybody but this server. */
  const complaints: string[] = [];
  const elsewhere: string[] = [];

  beforeAll(async () => {
    server = await startBundledModel({ law: 'emulate:b300-cc', receipts: 'memory' });
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
    // The page's policy lets nothing else run, and that is what axe is.
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    page = await context.newPage();
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => {
      if (!request.url().startsWith(server.url)) elsewhere.push(request.url());
    });
  }, 90_000);

  afterAll(async () => {
    await browser?.close();
    await server?.stop(0);
  });

  const open = async (name: string) => {
    await page.goto(`${server.url}/console#/${name}`);
    await page.waitForSelector('h1');
  };

  test('says the verdict before anything is typed, and what an answer cost', async () => {
    await open('chat');
    await page.waitForSelector('.verdict:has-text("REFUSED")');
    await page.getByLabel('Your message').fill('Once upon a time');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.turn small:has-text("crossings")', { timeout: 60_000 });
    const said = await page.locator('.turn.assistant small').textContent();
    expect(said).toMatch(/^\d+ tokens, \d+ a second, the first after \d+ ms; \d+ crossings with /);
    await page.getByText('Its life, receipt').click();
    await page.waitForSelector('h1:has-text("Request")');
    await page.getByRole('button', { name: 'Receipt' }).click();
    await page.waitForSelector('pre:has-text("bridgekeeper.receipt.v1")');
  }, 90_000);

  test('draws lanes, pauses by the keyboard, sums what is selected', async () => {
    await open('bridge');
    await page.waitForSelector('.freshness.live');
    const ask = fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ model: server.modelName, prompt: 'Once', max_tokens: 100 }),
    });
    await ask;
    await page.waitForSelector('th:has-text("▼ tokens")');
    await page.locator('canvas.lanes').focus();
    await page.keyboard.press('Space');
    await page.waitForSelector('button[aria-pressed="true"]');
    const box = (await page.locator('canvas.lanes').boundingBox())!;
    // A timeline without lanes would be two rows high.
    expect(box.height).toBeGreaterThan(150);
    for (let press = 0; press < 4; press++) await page.keyboard.press('-');
    await page.mouse.move(box.x + 150, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width - 2, box.y + 50);
    await page.mouse.up();
    await page.waitForSelector('caption:has-text("Selected")');
    await page.waitForSelector('caption ~ tbody th:has-text("▼ tokens")');
    await page.keyboard.press('Escape');
    await page.waitForSelector('caption', { state: 'detached' });
    const saving = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Perfetto' }).click();
    const trace = JSON.parse(await readFile((await (await saving).path())!, 'utf8'));
    const names = new Set(trace.traceEvents.map(({ name }: { name: string }) => name));
    expect(names).toContain('tokens');
    expect(names).toContain('decode');
  }, 90_000);

  test('opens a recording from a file, and refuses what is none', async () => {
    await open('bridge');
    const crossings = [[0, 0, 500, 100, 20, 0, 64, 1]];
    const moment = { seq: 1, now_us: 1_000, server_us: 0, lanes: ['drain'], crossings };
    const moments = [{ ...moment, launches: [], dropped: 0 }];
    const recording = {
      device: 'cuda',
      accounts: [{ purpose: 'tokens', direction: 'd2h' }],
      moments,
    };
    const give = (name: string, text: string) =>
      page.setInputFiles('input[type=file]', {
        name,
        mimeType: 'application/json',
        buffer: Buffer.from(text),
      });
    await give('none.json', '{"moments": 3}');
    await page.waitForSelector('.problem:has-text("none.json is no recording")');
    await give('mine.json', JSON.stringify(recording));
    await page.waitForSelector('.freshness:has-text("from mine.json")');
    await page.getByRole('button', { name: 'Back to live' }).click();
    await page.waitForSelector('.freshness.live');
  }, 90_000);

  test('nothing on any page is out of reach, in light and dark', async () => {
    const axe = await readFile(AXE, 'utf8');
    for (const colorScheme of ['light', 'dark'] as const) {
      // Only this context lets axe in; everything else is tested under the page's own policy.
      const context = await browser.newContext({ bypassCSP: true, colorScheme });
      const looked = await context.newPage();
      for (const name of PAGES) {
        await looked.goto(`${server.url}/console#/${name}`);
        await looked.waitForSelector('h1');
        if (name === 'evidence') await looked.waitForSelector('.result', { timeout: 60_000 });
        await looked.evaluate(axe);
        const violations = await looked.evaluate('axe.run().then(({ violations }) => violations)');
        const found = (violations as { id: string; nodes: { html: string }[] }[]).map(
          ({ id, nodes }) => `${name}, ${colorScheme}: ${id}: ${nodes[0]?.html}`,
        );
        expect(found).toEqual([]);
      }
      await context.close();
    }
  }, 120_000);

  test('asked nobody else, and the browser objected to nothing', () => {
    expect(elsewhere).toEqual([]);
    expect(complaints).toEqual([]);
  });

  test('tells how old what it shows is when the server is gone', async () => {
    await open('bridge');
    await page.waitForSelector('.freshness.live');
    await server.stop(0);
    await page.waitForSelector('.freshness.old:has-text("✕")', { timeout: 60_000 });
    expect(await page.locator('.freshness').textContent()).toMatch(/what is shown is \d+ s old$/);
  }, 90_000);
});
