import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LAUNCHER } from './launcher.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'launcher-'));
  cpSync(dirname(LAUNCHER), join(root, 'packages/bridgekeeper/bin'), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true }));

/** Writes a file under the packages, as old as `seconds` after the epoch. */
function put(path: string, text: string, seconds: number): void {
  const file = join(root, 'packages', path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  utimesSync(file, seconds, seconds);
}

function launch(command: string): string {
  const launcher = join(root, 'packages/bridgekeeper/bin/bridgekeeper.mjs');
  return execFileSync(process.execPath, [launcher, command], { encoding: 'utf8' }).trim();
}

test('takes few files where they are not older than any package, and modules otherwise', () => {
  const say = (what: string) => `process.stdout.write(${JSON.stringify(what)});`;
  put('bridgekeeper/package.json', '{"type": "module"}', 1);
  put('bridgekeeper/dist/main.js', say('modules'), 100);
  put('bridgekeeper/dist/.tsbuildinfo', '{}', 100);
  put('engine/dist/.tsbuildinfo', '{}', 100);
  expect(['serve', 'verify'].map(launch)).toEqual(['modules', 'modules']);
  put('bridgekeeper/dist/packed/main.mjs', say('packed'), 101);
  expect(['serve', 'verify'].map(launch)).toEqual(['packed', 'modules']);
  put('bridgekeeper/dist/program.mjs', say('one file'), 101);
  expect(['serve', 'verify'].map(launch)).toEqual(['packed', 'one file']);
  put('engine/dist/.tsbuildinfo', '{}', 102);
  expect(['serve', 'verify'].map(launch)).toEqual(['modules', 'modules']);
});
