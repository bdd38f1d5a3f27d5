import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readKeyFile } from './key-file.ts';

const scratch = mkdtempSync(join(tmpdir(), 'key-file-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const DEFAULTS = {
  weight: 1,
  maxRunning: undefined,
  maxWaiting: 7,
  tokensPerMinute: undefined,
};

function read(text: string, mode = 0o600) {
  const path = join(scratch, 'keys');
  writeFileSync(path, text);
  chmodSync(path, mode);
  return readKeyFile(path, DEFAULTS);
}

test('a file has one key a line, each with its limits', async () => {
  const text = `# of the team
sk-one
sk-two  weight=2.5 max-running=4 max-waiting=0 tokens-per-minute=90000  # batch

sk#three\r
`;
  expect(await read(text)).toEqual([
    { key: 'sk-one', limits: DEFAULTS },
    {
      key: 'sk-two',
      limits: { weight: 2.5, maxRunning: 4, maxWaiting: 0, tokensPerMinute: 90000 },
    },
    { key: 'sk#three', limits: DEFAULTS },
  ]);
});

test.each([
  ['hunter2 weight', 'line 1 of'],
  ['k\nhunter2 weight=0', 'line 2 of'],
  ['hunter2 max-running=1.5', 'max-running must be an integer from 1 to 65536'],
  ['hunter2 max-running=1 constructor=1', 'after the key come weight=, max-running='],
  ['hunter2\nhunter2', 'line 2 of'],
  ['hunter2\u00e9', 'printable ASCII'],
  ['# nothing\n', 'has no key'],
])('%j is refused, and no key is shown', async (text, message) => {
  const error = await read(text).catch((thrown: unknown) => thrown as Error);
  expect(error).toMatchObject({ name: 'UsageError', message: expect.stringContaining(message) });
  expect((error as Error).message).not.toContain('hunter2');
});

test('others on the machine must not be able to read it', async () => {
  await expect(read('k', 0o644)).rejects.toThrow('is open to everybody: chmod 600 it');
  expect(await read('k', 0o640)).toHaveLength(1);
  await expect(readKeyFile(join(scratch, 'none'), DEFAULTS)).rejects.toThrow('ENOENT');
  await expect(readKeyFile(scratch, DEFAULTS)).rejects.toThrow('is not a regular file');
});
