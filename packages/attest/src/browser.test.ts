import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { build, type Rolldown } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { toBase64, toHex } from './core/bytes.ts';
import { BUILT_IN_POLICIES } from './policy/built-in.ts';
import { pinPolicy } from './policy/pin.ts';
import { hasBrowser, launchBrowser } from './testing/browser.ts';
import type { PageRequest, verifyInPage } from './testing/browser-page.ts';
import { makeService } from './testing/service.ts';
import { hasVectors, readVector } from './testing/vectors.ts';

const ENTRY = fileURLToPath(new URL('./testing/browser-page.js', import.meta.url));
/** Loopback is a secure context, as WebCrypto demands; every answer is made here. */
const ORIGIN = 'http://localhost';

const policyFile = (name: string) => JSON.stringify(BUILT_IN_POLICIES.get(name));

/** The package and all it needs as one module for browsers. */
async function bundle(): Promise<string> {
  const built = (await build({
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      lib: { entry: ENTRY, formats: ['es'], fileName: 'page' },
      rolldownOptions: { external: /^node:/, output: { codeSplitting: false } },
    },
  })) as Rolldown.RolldownOutput[];
  const [chunk, ...others] = built[0]!.output;
  expect(others).toEqual([]);
  // Nothing of Node's, neither imported nor put in its place.
  const imports = [...chunk.imports, ...chunk.dynamicImports];
  expect(imports.filter((name) => name !== chunk.fileName)).toEqual([]);
  return chunk.code;
}

describe.runIf(hasBrowser('verification in a browser'))('in Chromium', () => {
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    const code = await bundle();
    browser = await launchBrowser();
    page = await browser.newPage();
    await page.route('**/*', (route) => {
      const isModule = route.request().url().endsWith('/page.js');
      return route.fulfill(
        isModule
          ? { contentType: 'text/javascript', body: code }
          : { contentType: 'text/html', body: '<!doctype html>' },
      );
    });
    await page.goto(ORIGIN);
  });

  afterAll(() => browser?.close());

  const verify = (request: PageRequest) =>
    page.evaluate<Awaited<ReturnType<typeof verifyInPage>>>(
      `import('/page.js').then((page) => page.verifyInPage(${JSON.stringify(request)}))`,
    );

  test('a service is verified, and refused behind a relay', async () => {
    const { files, nowMs, nonce, anchors } = await makeService();
    const request: PageRequest = {
      files: [...files].map(([name, bytes]) => [name, toBase64(bytes)]),
      policy: policyFile('service'),
      nowMs,
      nonceHex: toHex(nonce),
      anchors: {
        nvidiaDevice: [...anchors.nvidiaDevice],
        nvidiaRim: [...anchors.nvidiaRim],
        intelSgx: [...anchors.intelSgx],
        amdArk: [],
      },
      connectionSpkiSha256: 'cd'.repeat(32),
    };
    const { claims } = await verify(request);
    const policy = JSON.stringify(pinPolicy(BUILT_IN_POLICIES.get('service')!, claims));
    const good = await verify({ ...request, policy });
    expect(good).toMatchObject({ result: 'verified' });
    expect(good.lines.join('\n')).toMatch(/^VERIFIED under the policy "service, pinned"/m);
    const ofReceipts = good.claims.filter(({ kind }) => kind.startsWith('receipt.'));
    expect(ofReceipts.map(({ kind, status }) => `${kind} ${status}`)).toEqual([
      'receipt.signature verified',
      'receipt.signature verified',
      'receipt.chain verified',
    ]);
    const relayed = await verify({ ...request, policy, connectionSpkiSha256: 'ee'.repeat(32) });
    expect(relayed).toMatchObject({ result: 'refused' });
    const unpinned = await verify({ ...request, anchors: null });
    expect(unpinned.claims.filter(({ code }) => code === 'root-not-pinned')).not.toEqual([]);
  });

  test.runIf(hasVectors('real evidence in a browser'))('real evidence holds', async () => {
    const given = (...paths: readonly string[]): PageRequest => ({
      files: paths.map((path) => [path, toBase64(readVector(path))]),
      policy: policyFile('evidence'),
      nowMs: Date.UTC(2025, 5, 19, 11, 16),
      nonceHex: null,
      anchors: null,
      connectionSpkiSha256: null,
    });
    const board = ['nvidia/hgx-h100-8gpu-evidence.json', 'nvidia/hgx-h100-4switch-evidence.json'];
    const hgx = await verify(given(...board));
    expect(hgx.result).toBe('verified');
    expect(hgx.claims.filter(({ kind }) => kind.endsWith('.signature'))).toHaveLength(12);
    const rim = 'nvidia/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml';
    const one = ['nvidia/switchAttestationReport.txt', 'nvidia/switchCertChain.txt', rim];
    const measured = await verify(given(...one));
    expect(measured.claims.find(({ kind }) => kind === 'switch.measurements')).toMatchObject({
      status: 'verified',
      value: '31 of 31',
    });
    const quote = await verify(given('tdx/quote.bin', 'tdx/collateral.json'));
    expect(quote.claims.find(({ kind }) => kind === 'cpu.tcb')).toMatchObject({
      status: 'verified',
      value: 'UpToDate',
    });
    const forged = await verify(given('nvidia/incorrect_signature_driver_rim.xml'));
    expect(forged.result).toBe('refused');
  });
});
