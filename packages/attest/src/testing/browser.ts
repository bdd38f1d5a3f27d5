import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const executablePath = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';
/** The first start reads a quarter of a gigabyte, maybe while others use disk and processors. */
const LAUNCH_MS = 100_000;

/** Says on standard error what is not tested without one. */
export function hasBrowser(what: string): boolean {
  if (existsSync(executablePath)) return true;
  const missing = `there is no Chromium at ${executablePath} (CHROMIUM_PATH names another)`;
  process.stderr.write(`Not tested, as ${missing}: ${what}.\n`);
  return false;
}

/** Chromium without its sandbox, which root has not: all that it sees must come from the test. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath, args: ['--no-sandbox'], timeout: LAUNCH_MS });
}
