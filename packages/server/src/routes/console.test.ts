import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { hasVectors, readVector, vectorPath } from '@bridgekeeper/attest/testing';
import { faultsInSchemes, hasBrowser, picture, Viewer } from '@bridgekeeper/console/testing';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../start.ts';
import { startBundledModel } from '../testing/bundled-model.ts';
import { startTestServer } from '../testing/test-server.ts';

/** A real report: of an H100, whose bridge is slow. */
const PROBED = new URL('../../../../docs/results/h100/probe-h100-cc.json', import.meta.url);

/** What each page has once there is something to look at. */
const PAGES = {
  requests: 'tbody tr',
  // Some of it was brought back, or computed again.
  kv: 'section[aria-labelledby=recomputed-title] td:text-matches("^[1-9]")',
  'bridge?span=10000000': 'table th:has-text("▼ tokens")',
  evidence: '.result',
  chat: '.verdict:has-text("REFUSED")',
  rules: '.rules figure:has-text("time on lanes by purpose")',
} as const;

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
    const operators = ['/v1/bridge', '/v1/bridge/timeline', '/v1/bridge/events', '/v1/plan'];
    for (const path of operators) expect((await get(path, 'two')).status).toBe(403);
    for (const path of ['/v1/plan', '/v1/plan/what-if']) {
      expect((await server.post(path, {}, { Authorization: 'Bearer two' })).status).toBe(403);
    }
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

/** KV that is soon full, with little behind it. */
const SERVED = {
  law: 'emulate:b300-cc',
  receipts: 'memory',
  kvCacheMemoryBytes: 8 * 2 ** 20,
  kvOffloadingSize: 0.003,
  kvTierPolicy: 'lru',
} as const;
/** Pages that show what goes on. */
const TALKED_OF = ['requests', 'kv', 'bridge'];
/** More than its KV has room for: the first three return in time to be found in the host. */
const STORIES = Array.from({ length: 5 }, (_, at) => {
  return `Story ${at}. ${'Once upon a time. '.repeat(40)}`;
});
const storyAt = (at: number) => {
  const round = Math.floor(at / 3);
  return STORIES[at % 3 === 2 ? 3 + (round % 2) : (at - round) % 3]!;
};

const hasRealReports = hasVectors('reports of other services in the console');

