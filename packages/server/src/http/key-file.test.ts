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

test('limits may be as small and as large as their bounds', async () => {
  const text = `least weight=0.001 max-running=1 requests-per-minute=1 tokens-per-minute=1
    most weight=1000 max-running=65536 max-waiting=1000000 requests-per-minute=1000000000\
    tokens-per-minute=1000000000000`;
  const least = { weight: 0.001, maxRunning: 1, requestsPerMinute: 1, tokensPerMinute: 1 };
  const most = { weight: 1000, maxRunning: 65536, maxWaiting: 1e6, requestsPerMinute: 1e9 };
  expect(await read(text)).toEqual([
    { key: 'least', limits: { ...DEFAULTS, ...least } },
    { key: 'most', limits: { ...most, tokensPerMinute: 1e12 } },
  ]);
});

test('lines may end as on Windows, behind comments too', async () => {
  const text = '# of the team\r\nsk-one weight=2 # batch\r\nsk-two\r\n';
  expect((await read(text)).map(({ key }) => key)).toEqual(['sk-one', 'sk-two']);
});

test.each<[string, string, string?]>([
  ['hunter2 weight', 'line 1 of'],
  ['k\nhunter2 weight=0', 'line 2 of'],
  ['hunter2 max-running=1.5', 'max-running must be an integer from 1 to 65536'],
  ['hunter2 max-running=1 constructor=1', 'after the key come weight=, max-running='],
  ['hunter2\nhunter2', 'line 2 of'],
  ['hunter2\u00e9', 'printable ASCII'],
  ['\u00e9hunter2', 'printable ASCII'],
  ['hunter2 Xweight=2', 'after the key come'],
  ['hunter2 weight=2x', 'after the key come'],
  ['hunter2 weight=0.0009', 'weight must be a number from 0.001 to 1000'],
  ['hunter2 weight=1000.1', 'weight must be a number from 0.001 to 1000'],
  ['hunter2 max-running=0', 'max-running must be an integer from 1 to 65536'],
  ['hunter2 max-running=65537', 'max-running must be'],
  ['hunter2 max-waiting=1000001', 'max-waiting must be an integer from 0 to 1000000'],
  ['hunter2 max-waiting=0.5', 'max-waiting must be an integer'],
  ['hunter2 requests-per-minute=0', 'must be an integer from 1 to 1000000000'],
  ['hunter2 requests-per-minute=1.5', 'requests-per-minute must be an integer'],
  ['hunter2 requests-per-minute=1000000001', 'requests-per-minute must be'],
  ['hunter2 tokens-per-minute=0', 'must be an integer from 1 to 1000000000000'],
  ['hunter2 tokens-per-minute=1.5', 'tokens-per-minute must be an integer'],
  ['hunter2 tokens-per-minute=1000000000001', 'tokens-per-minute must be'],
  ['# nothing\n', 'has no key', 'bad-file'],
])('%j is refused, and no key is shown', async (text, part, code = 'bad-value') => {
  const error = await read(text).catch((thrown: unknown) => thrown as Error);
  const message = expect.stringContaining(part);
  expect(error).toMatchObject({ name: 'UsageError', code, message });
  expect((error as Error).message).not.toContain('hunter2');
});

test('others on the machine must not be able to read it', async () => {
  await expect(read('k', 0o644)).rejects.toThrow('is open to everybody: chmod 600 it');
  expect(await read('k', 0o640)).toHaveLength(1);
  await expect(readKeyFile(join(scratch, 'none'), DEFAULTS)).rejects.toThrow('ENOENT');
  await expect(readKeyFile(scratch, DEFAULTS)).rejects.toThrow('is not a regular file');
});
