import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { launchBrowser } from '@bridgekeeper/attest/testing/browser';
import type { Browser, BrowserContext, Page } from 'playwright-core';

export { hasBrowser } from '@bridgekeeper/attest/testing/browser';

/** Where pictures of pages are written; else none are taken. */
const PICTURES = process.env.CONSOLE_PICTURES;
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

const SCHEMES = ['light', 'dark'] as const;
/** Machines are slow when it matters least: whoever waits, waits for what must come. */
const WAIT_MS = 80_000;
const VIEWPORT = { width: 1280, height: 900 };

/** One Chromium, and what it and its pages complained of. */
export class Viewer {
  readonly browser: Browser;
  /** What browsers objected to, and what failed in pages. */
  readonly complaints: string[] = [];
  /** All addresses that were asked. */
  readonly asked: string[] = [];

  private constructor(browser: Browser) {
    this.browser = browser;
  }

  static async open(): Promise<Viewer> {
    return new Viewer(await launchBrowser());
  }

  /** A page under its own policy. */
  async page(): Promise<Page> {
    const context = await this.browser.newContext({ viewport: VIEWPORT });
    context.setDefaultTimeout(WAIT_MS);
    const page = await context.newPage();
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('request', (request) => this.asked.push(request.url()));
    return page;
  }

  /** One in which axe may run: the page's policy lets nothing else run, and that is what axe is. */
  async looker(): Promise<BrowserContext> {
    const context = await this.browser.newContext({ viewport: VIEWPORT, bypassCSP: true });
    context.setDefaultTimeout(WAIT_MS);
    return context;
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}

/** Only how things are coloured differs between schemes: the rest is held once. */
const COLOUR_RULES = { runOnly: { type: 'tag', values: ['cat.color'] } };

/**
 * What axe finds on a page as it is; where it is wider than the screen, that too. `what` is the
 * colours alone where the same page was held to all rules in the other scheme.
 */
async function faultsOf(page: Page, what: 'all' | 'colours' = 'all'): Promise<readonly string[]> {
  const isThere = await page.evaluate('typeof axe !== "undefined"');
  if (isThere !== true) await page.evaluate(axe());
  const options = { resultTypes: ['violations'], ...(what === 'all' ? {} : COLOUR_RULES) };
  const violations = await page.evaluate(
    `axe.run(${JSON.stringify(options)}).then(({ violations }) => violations)`,
  );
  const found = (violations as { id: string; nodes: { html: string }[] }[]).map(
    ({ id, nodes }) => `${id}: ${nodes[0]?.html}`,
  );
  const isWide = await page.evaluate('document.documentElement.scrollWidth > innerWidth');
  return isWide === true ? [...found, 'it scrolls sideways'] : found;
}

let axeText = '';
function axe(): string {
  if (axeText === '') axeText = readFileSync(AXE, 'utf8');
  return axeText;
}

/** A page that is ready, in each scheme: what axe finds, and a picture. */
export async function faultsInSchemes(page: Page, name: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme });
    const faults = await faultsOf(page, colorScheme === SCHEMES[0] ? 'all' : 'colours');
    found.push(...faults.map((fault) => `${name}, ${colorScheme}: ${fault}`));
    await picture(page, `${name}-${colorScheme}`);
  }
  return found;
}

/** A picture of a page, where the docs are made: else nothing. */
export async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES === undefined) return;
  const taken = await page.screenshot({ fullPage: false, animations: 'disabled' });
  mkdirSync(PICTURES, { recursive: true });
  writeFileSync(join(PICTURES, `${name}.png`), taken);
}
