import { mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fillChunk, openChunkFile } from './chunk-file.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chunk-file-'));
});
afterAll(() => rm(folder, { recursive: true }));

const BYTES = Uint8Array.from({ length: 20_001 }, (_, i) => (i * 31) ^ (i >> 8));
const how = { nowNs: () => 0, direct: false, decrypt: null };

async function openFile(name: string) {
  const path = join(folder, name);
  await writeFile(path, BYTES);
  const { mtimeNs } = await stat(path, { bigint: true });
  const bytes = BYTES.length;
  return openChunkFile({ path, name, bytes, changedNs: String(mtimeNs), sealed: null });
}

test.each([false, true])('any range, past the page cache: %s', async (direct) => {
  const file = await openFile(`ranges-${direct}`);
  for (const [position, length] of [
    [0, 20_001],
    [4096, 15_905],
    [8192, 4096],
    [1, 5000],
    [20_000, 1],
  ] as const) {
    const target = new Uint8Array(length);
    fillChunk(file, position, target, { ...how, direct });
    expect(target).toEqual(BYTES.subarray(position, position + length));
  }
  file.close();
});

test('a file that is cut short while it is open', async () => {
  const file = await openFile('short');
  await truncate(join(folder, 'short'), 6000);
  expect(() => fillChunk(file, 4096, new Uint8Array(4096), how)).toThrow(
    expect.objectContaining({ code: 'wrong-size', message: expect.stringContaining('6000') }),
  );
  expect(() => file.assertUnchanged()).toThrow(expect.objectContaining({ code: 'inconsistent' }));
  file.close();
});

test('an error of the disk says where', async () => {
  const file = await openFile('closed');
  file.close();
  expect(() => fillChunk(file, 4096, new Uint8Array(4096), how)).toThrow(
    expect.objectContaining({ code: 'unreadable', message: expect.stringContaining('at 4096') }),
  );
});
