import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasBrowser, launchBrowser } from '@bridgekeeper/attest/testing/browser';
import { startTestServer } from '@bridgekeeper/server/testing';
import { build, type Rolldown } from 'vite';
import { expect, test } from 'vitest';
import { startTestTee } from '../testing/attested-server.ts';
import { startGateway } from '../testing/gateway.ts';

const ENTRY = fileURLToPath(import.meta.resolve('@bridgekeeper/client'));
const SECRET = 'the bridge keeper asked me three questions';

/** The client and all it needs as one module for browsers. */
async function bundle(): Promise<string> {
  const built = (await build({
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      lib: { entry: ENTRY, formats: ['es'], fileName: 'client' },
      rolldownOptions: { external: /^(?:node:|crypto$)/, output: { codeSplitting: false } },
    },
  })) as Rolldown.RolldownOutput[];
  const [chunk, ...others] = built[0]!.output;
  expect(others).toEqual([]);
  // Nothing of Node's. The HPKE library asks for `crypto` where there is no global one.
  expect(chunk.imports).toEqual([]);
  const dynamic = chunk.dynamicImports.filter((name) => name !== chunk.fileName);
  expect(dynamic).toEqual(['crypto']);
  return chunk.code;
}

/** Runs in the page: what a page's own code does, with a test's clock and roots. */
const IN_PAGE = `async ({ url, policy, anchors, collateral, nowMs, body }) => {
  const { connect } = await import('/client.js');
  const started = performance.now();
  const bytes = new TextEncoder().encode(collateral);
  const sets = Object.entries(anchors).map(([name, roots]) => [name, new Set(roots)]);
  const server = await connect(url, {
    policy,
    anchors: Object.fromEntries(sets),
    files: [{ name: 'collateral.json', bytes, isNamed: true }],
    services: () => ({ references: null, revocation: null, tokenKeys: null, collateral: null }),
    clock: {
      unixMs: () => nowMs,
      monotonicMs: () => performance.now() - started,
      after: () => () => undefined,
    },
  });
  const ask = async (more) => {
    const reply = await server.fetch(server.baseUrl + '/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, ...more }),
    });
    return reply.text();
  };
  const whole = JSON.parse(await ask({})).choices[0].text;
  const streamed = await ask({ stream: true });
  return { pin: server.pin, verdict: server.report.verdict.result, whole, streamed };
}`;

interface Answered {
  readonly pin: { readonly kind: string };
  readonly verdict: string;
  readonly whole: string;
  readonly streamed: string;
}

test.runIf(hasBrowser('encrypted requests of a browser'))(
  'a page sends its prompt past a gateway that cannot read it',
  async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-page-'));
    const tee = await startTestTee(scratch);
    const server = await startTestServer({}, {}, tee.machine, tee.serverClock);
    const gateway = await startGateway(server.port);
    const browser = await launchBrowser();
    try {
      const code = await bundle();
      const page = await browser.newPage();
      // The page is the gateway's; what it asks for besides goes over the network.
      await page.route(`${gateway.url}/client.js`, (route) =>
        route.fulfill({ contentType: 'text/javascript', body: code }),
      );
      await page.route(`${gateway.url}/page`, (route) =>
        route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }),
      );
      await page.goto(`${gateway.url}/page`);
      const roots = Object.entries(tee.anchors).map(([name, set]) => [name, [...set]]);
      const given = {
        url: gateway.url,
        policy: tee.policy,
        anchors: Object.fromEntries(roots),
        collateral: Buffer.from(tee.collateral.bytes).toString(),
        nowMs: tee.clock.unixMs(),
        body: { prompt: SECRET, max_tokens: 12 },
      };
      const answered = await page.evaluate<Answered>(`(${IN_PAGE})(${JSON.stringify(given)})`);
      expect(answered).toMatchObject({ verdict: 'verified', pin: { kind: 'encryption' } });
      expect(answered.whole.length).toBeGreaterThan(0);
      expect(answered.streamed).toMatch(/data: \[DONE\]\n\n$/);
      const seen = gateway.seen.join('\n');
      expect(seen).toContain('/.well-known/ohttp-gateway');
      expect(seen).not.toContain(SECRET);
      expect(seen).not.toContain(answered.whole);
    } finally {
      await browser.close();
      gateway.close();
      await server.stop(0);
      tee.close();
      rmSync(scratch, { recursive: true, force: true });
    }
  },
);
