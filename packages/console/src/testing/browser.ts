import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

const executablePath = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';
/** Where pictures of pages are written; else they are taken and thrown away. */
const PICTURES = process.env.CONSOLE_PICTURES;
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

export const SCHEMES = ['light', 'dark'] as const;
const VIEWPORT = { width: 1280, height: 900 };

/** Says on standard error what is not tested without one. */
export function hasBrowser(what: string): boolean {
  if (existsSync(executablePath)) return true;
  const missing = `there is no Chromium at ${executablePath} (CHROMIUM_PATH names another)`;
  process.stderr.write(`Not tested, as ${missing}: ${what}.\n`);
  return false;
}

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
    return new Viewer(await chromium.launch({ executablePath, args: ['--no-sandbox'] }));
  }

  /** A page under its own policy. */
  async page(): Promise<Page> {
    const context = await this.browser.newContext({ viewport: VIEWPORT });
    const page = await context.newPage();
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('request', (request) => this.asked.push(request.url()));
    return page;
  }

  /** One in which axe may run: the page's policy lets nothing else run, and that is what axe is. */
  looker(colorScheme: (typeof SCHEMES)[number]): Promise<BrowserContext> {
    return this.browser.newContext({ viewport: VIEWPORT, bypassCSP: true, colorScheme });
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}

/** What axe finds on a page as it is; where it is wider than the screen, that too. */
export async function faultsOf(page: Page): Promise<readonly string[]> {
  await page.evaluate(readFileSync(AXE, 'utf8'));
  const violations = await page.evaluate('axe.run().then(({ violations }) => violations)');
  const found = (violations as { id: string; nodes: { html: string }[] }[]).map(
    ({ id, nodes }) => `${id}: ${nodes[0]?.html}`,
  );
  const isWide = await page.evaluate('document.documentElement.scrollWidth > innerWidth');
  return isWide === true ? [...found, 'it scrolls sideways'] : found;
}

/** A picture of a page, kept as `name` where the docs are made. */
export async function picture(page: Page, name: string): Promise<Buffer> {
  const taken = await page.screenshot({ fullPage: false, animations: 'disabled' });
  if (PICTURES !== undefined) {
    mkdirSync(PICTURES, { recursive: true });
    writeFileSync(join(PICTURES, `${name}.png`), taken);
  }
  return taken;
}
