import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { UsageError } from '../settings/resolve.ts';
import { readSealKey, type SealKeySource } from './seal-key.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-key-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

// The first byte is no text, so that the key is not taken for a password.
const KEY = Uint8Array.from([200, ...randomBytes(31)]);
const HEX = Buffer.from(KEY).toString('hex');
const BASE64 = Buffer.from(KEY).toString('base64');

let files = 0;
function keyFile(contents: Uint8Array | string, mode = 0o600): string {
  files += 1;
  const path = join(scratch, String(files));
  writeFileSync(path, contents);
  chmodSync(path, mode);
  return path;
}

async function failure(source: SealKeySource): Promise<string> {
  const error = await readSealKey(source).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(UsageError);
  return (error as UsageError).message;
}

describe('a key', () => {
  test('is read raw, in hex and in base64', async () => {
    const spellings = [
      KEY,
      HEX,
      HEX.toUpperCase(),
      `${HEX}\n`,
      BASE64,
      `  ${BASE64.slice(0, 43)}\n`,
    ];
    const url = Buffer.from(KEY).toString('base64url');
    for (const contents of [...spellings, url]) {
      expect(await readSealKey({ file: keyFile(contents) })).toEqual(KEY);
    }
    expect(await readSealKey({})).toBe(undefined);
  });

  test.each([
    ['nothing', ''],
    ['half a key in hex', HEX.slice(0, 32)],
    ['a password of 32 letters', 'correct horse battery staple 123'],
    ['a byte less', KEY.subarray(1)],
    ['a byte more', Uint8Array.from([...KEY, 200])],
    ['more than hex', `${HEX}00`],
  ])('is not %s', async (_, contents) => {
    const message = await failure({ file: keyFile(contents) });
    expect(message).toContain('32 random bytes');
    expect(message).not.toContain(HEX.slice(0, 16));
  });

  test('is not in a large file', async () => {
    const message = await failure({ file: keyFile(new Uint8Array(100_000).fill(200)) });
    expect(message).toContain('is larger than 1024 bytes');
  });
});

describe('a key file', () => {
  test('that everybody can read or write is refused', async () => {
    for (const mode of [0o644, 0o604, 0o602]) {
      expect(await failure({ file: keyFile(HEX, mode) })).toContain('open to everybody');
    }
    expect(await readSealKey({ file: keyFile(HEX, 0o640) })).toEqual(KEY);
  });

  test('that is none is refused', async () => {
    expect(await failure({ file: scratch })).toContain('not a regular file');
    expect(await failure({ file: join(scratch, 'none') })).toContain('ENOENT');
    const both = { file: keyFile(HEX), command: 'true' };
    expect(await failure(both)).toContain('give one of them');
  });
});

describe('a key command', () => {
  test('prints the key', async () => {
    const file = keyFile(HEX);
    expect(await readSealKey({ command: `cat '${file}'` })).toEqual(KEY);
    expect(await readSealKey({ command: `sh -c 'cat "$0" | tr a-f A-F' ${file}` })).toEqual(KEY);
  });

  test('is one command, and its failure says nothing of what it printed', async () => {
    expect(await failure({ command: 'cat key | tee log' })).toContain('one plain command');
    expect(await failure({ command: 'cat key > log' })).toContain('one plain command');
    expect(await failure({ command: "cat 'key" })).toContain('one plain command');
    expect(await failure({ command: ' ' })).toContain('one plain command');
    expect(await failure({ command: './no-such-broker' })).toContain('cannot be started: ENOENT');
    const failing = await failure({ command: `sh -c 'echo ${HEX}; echo ${HEX} >&2; exit 3'` });
    expect(failing).toBe('the key command failed with exit code 3');
    expect(await failure({ command: `sh -c 'kill -9 $$'` })).toContain('was ended by SIGKILL');
    expect(await failure({ command: 'cat /dev/zero' })).toContain('far more than a key');
    expect(await failure({ command: 'echo hello' })).not.toContain('hello');
  });
});
