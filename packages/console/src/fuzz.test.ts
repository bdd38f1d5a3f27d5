import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import type { CDPSession, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ConsoleServer, consoleListener } from './index.ts';
import { hasBrowser, Viewer } from './testing/browser.ts';

const ACCOUNTS = [
  { purpose: 'command', direction: 'h2d' },
  { purpose: 'tokens', direction: 'd2h' },
];
/** A tab's own numbers, code and text; what it keeps of what came has bounds far below this. */
const HEAP_BYTES_MAX = 200 * 2 ** 20;
const SEED = 20_261_130;

const textOf = (event: string, data: unknown) =>
  `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

function momentOf(seq: number, crossings = 20) {
  const rows = Array.from({ length: crossings }, (_, at) => {
    const ago = 100_000 - Math.floor((at * 99_000) / crossings);
    return [at % 2, at % 2, ago, 400, 100, 20, 64, 1];
  });
  return {
    seq,
    now_us: 1e9 + seq * 100_000,
    server_us: 1e9 + seq * 100_000,
    lanes: ['inline', 'drain'],
    crossings: rows,
    launches: [[90_000, 80_000, 4, 8, 0]],
    dropped: 0,
  };
}

const snapshotOf = (moments: readonly unknown[]) => ({ device: 'x', accounts: ACCOUNTS, moments });

/** A server that sends what the test says, and is there when the test says so. */
class LiarServer {
  readonly open = new Set<ServerResponse>();
  seq = 0;
  /** What control says when it is asked for lists. */
  readonly #kind: ConsoleServer;
  #server: Server | null = null;
  #port = 0;

  constructor(kind: ConsoleServer) {
    this.#kind = kind;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    this.#server = createServer(
      consoleListener(this.#kind, ({ url = '' }, response) => {
        if (/^\/v1\/(bridge\/)?events/.test(url)) return this.#stream(response);
        response.writeHead(200, { 'Content-Type': 'application/json' });
        const isStatus = url.startsWith('/v1/status');
        return response.end(JSON.stringify(isStatus ? { sequence: 0 } : { rows: [], next: null }));
      }),
    );
    const server = this.#server;
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
  }

  #stream(response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.flushHeaders();
    if (this.#kind === 'serve') response.write(textOf('snapshot', snapshotOf([this.next()])));
    this.open.add(response);
    response.once('close', () => this.open.delete(response));
  }

  next(crossings?: number) {
    this.seq += 1;
    return momentOf(this.seq, crossings);
  }

  /** All that is written is on its way once this resolves. */
  async say(text: string): Promise<void> {
    const written = [...this.open].map(
      (response) =>
        new Promise<void>((resolve) => {
          // Of what is being written when the page goes Node says nothing.
          response.once('close', resolve);
          response.write(text, () => {
            response.off('close', resolve);
            resolve();
          });
        }),
    );
    await Promise.all(written);
  }

  /** Goes without a word, and nobody answers at its address. */
  async vanish(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

/** Rows and values that are nearly what they should be. */
const nearly = (good: () => object) =>
  fc
    .record({ name: fc.constantFrom(...Object.keys(good())), value: fc.anything() })
    .map(({ name, value }) => ({ ...good(), [name]: value }));

const BRIDGE = {
  uptime_seconds: 1,
  ledger: [null],
  lanes: 3,
  law: null,
  policy: {},
  kv: { resident: {} },
};

/** What a server may say that has lost its mind: events that are broken, cut, or not for here. */
const BROKEN = fc.oneof(
  fc.string({ maxLength: 40 }).map((text) => `event: moment\ndata: ${text}\n\n`),
  fc.anything().map((value) => textOf('moment', value)),
  fc.anything().map((value) => textOf('bridge', value)),
  fc.anything().map((value) => textOf('snapshot', value)),
  nearly(() => momentOf(1)).map((value) => textOf('moment', value)),
  nearly(() => BRIDGE).map((value) => textOf('bridge', value)),
  nearly(() => snapshotOf([])).map((value) => textOf('snapshot', value)),
  fc.constantFrom(
    ...['\n\n', ': nothing\n\n', 'data\n\n', 'event: moment\n\n', '\r\n\r\n', '\0\n\n'],
  ),
);

describe.runIf(hasBrowser('the console under a fuzz of events'))('a page that is lied to', () => {
  const serving = new LiarServer('serve');
  const control = new LiarServer('control');
  let viewer: Viewer;
  let page: Page;
  let session: CDPSession;

  beforeAll(async () => {
    await Promise.all([serving.start(), control.start()]);
    viewer = await Viewer.open();
    page = await viewer.page();
    session = await page.context().newCDPSession(page);
  }, 90_000);

  afterAll(async () => {
    await viewer?.close();
    await Promise.all([serving.vanish(), control.vanish()]);
  });

  const untilState = (text: string) => page.waitForSelector(`.freshness:has-text("${text}")`);
  /** A good moment after whatever came: it is taken in, and then the page is live. */
  const goesOn = async () => {
    const { seq } = serving;
    await serving.say(textOf('moment', serving.next()));
    await page.waitForSelector('.freshness.live');
    expect(serving.seq).toBe(seq + 1);
  };
  const heapBytes = async () => {
    await session.send('HeapProfiler.collectGarbage');
    const { usedSize, backingStorageSize = 0 } = (await session.send('Runtime.getHeapUsage')) as {
      usedSize: number;
      backingStorageSize?: number;
    };
    return usedSize + backingStorageSize;
  };

  test('goes on after anything, throws nothing, and says what it could not read', async () => {
    await page.goto(`${serving.url}/console#/bridge?span=10000000`);
    await untilState('● live');
    const lies = fc.sample(BROKEN, { seed: SEED, numRuns: 300 });
    for (let at = 0; at < lies.length; at += 30) {
      await serving.say(lies.slice(at, at + 30).join(''));
      await goesOn();
    }
    await page.waitForSelector('.problem:has-text("events could not be read")');
    // Every page draws what came.
    for (const name of ['kv', 'rules', 'bridge']) {
      await page.goto(`${serving.url}/console#/${name}`);
      await page.waitForSelector('h1');
    }
    expect(viewer.complaints).toEqual([]);
  }, 120_000);

  test('counts what came twice, late or never, and cuts nothing in two', async () => {
    await page.goto('about:blank');
    await page.goto(`${serving.url}/console#/bridge`);
    await untilState('● live');
    const moments = Array.from({ length: 12 }, () => textOf('moment', serving.next()));
    const [first, second, ...rest] = moments;
    // The second is never sent; the others come in parts, twice, and out of order.
    const text = [first, ...rest, ...rest.toReversed(), first].join('');
    expect(second).toBeDefined();
    for (let at = 0; at < text.length; at += 997) await serving.say(text.slice(at, at + 997));
    await page.waitForSelector('.problem:has-text("1 moments never came")');
    await goesOn();
    expect(viewer.complaints).toEqual([]);
  }, 120_000);

  test('is not live while only old or unreadable things come', async () => {
    await goesOn();
    let isOver = false;
    const noise = (async () => {
      const old = textOf('moment', momentOf(1));
      while (!isOver) {
        await serving.say(`${old}event: moment\ndata: {\n\nevent: bridge\ndata: 7\n\n`);
        await page.evaluate('new Promise((go) => setTimeout(go, 50))');
      }
    })();
    await untilState('◌ silent for');
    isOver = true;
    await noise;
    await goesOn();
    expect(viewer.complaints).toEqual([]);
  }, 120_000);

  test('keeps no more of what is huge than it said it would', async () => {
    for (let round = 0; round < 4; round++) {
      await serving.say(textOf('moment', serving.next(60_000)));
    }
    await goesOn();
    expect(await heapBytes()).toBeLessThan(HEAP_BYTES_MAX);
    // An event without an end: the page gives up the stream, says so, and opens another.
    await serving.say('event: moment\ndata: ');
    const before = [...serving.open];
    const part = 'x'.repeat(2 ** 20);
    for (let megabytes = 0; megabytes < 34 && serving.open.has(before[0]!); megabytes++) {
      await serving.say(part);
    }
    await page.waitForSelector('.freshness:has-text("more than 32 MiB at once"), .freshness.live');
    await untilState('● live');
    expect(serving.open.has(before[0]!)).toBe(false);
    expect(await heapBytes()).toBeLessThan(HEAP_BYTES_MAX);
    expect(viewer.complaints).toEqual([]);
  }, 120_000);

  test('says how old it is when the server goes in the middle of a word, and goes on', async () => {
    for (const cut of ['event: mom', 'event: moment\ndata: {"seq":', '']) {
      await serving.say(cut);
      await serving.vanish();
      await page.waitForSelector('.freshness.old:has-text("✕"):has-text("what is shown is")');
      await serving.start();
      await untilState('● live');
    }
    // The browser says that nobody answered; the page itself threw nothing.
    const thrown = viewer.complaints.splice(0).filter((text) => !text.includes('ERR_'));
    expect(thrown).toEqual([]);
  }, 120_000);

  test('draws a fleet of rows that are nearly right, and throws nothing', async () => {
    await page.goto(`${control.url}/console#/fleet`);
    await untilState('● live');
    let sequence = 0;
    const change = (kind: string, id: string, row: unknown) =>
      textOf('change', { sequence: ++sequence, atMs: 1, kind, id, row });
    const modules = [1, 2];
    const gpus = [{ module: 1, ccMode: 'on', isHealthy: true }];
    const facts = { platform: 'none', driverVersion: null, grade: 'host', isFrozen: false, gpus };
    const whole = {
      host: {
        host: 'h',
        state: 'ready',
        lostSinceMs: null,
        facts: { ...facts, partitions: [{ id: 1, modules }], quarantined: [] },
        quarantined: [{ module: 1, reason: 'x', atMs: 1 }],
        checkpoint: null,
      },
      pool: {
        pool: 'p',
        spec: {
          models: ['m'],
          tenant: null,
          gpus: 1,
          policy: 'x',
          replicas: { min: 1, max: 1 },
        },
        failures: 0,
        notBeforeMs: 0,
        trouble: { cause: 'full', nearest: { host: 'h', cause: 'full' } },
      },
      replica: {
        replica: 'r',
        pool: 'p',
        tenant: null,
        host: 'h',
        partition: 1,
        modules,
        epoch: 1,
        phase: 'serving',
        phaseSinceMs: 1,
        reason: null,
        deadlineMs: null,
        challenge: null,
      },
      tenant: { tenant: 't', spec: { quota: { weight: 1 }, pools: null } },
      evidence: {
        evidence: 'e',
        replica: 'r',
        host: 'h',
        policy: 'x',
        atMs: 1,
        isAccepted: false,
        refusals: ['no'],
      },
    };
    const kinds = Object.keys(whole) as (keyof typeof whole)[];
    const broken = fc
      .constantFrom(...kinds)
      .chain((kind) => nearly(() => whole[kind]).map((row) => [kind, row] as const));
    const lies = fc.sample(broken, { seed: SEED, numRuns: 300 });
    for (const [at, [kind, row]] of lies.entries()) {
      await control.say(change(kind, `${kind}-${at % 20}`, row));
    }
    for (const kind of kinds) await control.say(change(kind, 'last', whole[kind]));
    await page.waitForSelector('th:has-text("quarantined")');
    await page.waitForSelector('tr:has-text("evidence-refused")');
    await page.waitForSelector('svg.board');
    expect(viewer.complaints).toEqual([]);
  }, 120_000);
});