describe.runIf(hasBrowser('the console'))('the console in a browser', () => {
  let server: RunningServer;
  let other: RunningServer;
  let viewer: Viewer;
  let page: Page;
  /** What the planner said, as its page saves it. */
  let planned = '';

  beforeAll(async () => {
    server = await startBundledModel(SERVED);
    other = await startTestServer({}, { allowedOrigins: [server.url] });
    viewer = await Viewer.open();
    page = await viewer.page();
  });

  afterAll(async () => {
    await viewer?.close();
    await other?.stop(0);
    await server?.stop(0);
  });

  const open = async (name: string) => {
    await page.goto(`${server.url}/console#/${name}`);
    await page.waitForSelector('h1');
  };
  const complete = (text: string, tokens: number) =>
    fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ model: server.modelName, prompt: text, max_tokens: tokens }),
    });
  const give = (name: string, text: string, into = page) =>
    into.setInputFiles('input.open', {
      name,
      mimeType: 'application/json',
      buffer: Buffer.from(text),
    });

  test('says the verdict before anything is typed, and what an answer cost', async () => {
    await open('chat');
    await page.waitForSelector('.verdict:has-text("REFUSED")');
    await page.getByLabel('Your message').fill('Once upon a time');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.turn small:has-text("crossings")');
    const said = await page.locator('.turn.assistant small').textContent();
    expect(said).toMatch(/^\d+ tokens, \d+ a second, the first after \d+ ms; \d+ crossings with /);
    await page.getByText('Its life, receipt').click();
    await page.waitForSelector('h1:has-text("Request")');
    await page.getByRole('button', { name: 'Receipt' }).click();
    await page.waitForSelector('pre:has-text("bridgekeeper.receipt.v1")');
    await page.waitForSelector('th:has-text("KV pages") + td:has-text("of 16 tokens")');
  });

  test('draws lanes, pauses by the keyboard, sums what is selected', async () => {
    await open('bridge');
    await page.waitForSelector('.freshness.live');
    await complete('Once', 100);
    // Measured, and priced by the law: a toll and a few bytes.
    await page.waitForSelector('tr:has(th:has-text("▼ tokens")) td:text-matches("^2[0-9] µs")');
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
    const trace = await readFile((await (await saving).path())!, 'utf8');
    const names = new Set(JSON.parse(trace).traceEvents.map(({ name }: { name: string }) => name));
    expect(names).toContain('tokens');
    expect(names).toContain('decode');
    // However large a snapshot is, moments follow it.
    const stream = await fetch(`${server.url}/v1/bridge/events`);
    let text = '';
    for await (const chunk of stream.body! as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(chunk).toString();
      if (text.split('event: moment').length > 3) break;
    }
    expect(text).toMatch(/^event: snapshot\n/);
    // What was saved for others opens here, too.
    await give('trace.json', trace);
    await page.waitForSelector('.freshness:has-text("from trace.json")');
    await page.waitForSelector('.legend:has-text("tokens")');
    await page.getByRole('button', { name: 'Back to live' }).click();
  });

  test('says what the same traffic would pay otherwise, beside what was measured', async () => {
    await open('bridge');
    await page.getByRole('button', { name: 'Ask the planner' }).click();
    await page.waitForSelector('tr:has-text("drain-first"):has-text("b300-cc")');
    const rows = await page.locator('section[aria-labelledby=what-if-title] tbody tr').count();
    // What was measured, four policies, and two other laws.
    expect(rows).toBe(7);
    await page.locator('#what-if-title').scrollIntoViewIfNeeded();
    await picture(page, 'what-if');
  });

  test('plans a load, by an address that holds it, and gives up when it is told to', async () => {
    const load = new URLSearchParams({
      model: 'Qwen3-0.6B',
      engine: 'bridgekeeper-resident',
      workload: '2 at a time, 32+8, 8 requests',
      sweep: '1, 2',
    });
    await open(`plan?${load}`);
    await page.waitForSelector('option[value="Qwen3-0.6B"]', { state: 'attached' });
    expect(await page.locator('input[name=workload]').inputValue()).toBe(load.get('workload'));
    await page.getByLabel('Load').fill('30 at a time, 2000+500, 1000 requests');
    await page.getByRole('button', { name: 'Plan', exact: true }).click();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.waitForSelector('button:has-text("Cancel")', { state: 'detached' });
    await page.getByLabel('Load').fill('nonsense');
    await page.getByRole('button', { name: 'Plan', exact: true }).click();
    await page.waitForSelector('.problem:has-text("nonsense")');
    await page.getByLabel('Load').fill(load.get('workload')!);
    await page.getByRole('button', { name: 'Plan', exact: true }).click();
    await page.waitForSelector('figcaption:has-text("What the bridge takes")');
    expect(new URL(page.url()).hash).toContain('Qwen3-0.6B');
    await picture(page, 'plan');
    const saving = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Save' }).click();
    planned = await readFile((await (await saving).path())!, 'utf8');
    // The browser says what the server refused, and that is all that it says.
    expect(viewer.complaints.splice(0)).toEqual([expect.stringContaining('400 (Bad Request)')]);
  }, 120_000);

  test('opens files by what they are, and refuses what is none', async () => {
    await open('bridge');
    const crossings = [[0, 0, 500, 100, 20, 0, 64, 1]];
    const moment = { seq: 1, now_us: 1_000, server_us: 0, lanes: ['drain'], crossings };
    const moments = [{ ...moment, launches: [], dropped: 0 }];
    const accounts = [{ purpose: 'tokens', direction: 'd2h' }];
    await give('none.json', '{"moments": 3}');
    await page.waitForSelector('.problem:has-text("none.json is no recording")');
    await give('mine.json', JSON.stringify({ device: 'cuda', accounts, moments }));
    await page.waitForSelector('.freshness:has-text("from mine.json")');
    await give('trace.json', '{"traceEvents": []}');
    await page.waitForSelector('.problem:has-text("trace.json is no trace of a bridge")');
    const fits = [{ name: 'd2h pinned', tollNs: 330_000 }];
    await give('probe.json', JSON.stringify({ suite: 'probe', fits, runs: [], facts: {} }));
    await page.waitForSelector('td:has-text("330,000")');
    await give('plan.json', planned);
    await page.waitForSelector('figcaption:has-text("Where the time of a step goes")');
    await give('head.txt', 'host.example/log\n7\nAAAA\n');
    await page.waitForSelector('.problem:has-text("is no signed note")');
    await give('quote.bin', 'nonsense');
    await page.waitForSelector('h1:has-text("Evidence")');
    await page.waitForSelector('.problem:has-text("quote.bin")');
    await page.getByRole('button', { name: 'Back to live' }).click();
  });

  test('asks another server for evidence only if its user names it', async () => {
    await open('evidence');
    await page.waitForSelector('.result');
    const before = viewer.asked.length;
    await page.getByLabel('or an address').fill(other.url);
    await page.getByRole('button', { name: 'Replay' }).click();
    await page.waitForURL(/evidence=/);
    await page.waitForSelector('.result');
    const elsewhere = viewer.asked.slice(before).filter((url) => !url.startsWith(server.url));
    expect(elsewhere).toEqual([expect.stringContaining(`${other.url}/v1/attestation/report`)]);
    // No other address is reached by the same page, whatever is written into it.
    const reached = await page.evaluate(
      'fetch("http://127.0.0.1:1/").then(() => "yes", () => "no")',
    );
    expect(reached).toBe('no');
    viewer.complaints.splice(0);
  });

  test.runIf(hasRealReports)(
    'verifies reports of other services with real evidence',
    async () => {
      const vector = (path: string) => Buffer.from(readVector(path));
      const shown = async (verdict: string, ...facts: string[]) => {
        await page.waitForSelector(`.result h2:has-text("${verdict}")`);
        for (const fact of facts) {
          // What is folded is there, too.
          await page.waitForSelector(`.result :text("${fact}")`, { state: 'attached' });
        }
      };
      const openAll = async (...paths: string[]) => {
        await open('evidence');
        await page.setInputFiles('input.open', paths.map(vectorPath));
      };
      // A board of eight GPUs and four switches, as NVIDIA's tools write it.
      const board = ['nvidia/hgx-h100-8gpu-evidence.json', 'nvidia/hgx-h100-4switch-evidence.json'];
      await openAll(...board);
      await shown('VERIFIED', '116 claims verified, 0 refused');
      // A quote of Intel's, old by now: what holds of it is said, and what does not.
      await openAll('tdx/quote.bin', 'tdx/collateral.json');
      await shown('REFUSED', '18 claims verified, 1 refused');
      await openAll('dstack/quote-report.json');
      await shown('REFUSED', '2 claims verified, 0 refused');

      // Services answer at their own addresses, in their own forms.
      const list: { nonce: string; arch: string; evidence: string; certificate: string }[] =
        JSON.parse(vector(board[0]!).toString());
      const payload = { nonce: list[0]!.nonce, evidence_list: list, arch: 'HOPPER' };
      const near = (nonce: string) => ({
        signing_address: `0x${'1a'.repeat(20)}`,
        signing_algo: 'ecdsa',
        request_nonce: nonce,
        intel_quote: vector('tdx/quote.bin').toString('hex'),
        nvidia_payload: JSON.stringify(payload),
      });
      const tinfoil = {
        format: 'https://tinfoil.sh/predicate/tdx-guest/v2',
        body: gzipSync(vector('tdx/quote.bin')).toString('base64'),
      };
      const service = createServer(({ url = '' }, response) => {
        const at = new URL(url, 'http://service.example');
        const isNear = at.pathname === '/near';
        const isTinfoil = at.pathname === '/.well-known/tinfoil-attestation';
        const headers = { 'Access-Control-Allow-Origin': '*', 'Content-Type': 'application/json' };
        response.writeHead(isNear || isTinfoil ? 200 : 404, headers);
        const nonce = at.searchParams.get('nonce') ?? '';
        const body = isNear ? near(nonce || list[0]!.nonce) : isTinfoil ? tinfoil : {};
        response.end(JSON.stringify(body));
      });
      await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
      const address = `http://127.0.0.1:${(service.address() as AddressInfo).port}`;
      try {
        const replay = async (from: string) => {
          await open('evidence');
          await page.getByLabel('or an address').fill(from);
          await page.getByRole('button', { name: 'Replay' }).click();
          await page.waitForURL((url) => url.hash.includes(encodeURIComponent(from)));
        };
        // The quote is of another machine: neither its key nor its nonce is the report's.
        await replay(`${address}/near`);
        await shown('REFUSED', 'server.binding', 'gpu.signature');
        await replay(address);
        await shown('REFUSED', `${address} (Tinfoil)`, 'cpu.chain');
      } finally {
        service.closeAllConnections();
        service.close();
        viewer.complaints.splice(0);
      }
    },
    120_000,
  );

  test('nothing on any page is out of reach, in light and dark', async () => {
    const context = await viewer.looker();
    const looked = await context.newPage();
    let isOver = false;
    const talk = (async () => {
      for (let at = 0; !isOver; at++) {
        await (await complete(storyAt(at), 30)).text();
      }
    })();
    try {
      for (const [address, selector] of Object.entries(PAGES)) {
        const [name] = address.split('?') as [string];
        await looked.goto(`${server.url}/console#/${address}`);
        await looked.waitForSelector(selector, { timeout: 200_000 });
        // Others do not change while nobody talks.
        if (!TALKED_OF.includes(name)) isOver = true;
        expect(await faultsInSchemes(looked, name)).toEqual([]);
      }
      await looked.locator('a[href="#/requests"]').first().click();
      await looked.locator('tbody th a').first().click();
      await looked.waitForSelector('h1:has-text("Request ")');
      await looked.waitForSelector('table.facts');
      expect(await faultsInSchemes(looked, 'request')).toEqual([]);
      await give('plan.json', planned, looked);
      await looked.waitForSelector('figure');
      expect(await faultsInSchemes(looked, 'plan')).toEqual([]);
      await looked.setInputFiles('input.open', fileURLToPath(PROBED));
      await looked.waitForSelector('figcaption:has-text("Time of a copy by its bytes")');
      expect(await faultsInSchemes(looked, 'probe')).toEqual([]);
    } finally {
      isOver = true;
      await talk;
      await context.close();
    }
  }, 300_000);

  test('all is reached by the keyboard alone', async () => {
    await open('bridge');
    // The focus is where a page that was just loaded has it.
    await page.reload();
    await page.waitForSelector('.freshness.live');
    await page.locator('body').press('Tab');
    expect(await page.evaluate('document.activeElement.textContent.trim()')).toBe(
      'Skip to the page',
    );
    const reached: string[] = [];
    while (!reached.includes('CANVAS') && reached.length < 30) {
      await page.keyboard.press('Tab');
      reached.push(
        await page.evaluate(
          '(({ textContent, tagName }) => textContent.trim() || tagName)(document.activeElement)',
        ),
      );
    }
    // From the first link to the lanes, in the order in which they are seen.
    const wanted = ['Bridge', 'Five rules', 'INPUT', 'Why so', '❚❚ Pause', 'Perfetto', 'CANVAS'];
    expect(reached.filter((name) => wanted.includes(name))).toEqual(wanted);
  });

  test('asked nobody else, and the browser objected to nothing', () => {
    const own = [server.url, other.url, 'blob:'];
    const others = viewer.asked.filter((url) => !own.some((each) => url.startsWith(each)));
    // Those that the user named for evidence.
    expect(others.filter((url) => !/\/(near|tinfoil-attestation|report)\b/.test(url))).toEqual([]);
    expect(viewer.complaints).toEqual([]);
  });

  test('tells how old what it shows is when the server is gone, and goes on later', async () => {
    await open('bridge');
    await page.waitForSelector('.freshness.live');
    const port = Number(new URL(server.url).port);
    await server.stop(0);
    await page.waitForSelector('.freshness.old:has-text("✕")');
    expect(await page.locator('.freshness').textContent()).toMatch(/what is shown is \d+ s old$/);
    server = await startBundledModel({ ...SERVED, port });
    await page.waitForSelector('.freshness.live');
    await complete('Once', 20);
    await page.waitForSelector('.freshness.live');
  }, 120_000);
});
