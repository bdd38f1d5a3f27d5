import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '@bridgekeeper/bridge';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { answers } from './answering-folder.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'answering-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Never late, or at once. */
const clock = (isLate: boolean): Clock => ({
  nowNs: () => 0,
  sleepUntilNs: () => (isLate ? Promise.resolve() : new Promise(() => {})),
});

test('a folder answers, and so does one that cannot be made', async () => {
  expect(await answers(join(folder, 'deep', "it's", '-n'), clock(false))).toBe(true);
  expect(existsSync(join(folder, 'deep', "it's", '-n'))).toBe(true);
  writeFileSync(join(folder, 'file'), '');
  expect(await answers(join(folder, 'file', 'below'), clock(false))).toBe(true);
});

test('a folder where a file is never opened does not', async () => {
  // Who writes to a pipe waits for a reader.
  execFileSync('mkfifo', [join(folder, '.answers')]);
  expect(await answers(folder, clock(true))).toBe(false);
});
